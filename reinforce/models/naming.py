"""The name by which the catalog will know a new model: its folder's."""

from __future__ import annotations

from pathlib import Path

from reinforce import catalog
from reinforce.errors import UsageError
from reinforce.models.timm_encoder import is_architecture


def new_name(out: str) -> str:
    """Raises UsageError where registering it would hide an architecture or a fetched model of that name."""
    name = Path(out).resolve().name
    if is_architecture(name):
        raise UsageError(f"--out {out} would give the model the name of the architecture {name}: type another --out")
    known = {entry.name: entry.path for entry in catalog.entries("models")}.get(name)
    if known is not None and Path(known).resolve().is_relative_to(catalog.home().resolve()):
        raise UsageError(f"--out {out} would take the name of the fetched model {name}: type another --out")
    return name
