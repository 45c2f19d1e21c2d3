"""Making a damaged store buildable again: only what is bad is dropped, so that `build --resume` computes just that."""

from __future__ import annotations

from collections.abc import Sequence

from reinforce.counting import counted
from reinforce.errors import StoreError
from reinforce.store.card import card_objects
from reinforce.store.inventory import is_of_units
from reinforce.store.manifest import Manifest
from reinforce.store.marker import MARKERS, ObjectDigest, marker_path, write_marker
from reinforce.store.metadata_repair import damaged_metadata, is_zarr_metadata, mend_metadata
from reinforce.store.objects import Objects, publish
from reinforce.store.reader import Store
from reinforce.store.records import read_records, restored_marker
from reinforce.store.schema import CARD, MANIFEST
from reinforce.store.verified import DamagedObjectError

REBUILD = "pull it again with --repair or build it again with --overwrite"


def repair_store(objects: Objects, manifest: Manifest, bad: set[str]) -> list[str]:
    """Repair what `verify` found at these paths; returns what was done, or why nothing could be, one line each.

    Extra objects are deleted. The card and metadata are written anew. Bad units lose their objects, good ones get their
    markers back, and the manifest goes: the store is then an unfinished one. May be killed at any point and repeated.
    Damage elsewhere (plan, samples, calibration, records) drops nothing and is reported: only a new pull or build mends
    it.
    """
    extras = sorted(path for path in bad if path not in manifest.objects)
    damaged = {path for path in bad if path in manifest.objects and path not in CARD}
    if damaged:
        damaged |= damaged_metadata(objects, manifest)
    mended = mend_metadata(objects, manifest, damaged)
    damaged.difference_update(mended)
    card = bad.intersection(CARD, manifest.objects)
    # A marker may be an extra left by a killed finalize: it was just checked, and makes its good unit count.
    unwanted = [path for path in extras if not (damaged and path.startswith(MARKERS))]
    done = [f"wrote {path} anew" for path in mended]
    try:
        if damaged:
            done += _drop_units(objects, manifest, damaged, unwanted)
        elif card:  # else the end of the build writes it
            done += _mend_card(objects, manifest, card)
    except StoreError as error:
        why = f"{error.path}: {error.reason}" if isinstance(error, DamagedObjectError) else error
        return [*done, f"cannot be repaired here, {REBUILD}: {why}"]
    if not damaged:
        _delete(objects, unwanted)
    return done + ([f"deleted {counted(len(extras), 'extra object')}"] if extras else [])


def _mend_card(objects: Objects, manifest: Manifest, damaged: set[str]) -> list[str]:
    """Put these objects of the card again, where this version words them as they were; one line each."""
    store = Store(objects, manifest)
    card = card_objects(store.plan, store.codec, manifest)
    lines = []
    for path in sorted(damaged):
        if ObjectDigest.of(card[path]) == manifest.objects[path]:
            publish(objects, {path: card[path]})
            lines.append(f"wrote {path} anew")
        else:
            lines.append(f"{path} is of another version: pull it again, or leave it, as no reader of targets needs it")
    return lines


def _delete(objects: Objects, paths: Sequence[str]) -> None:
    for path in paths:
        objects.delete(path)


def _drop_units(objects: Objects, manifest: Manifest, damaged: set[str], unwanted: Sequence[str]) -> list[str]:
    """What is unwanted goes before the manifest: the end of a build stops at what lies beside its folders."""
    if beyond := sorted((is_zarr_metadata(path), path) for path in damaged if not is_of_units(path)):
        raise StoreError(f"{beyond[0][1]} is damaged, which no unit can be computed without")
    store = Store(objects, manifest)
    unit_of = {
        array.object_path(unit): unit for unit in range(store.num_units) for array in store.target_arrays.values()
    }
    records = read_records(store.objects, store.schema)
    bad_units = {unit_of[path] for path in damaged if path in unit_of}
    for record in records:
        if record.unit in bad_units:
            objects.delete(marker_path(record.unit))
        else:
            write_marker(objects, restored_marker(store.objects, store.schema, store.codec, record))
    _delete(objects, [*unwanted, MANIFEST, *sorted(damaged)])
    numbers = ", ".join(map(str, sorted(bad_units)[:10])) + (", ..." if len(bad_units) > 10 else "")
    units = counted(store.num_units, "unit")
    dropped = f"dropped {len(bad_units)} of {units} ({numbers})" if bad_units else "dropped the states"
    return [f"{dropped}: type again what made the store, 'reinforce build' with --resume or 'reinforce pull'"]
