"""What computing a store took, a line a process and minute: beside the store, which is free of times and devices."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from reinforce.store import canonical_json


def log_path(store: Path) -> Path:
    return Path(f"{store}.runs.jsonl")


def book(store: Path, plan: Mapping[str, Any], verb: str, records: Iterable[Mapping[str, Any]]) -> None:
    """Add lines; the plan's digest says of which store that lay here they are."""
    digest = hashlib.sha256(canonical_json(plan)).hexdigest()
    _append(store, [json.dumps({"verb": verb, "plan_digest": digest, **record}) for record in records])


def join_logs(store: Path, others: Sequence[Path]) -> None:
    """Add the lines of other stores' logs that the store's own has not got."""
    known = set(_lines(store))
    _append(store, [line for line in dict.fromkeys(line for other in others for line in _lines(other))
                    if line not in known])  # fmt: skip


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
