"""A unit's marker `units/<unit>.json`: it is there when all of the unit's objects are, and says what they must be."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reinforce.errors import CorruptStoreError
from reinforce.store.canonical import Fields, canonical_json, parse_object, sha256_hex
from reinforce.store.codecs import TargetCodec
from reinforce.store.fidelity import FidelityStats
from reinforce.store.objects import Objects, check_path, is_temporary, publish
from reinforce.store.schema import Schema

MARKERS, CLAIMS = "units/", "claims/"
_MARKER, _CLAIM = (re.compile(rf"{folder}[0-9]{{8}}{more}\.json")
                   for folder, more in ((MARKERS, ""), (CLAIMS, r"(\.[0-9]+)?")))  # fmt: skip


@dataclass(frozen=True)
class ObjectDigest:
    """Size and hash that an object must have."""

    num_bytes: int
    sha256: str

    @classmethod
    def of(cls, data: bytes) -> ObjectDigest:
        return cls(len(data), sha256_hex(data))

    def to_json(self) -> dict[str, Any]:
        return {"bytes": self.num_bytes, "sha256": self.sha256}

    @classmethod
    def from_json(cls, document: object, name: str) -> ObjectDigest:
        fields = Fields(document, name)
        return cls(fields.integer("bytes", 0, 1 << 48), fields.digest("sha256"))


@dataclass(frozen=True)
class SkippedRow:
    """A sample that gave no targets: its row inside the unit, its key, and why."""

    row_in_unit: int
    key: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class UnitMarker:
    """What a unit's build found out. `fidelity` counts views of ok rows; `num_ok` counts rows."""

    unit: int
    objects: Mapping[str, ObjectDigest]
    fidelity: FidelityStats
    skipped: tuple[SkippedRow, ...]
    num_ok: int

    def record(self) -> dict[str, Any]:
        """The part that a finished store keeps in `units.json`."""
        return {
            "fidelity": self.fidelity.to_json(),
            "num_ok": self.num_ok,
            "skipped": [[row.row_in_unit, row.key, row.reason] for row in self.skipped],
        }

    def to_json(self) -> dict[str, Any]:
        digests = {path: digest.to_json() for path, digest in self.objects.items()}
        return {"unit": self.unit, "objects": digests, **self.record()}

    @classmethod
    def from_json(cls, document: object, name: str) -> UnitMarker:
        """Inverse of `to_json`; members of later versions are ignored. Raises CorruptStoreError."""
        fields = Fields(document, name)
        digests = fields.inner("objects")
        return cls(
            unit=fields.integer("unit", 0, 1 << 31),
            objects={check_path(path): ObjectDigest.from_json(digests.members[path], name) for path in digests.members},
            fidelity=FidelityStats.from_json(fields.members.get("fidelity"), f"{name}: 'fidelity'"),
            skipped=tuple(_skipped(item, name) for item in fields.items("skipped")),
            num_ok=fields.integer("num_ok", 0, 1 << 31),
        )


def marker_path(unit: int) -> str:
    return f"{MARKERS}{unit:08d}.json"


def claim_path(unit: int, generation: int = 0) -> str:
    """Whose claim has the highest generation holds the unit; each took over from a dead one before it."""
    return f"{CLAIMS}{unit:08d}{f'.{generation}' if generation else ''}.json"


def is_marker(path: str) -> bool:
    return _MARKER.fullmatch(path) is not None


def is_leftover(path: str) -> bool:
    """Whether it is what making a store leaves until its end: a marker, a claim, what killed puts left."""
    return is_marker(path) or _CLAIM.fullmatch(path) is not None or is_temporary(path)


def commit_unit(
    objects: Objects,
    schema: Schema,
    unit: int,
    contents: Mapping[str, bytes],
    fidelity: FidelityStats,
    skipped: Sequence[SkippedRow] = (),
) -> UnitMarker:
    """Put a unit's objects, then its marker. The caller holds the unit's claim.

    Raises ValueError where `fidelity` does not count what is measured of the rows that were not skipped.
    """
    num_ok = schema.unit_size(unit) - len(skipped)
    expected = schema.num_measured(num_ok)
    if fidelity.count != expected:
        raise ValueError(f"fidelity counts {fidelity.count}, not the {expected} of {num_ok} rows")
    marker = UnitMarker(
        unit=unit,
        objects={path: ObjectDigest.of(data) for path, data in contents.items()},
        fidelity=fidelity,
        skipped=tuple(skipped),
        num_ok=num_ok,
    )
    publish(objects, contents)
    write_marker(objects, marker)
    return marker


def write_marker(objects: Objects, marker: UnitMarker) -> None:
    publish(objects, {marker_path(marker.unit): canonical_json(marker.to_json())})


def read_marker(objects: Objects, unit: int) -> UnitMarker | None:
    """None where the unit is not done. Raises CorruptStoreError for a marker that no build wrote."""
    path = marker_path(unit)
    try:
        data = objects.get(path)
    except FileNotFoundError:
        return None
    marker = UnitMarker.from_json(parse_object(data, path), path)
    if marker.unit != unit:
        raise CorruptStoreError(f"{path} is the marker of unit {marker.unit}")
    return marker


def unit_paths(schema: Schema, codec: TargetCodec, unit: int) -> list[str]:
    """The objects of a unit: one of every target array."""
    return [array.object_path(unit) for array in schema.target_arrays(codec).values()]


def check_rows(schema: Schema, marker: UnitMarker, name: str) -> None:
    """Raises CorruptStoreError where kept and skipped rows are not the unit's; `name` is for the message."""
    rows, size = {row.row_in_unit for row in marker.skipped}, schema.unit_size(marker.unit)
    if len(rows) != len(marker.skipped) or any(row >= size for row in rows) or marker.num_ok != size - len(rows):
        raise CorruptStoreError(f"{name}: the rows of unit {marker.unit} do not add up")


def _skipped(item: object, name: str) -> SkippedRow:
    if not isinstance(item, list) or len(item) != 3:
        raise CorruptStoreError(f"{name}: 'skipped' is not a list of [row, key, reason]")
    fields = Fields(dict(zip(("row", "key", "reason"), item, strict=True)), f"{name}: 'skipped'")
    return SkippedRow(fields.integer("row", 0, 1 << 31), fields.text("key"), fields.text("reason"))
