"""What computing a store took, a line a process and minute: beside the store, which is free of times and devices."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from reinforce.store import LocalObjects, Objects, canonical_json


def log_path(store: Path) -> Path:
    return Path(f"{store}.runs.jsonl")


def book(store: Path, plan: Mapping[str, Any], verb: str, records: Iterable[Mapping[str, Any]]) -> None:
    """Add lines; the plan's digest says of which store that lay here they are."""
    _append(store, [json.dumps({"verb": verb, "plan_digest": _digest(plan), **record}) for record in records])


def builds(store: Path, plan_digest: object, plan: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Records of the builds of a store with this plan, and of those that it grew from; of no other that lay there."""
    grown = plan.get("grown_from")
    before = [item.get("plan_digest") for item in grown if isinstance(item, dict)] if isinstance(grown, list) else []
    found = [record for record in map(_record, _lines(store)) if record.get("verb") == "build"]
    return [record for record in found
            if record.get("plan_digest", plan_digest) in (plan_digest, *before)]  # former versions named none


def inherit(store: Path, plan: Mapping[str, Any], source: Objects, source_plan: Mapping[str, Any]) -> None:
    """Add to a copy, or a part, what building the store took that it was taken from, where that lies on a disk."""
    if not isinstance(source, LocalObjects):
        return
    records = builds(source.root, _digest(source_plan), source_plan)
    lines = [json.dumps({**record, "plan_digest": _digest(plan)}) for record in records]
    known = set(_lines(store))
    _append(store, [line for line in lines if line not in known])


def join_logs(store: Path, others: Sequence[Path]) -> None:
    """Add the lines of other stores' logs that the store's own has not got."""
    known = set(_lines(store))
    _append(store, [line for line in dict.fromkeys(line for other in others for line in _lines(other))
                    if line not in known])  # fmt: skip


def _digest(plan: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(plan)).hexdigest()


def _record(line: str) -> dict[str, Any]:
    """{} for a line that a full disk or an editor has spoiled."""
    try:
        record = json.loads(line)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


def _lines(store: Path) -> list[str]:
    try:
        return log_path(store).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _append(store: Path, lines: Sequence[str]) -> None:
    """The store is good without them: what cannot be written is said, and no error."""
    path = log_path(store)
    try:
        _append_lines(path, lines)
    except OSError as error:
        click.echo(f"reinforce: {path} misses this run ({error.strerror}): the store is good without it", err=True)


def _append_lines(path: Path, lines: Sequence[str]) -> None:
    """Whole, or not at all. Raises OSError."""
    if not lines:
        return
    data = "".join(f"{line}\n" for line in lines).encode()
    with path.open("ab", buffering=0) as log:
        before = log.tell()
        if log.write(data) < len(data):
            log.truncate(before)
            raise OSError(errno.ENOSPC, "no space left on device")
