"""Processors that this process may use: those it is allowed on, and the time that its control groups grant."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """At least 1. A share of time counts in whole processors: `docker run --cpus 2.5` gives 3."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, share_of_time(CGROUPS, OWN_GROUPS))))


def share_of_time(cgroups: Path, own_groups: Path) -> float:
    """Processors' worth of time that control groups grant (version 2's cpu.max, version 1's quota); inf: all.

    The least of the group that the process is in and of those around it. A container sees its own as the root.
    """
    return min(map(_granted, _folders(cgroups, own_groups)), default=math.inf)


def _folders(cgroups: Path, own_groups: Path) -> Iterator[Path]:
    """Of each hierarchy that shares out time the root, and the folders down to the process's own group."""
    for root, group in [(cgroups, ""), (cgroups / "cpu", ""), *_own(cgroups, own_groups)]:
        parts = Path(group.lstrip("/")).parts
        yield from (root.joinpath(*parts[:depth]) for depth in range(len(parts) + 1))


def _own(cgroups: Path, own_groups: Path) -> Iterator[tuple[Path, str]]:
    """(root, group) by lines such as "0::/user.slice" of version 2 and "4:cpu,cpuacct:/docker/1" of version 1."""
    for line in _read(own_groups).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:
            yield cgroups, group
        elif "cpu" in controllers.split(","):
            yield cgroups / "cpu", group


def _granted(folder: Path) -> float:
    text = _read(folder / "cpu.max") or " ".join(_read(folder / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    try:
        quota, period = map(int, text.split())
    except ValueError:  # "max 100000", or nothing to read
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
