"""`reinforce list`: what the catalog knows, the paper's data and presets, and what of it is here."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from braceexpand import braceexpand

from reinforce import catalog
from reinforce.command import TalkOptions
from reinforce.paper import DATASETS, RECIPES

KINDS: tuple[catalog.Kind, ...] = ("models", "data")
NUM_COLUMNS = 100
"""Lines are no longer; --json has whole paths."""
EMPTY = {
    "models": "none: type tools/fetch_assets.py, train adapt or reinforce import-model",
    "data": 'none: type tools/fetch_assets.py, or add [data] NAME = "/path" to reinforce.toml',
}


@dataclass(frozen=True, kw_only=True)
class ListConfig(TalkOptions):
    pass


@dataclass(frozen=True)
class NameList:
    entries: list[dict[str, Any]]
    """What the catalog knows: kind, name, path, present."""
    paper_data: list[dict[str, Any]]
    """The paper's data: name, role, what, layout, path (None: the catalog knows no such name), present."""
    presets: list[dict[str, Any]]
    """name, verb, values (option -> default), source."""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        blocks = [*(self._entry_block(kind) for kind in KINDS), self._paper_block(), self._preset_block()]
        return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks)

    def _entry_block(self, kind: str) -> Iterator[str]:
        yield kind
        entries = [entry for entry in self.entries if entry["kind"] == kind]
        yield from _table([(e["name"], _state(e), _short(e["path"])) for e in entries] or [(EMPTY[kind],)])

    def _paper_block(self) -> Iterator[str]:
        yield "the paper's data, as its presets call them: where they are, or what is expected there"
        yield from _table(
            [
                (d["name"], _state(d), d["role"], d["what"], _short(d["path"]) if d["path"] else d["layout"])
                for d in self.paper_data
            ]
        )
        if absent := [d["name"] for d in self.paper_data if d["path"] is None]:
            yield f'  to make one known: [data] {absent[0]} = "/path" in reinforce.toml'

    def _preset_block(self) -> Iterator[str]:
        yield "presets, of --preset"
        verbs: dict[str, list[str]] = {}
        for preset in self.presets:
            verbs.setdefault(preset["name"], []).append(preset["verb"])
        names: dict[str, list[str]] = {}
        for name, users in verbs.items():
            names.setdefault(", ".join(users), []).append(name)
        yield from _wrapped(names)


def list_names(config: ListConfig) -> NameList:
    """List the models and data that the catalog knows, the paper's data and the presets."""
    entries = [
        {"kind": kind, "name": entry.name, "path": str(entry.path), "present": is_present(str(entry.path))}
        for kind in KINDS
        for entry in catalog.entries(kind)
    ]
    registered = {entry["name"]: entry for entry in entries if entry["kind"] == "data"}
    nowhere = {"path": None, "present": False}
    paper_data = [
        dataclasses.asdict(dataset) | {key: registered.get(dataset.name, nowhere)[key] for key in nowhere}
        for dataset in DATASETS
    ]
    presets = [
        {"name": one.name, "verb": one.verb, "values": dict(one.values), "source": one.source} for one in RECIPES
    ]
    return NameList(entries, paper_data, presets)


def is_present(location: str) -> bool:
    """Brace patterns are judged by their first file; other locations than paths are taken as present."""
    if "{" not in location or catalog.is_remote(location):
        return catalog.is_there(location)
    try:
        return Path(next(iter(braceexpand(location)))).exists()
    except ValueError:
        return False


def _state(entry: Mapping[str, Any]) -> str:
    """What is behind a URL is looked at only when it is used."""
    if catalog.is_remote(entry["path"] or ""):
        return "remote"
    return "here" if entry["present"] else "missing"


def _short(path: str) -> str:
    """A path below the working, the home or the user's folder by that folder's short name."""
    for folder, name in ((Path.cwd(), "."), (catalog.home(), "$REINFORCE_HOME"), (Path.home(), "~")):
        if path.startswith(f"{folder}/"):
            return name + path[len(str(folder)) :]
    return path


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Aligned columns; a line that would be too long loses the middle of its last cell."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = NUM_COLUMNS - sum(width + 2 for width in widths[:-1]) - 2
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)]
        yield "  " + "  ".join([*cells, _without_middle(row[-1], max(room, 20))])


def _without_middle(text: str, length: int) -> str:
    kept = (length - 3) // 2
    return text if len(text) <= length else f"{text[:kept]}...{text[-kept:]}"


def _wrapped(names: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Names behind what they are of, a line for each of their families."""
    width = max(map(len, names))
    for label, members in names.items():
        families: dict[str, list[str]] = {}
        for name in members:
            families.setdefault(name.partition("-")[0], []).append(name)
        for number, family in enumerate(families.values()):
            start = f"  {label if number == 0 else '':{width}}  "
            yield from textwrap.wrap(" ".join(family), NUM_COLUMNS, initial_indent=start,
                                     subsequent_indent=" " * len(start), break_on_hyphens=False)  # fmt: skip
