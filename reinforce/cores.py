"""Processors that this process may use: those it is allowed on, and the time that its container is given."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """At least 1. A container's share of time counts in whole processors: `docker run --cpus 2.5` gives 3."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(allowed, share_of_time(CGROUPS))))


def share_of_time(cgroups: Path) -> float:
    """Processors' worth of time that the control group grants (version 2's cpu.max, version 1's quota); inf: all."""
    text = _read(cgroups / "cpu.max") or " ".join(_read(cgroups / "cpu" / f"cpu.cfs_{name}_us")
                                                  for name in ("quota", "period"))  # fmt: skip
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
