"""`reinforce list`: what the catalog knows, and whether it is here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from braceexpand import braceexpand

from reinforce import catalog
from reinforce.command import TalkOptions

KINDS: tuple[catalog.Kind, ...] = ("models", "data")


@dataclass(frozen=True, kw_only=True)
class ListConfig(TalkOptions):
    pass


@dataclass(frozen=True)
class NameList:
    entries: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        return {"entries": self.entries}

    def __str__(self) -> str:
        if not self.entries:
            return 'the catalog is empty: type tools/fetch_assets.py, or add [data] NAME = "/path" to reinforce.toml'
        width = max(len(entry["name"]) for entry in self.entries)
        return "\n".join(
            f"{entry['kind']:6} {entry['name']:{width}}  {entry['path']}{'' if entry['present'] else '  (missing)'}"
            for entry in self.entries
        )


def list_names(config: ListConfig) -> NameList:
    """List the models and data that the catalog knows."""
    entries = [
        {"kind": kind, "name": entry.name, "path": str(entry.path), "present": _is_present(str(entry.path))}
        for kind in KINDS
        for entry in catalog.entries(kind)
    ]
    return NameList(entries)


def _is_present(location: str) -> bool:
    """Brace patterns are judged by their first file; other locations than paths are taken as present."""
    if "{" not in location:
        return catalog.is_there(location)
    try:
        return Path(next(iter(braceexpand(location)))).exists()
    except ValueError:
        return False
