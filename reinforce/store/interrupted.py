"""Which command goes on with a store that is not finished, as far as its objects can tell."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reinforce.errors import CorruptStoreError
from reinforce.remote import is_url
from reinforce.store.canonical import parse_object
from reinforce.store.marker import CLAIMS, MARKERS
from reinforce.store.objects import Objects
from reinforce.store.schema import PLAN
from reinforce.store.shapes import EMBEDDINGS


def growing_path(store: Path) -> Path:
    """Where a finished store grows to more views."""
    return Path(f"{store}.growing")


def finishing_command(objects: Objects) -> str:
    """What to type, such as "a 'reinforce build' with --resume". The place holds a plan and no manifest.

    Stores are pushed to URLs and built in folders, by units that are claimed and marked. Parts say what they are parts
    of. Copies of whole stores have neither claims nor marks; nor has a build that was only just begun.
    """
    if is_url(objects.name):
        return f"'reinforce push STORE {objects.name}'"
    plan: Mapping[str, Any] = {}
    with contextlib.suppress(CorruptStoreError):
        plan = parse_object(objects.get(PLAN), PLAN)
    pull, part_of = f"reinforce pull SOURCE --out {objects.name}", plan.get("part_of")
    if isinstance(part_of, Mapping):
        return f"'{pull}{_range('views', part_of)}{_range('shards', part_of)}'"
    build = f"a 'reinforce {'embed' if plan.get('target') == EMBEDDINGS else 'build'}' with --resume"
    if any(path.startswith((MARKERS, CLAIMS)) for path, _ in objects.list()):
        return build
    return f"'{pull}', or {build} where it was built"


def _range(name: str, part_of: Mapping[str, Any]) -> str:
    match part_of.get(name):
        case [int(first), int(stop)] if first < stop:
            return f" --{name} {first}:{stop}"
    return ""
