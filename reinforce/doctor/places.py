"""Disk space, names of the catalog, and what was left unfinished in the working folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote

from reinforce import catalog
from reinforce.doctor.finding import Finding
from reinforce.errors import UsageError
from reinforce.list_names import KINDS, is_present
from reinforce.progress import human_bytes

LEAST_FREE_BYTES = 1 << 30
MODEL_FILE = "model.json"


def disk_findings() -> Iterator[Finding]:
    for label, folder, elsewhere in (
        ("$REINFORCE_HOME", catalog.home(), "set REINFORCE_HOME to a folder elsewhere"),
        ("the working folder", Path.cwd(), "work elsewhere, or type --out"),
    ):
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        what = f"{label} ({folder}): {human_bytes(free)} free"
        if not (existing.is_dir() and os.access(existing, os.W_OK)):
            yield Finding("disk", "broken", f"{label} ({folder}) cannot be written", elsewhere)
        elif free < LEAST_FREE_BYTES:
            yield Finding("disk", "broken", what, f"free some, or {elsewhere}")
        else:
            yield Finding("disk", "ok", what)


def catalog_findings() -> Iterator[Finding]:
    try:
        for kind in KINDS:
            yield from _entry_findings(kind)
        yield from _location_findings()
    except UsageError as error:
        yield Finding("catalog", "broken", str(error), "correct the file")


def _entry_findings(kind: catalog.Kind) -> Iterator[Finding]:
    entries = catalog.entries(kind)
    faults = [(entry, fault) for entry in entries if (fault := _fault(kind, entry))]
    for entry, fault in faults:
        yield Finding("catalog", "broken", f"[{kind}] {entry.name}: {fault}",
                      f"bring it back, or correct or remove the entry in {entry.origin_file}")  # fmt: skip
    good = [_shown(entry) for entry in entries if entry not in [entry for entry, _ in faults]]
    if good or not faults:
        yield Finding("catalog", "ok", f"{kind}: {', '.join(good) or 'none yet'}")


def _shown(entry: catalog.Entry) -> str:
    return f"{entry.name} (remote: not looked at)" if catalog.is_remote(str(entry.path)) else entry.name


def _fault(kind: catalog.Kind, entry: catalog.Entry) -> str | None:
    if entry.path is None:
        return None if kind == "models" else "the entry has no path"
    if not is_present(entry.path):
        return f"{entry.path} is not there"
    if kind == "models" and Path(entry.path).is_dir() and not (Path(entry.path) / MODEL_FILE).is_file():
        return f"{entry.path} is no model directory ({MODEL_FILE} is missing)"
    return None


def _location_findings() -> Iterator[Finding]:
    for location in sorted(set(catalog.locations().values())):
        if not is_present(location):
            yield Finding("catalog", "note", f"a transfer set of a store was at {location}, which is gone",
                          "type --transfer with its new place")  # fmt: skip


def left_findings(folder: Path) -> Iterator[Finding]:
    """Unfinished stores and runs of the working folder and of its runs/."""
    plans = [plan for plan in sorted(folder.glob("*.zarr/plan.json")) if not plan.with_name("manifest.json").exists()]
    for plan in plans:
        path = plan.parent.relative_to(folder)
        yield _unfinished("store", path, _merging(plan, plans))
    for config in sorted([*folder.glob("*/config.json"), *folder.glob("runs/*/config.json")]):
        if (config.parent / "checkpoints").is_dir() and not config.with_name("result.json").exists():
            yield _unfinished("run", config.parent.relative_to(folder))


def _unfinished(kind: str, path: Path, other_way: str = "") -> Finding:
    what = f"{path} is an unfinished {kind}"
    return Finding("left", "note", what, f"its command again with --resume, {other_way}or remove {quote(str(path))}")


def _merging(plan: Path, plans: Sequence[Path]) -> str:
    """What else to type of a part of a build with --shard: parts are of equal plans, or have a whole share's units."""
    content = _content(plan)
    parts = [one.parent.name for one in plans if one == plan or (content and _content(one) == content)]
    if len(parts) == 1 and not _is_whole_share(plan):
        return ""
    names = " ".join(map(quote, parts)) if len(parts) > 1 else f"{quote(*parts)} OTHER_PARTS"
    return f"or, of parts by --shard, reinforce merge {names} --out STORE, "


def _content(plan: Path) -> bytes:
    """Empty where it cannot be read."""
    with contextlib.suppress(OSError):
        return plan.read_bytes()
    return b""


def _is_whole_share(plan: Path) -> bool:
    """Whether the units that are done are every nth of the plan's, two at least."""
    try:
        num_units = len(json.loads(_content(plan))["units"])
        done = sorted(int(marker.stem) for marker in plan.parent.glob("units/*.json"))
    except (ValueError, TypeError, KeyError):
        return False
    step = done[1] - done[0] if len(done) > 1 else 0
    return step > 1 and done[0] < step and done == list(range(done[0], num_units, step))
