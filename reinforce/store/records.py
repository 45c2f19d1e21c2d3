"""`units.json`: what each unit's marker said (fidelity, skipped rows), kept so that single units can be built again."""

from __future__ import annotations

from reinforce.errors import CorruptStoreError
from reinforce.store.canonical import Fields
from reinforce.store.codecs import TargetCodec
from reinforce.store.marker import UnitMarker, check_rows, unit_paths
from reinforce.store.schema import UNITS, Schema
from reinforce.store.verified import VerifiedObjects


def read_records(objects: VerifiedObjects, schema: Schema) -> list[UnitMarker]:
    """Every unit's record, its `objects` left empty. Raises CorruptStoreError where one does not fit the plan."""
    items = Fields(objects.read_json(UNITS), UNITS).items("units")
    if len(items) != schema.num_units:
        raise CorruptStoreError(f"{UNITS} has {len(items)} units, not {schema.num_units}")
    records = []
    for unit, item in enumerate(items):
        record = UnitMarker.from_json({**Fields(item, UNITS).members, "unit": unit, "objects": {}}, f"{UNITS}: {unit}")
        check_rows(schema, record, UNITS)
        records.append(record)
    return records


def restored_marker(objects: VerifiedObjects, schema: Schema, codec: TargetCodec, record: UnitMarker) -> UnitMarker:
    """The marker that the unit's commit wrote: its record, with the hashes that the manifest has for its objects."""
    paths = unit_paths(schema, codec, record.unit)
    return UnitMarker(
        unit=record.unit,
        objects={path: objects.manifest.objects[path] for path in paths},
        fidelity=record.fidelity,
        skipped=record.skipped,
        num_ok=record.num_ok,
    )
