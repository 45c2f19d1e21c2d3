"""From committed units to a finished store. Every step may be repeated, so a kill at any point costs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reinforce.counting import counted
from reinforce.errors import (
    CorruptStoreError,
    MissingStoreError,
    OutputExistsError,
    StoreError,
    UnfinishedStoreError,
)
from reinforce.store.canonical import canonical_json, one_line
from reinforce.store.card import card_objects
from reinforce.store.codecs import TargetCodec
from reinforce.store.fidelity import FidelityStats
from reinforce.store.fixed import (
    KEY_METADATA,
    PROBE_GROUP,
    PROBE_METADATA,
    array_objects,
    fixed_paths,
    key_metadata,
    planned_metadata,
    probe_metadata,
)
from reinforce.store.layout import ArrayLayout
from reinforce.store.manifest import Manifest, read_manifest
from reinforce.store.marker import CLAIMS, MARKERS, ObjectDigest, UnitMarker, is_leftover, read_marker, unit_paths
from reinforce.store.objects import Objects, is_hidden, publish
from reinforce.store.schema import MANIFEST, PLAN, PROBES, UNITS, Schema
from reinforce.store.verified import hash_object, read_calibration
from reinforce.store.writer import encode_array


def finalize(objects: Objects, plan: Mapping[str, Any]) -> Manifest:
    """Write rows' states, units' records, card and manifest; remove what else is in the store's folders.

    What lies beside them is somebody's: it stays, and the store is not finished while it is there. Two processes may
    do this at once: the one that loses a race finds the other's manifest and is content with it.
    Raises UnfinishedStoreError naming a unit that is not done; StoreError where `plan` is not the store's or a
    committed object is gone; OutputExistsError naming what is no part of the store.
    """
    if not objects.exists(PLAN):
        raise MissingStoreError(f"{objects.name} has no plan: type reinforce build first")
    if objects.get(PLAN) != canonical_json(plan):
        raise StoreError(f"{objects.name} holds another plan: type --overwrite or another --out")
    schema = Schema.from_plan(plan)
    if not objects.exists(MANIFEST):
        markers = _read_markers(objects, schema)
        try:
            if markers is not None:
                _complete(objects, plan, schema, markers)
        except StoreError:
            if not objects.exists(MANIFEST):
                raise
    manifest = read_manifest(objects)
    for path in _unlisted(objects, manifest.objects):
        if is_leftover(path) or _is_own(path, manifest.objects):
            objects.delete(path)
    return manifest


def _remove_others(objects: Objects, listed: Mapping[str, ObjectDigest]) -> None:
    """Delete what no reader would open the store with, but for leftovers, of which others may still be writing some.
    Raises OutputExistsError where something lies beside the store's folders."""
    others = [path for path in _unlisted(objects, listed) if not is_leftover(path)]
    foreign = min((path for path in others if not (_is_own(path, listed) or is_hidden(path))), default=None)
    if foreign is not None:
        raise OutputExistsError(objects.name, f"it holds other things, such as {one_line(foreign)}: move them "
                                "elsewhere, then type the same command with --resume")  # fmt: skip
    for path in others:
        if _is_own(path, listed):
            objects.delete(path)


def _unlisted(objects: Objects, listed: Mapping[str, ObjectDigest]) -> list[str]:
    return sorted(path for path, _ in objects.list() if path not in listed and path != MANIFEST)


def _is_own(path: str, listed: Mapping[str, ObjectDigest]) -> bool:
    """Whether it lies, not hidden, in a folder that the store has."""
    folders = {own.split("/")[0] for own in listed if "/" in own} | {MARKERS.rstrip("/"), CLAIMS.rstrip("/")}
    return "/" in path and path.split("/")[0] in folders and not is_hidden(path)


def _read_markers(objects: Objects, schema: Schema) -> list[UnitMarker] | None:
    """Every unit's marker in order; None where another process finished the store meanwhile."""
    markers, missing = [], []
    for unit in range(schema.num_units):
        marker = read_marker(objects, unit)
        if marker is None:
            missing.append(unit)
        else:
            markers.append(marker)
    if not missing:
        return markers
    if objects.exists(MANIFEST):
        return None
    raise UnfinishedStoreError(
        f"{objects.name}: {len(missing)} of {counted(schema.num_units, 'unit')} not done, the first is {missing[0]}: "
        "type reinforce build with --resume"
    )


def _complete(objects: Objects, plan: Mapping[str, Any], schema: Schema, markers: Sequence[UnitMarker]) -> None:
    state = schema.sample_layouts(1)["state"]
    skipped = {marker.unit: [row.row_in_unit for row in marker.skipped] for marker in markers}
    publish(objects, encode_array(state, schema.states(skipped)))
    publish(objects, {UNITS: canonical_json({"format": 1, "units": [marker.record() for marker in markers]})})
    codec = schema.codec(read_calibration(objects, schema))
    publish(objects, _metadata(objects, plan, schema, codec))
    manifest = build_manifest(schema, _listed_objects(objects, schema, codec, markers), markers)
    card = card_objects(plan, codec, manifest)
    publish(objects, card)
    manifest = manifest.listing_also(card)
    _remove_others(objects, manifest.objects)
    publish(objects, {MANIFEST: manifest.to_bytes()})


def _metadata(objects: Objects, plan: Mapping[str, Any], schema: Schema, codec: TargetCodec) -> dict[str, bytes]:
    """Metadata as they were written before the first unit: no hash has bound them since."""
    metadata = planned_metadata(schema, codec) | {KEY_METADATA: key_metadata(objects, schema)}
    if not objects.exists(PROBES):
        del metadata[PROBE_GROUP]
        return metadata
    try:
        pixels = ArrayLayout.parse("probes/pixels", objects.get(PROBE_METADATA)).metadata()
    except (CorruptStoreError, FileNotFoundError):
        pixels = probe_metadata(objects, plan)
    return metadata | {PROBE_METADATA: pixels}


def build_manifest(schema: Schema, listed: Mapping[str, ObjectDigest], markers: Sequence[UnitMarker]) -> Manifest:
    """The manifest of a store with these objects, which has no card yet. A function of its arguments alone."""
    fidelity = FidelityStats.merge_all((marker.fidelity for marker in markers), schema.measure)
    num_ok = sum(marker.num_ok for marker in markers)
    skipped = [
        {"row": marker.unit * schema.unit_rows + row.row_in_unit, "key": row.key, "reason": row.reason}
        for marker in markers
        for row in marker.skipped
    ]
    coded = [path for path in listed if path.startswith(("targets/", "codec/")) and not path.endswith("/zarr.json")]
    target_bytes = sum(listed[path].num_bytes for path in coded)
    return Manifest(
        plan_digest=listed[PLAN].sha256,
        objects=dict(listed),
        summary={
            "samples": schema.num_samples,
            "views": schema.num_views,
            **schema.width_json,
            "target": schema.target,
            "skipped_count": len(skipped),
        },
        skipped=tuple(skipped),
        certificate={
            **fidelity.certified(),
            "bytes_per_view": target_bytes / max(1, num_ok * schema.num_views),
            "codec": schema.codec_name,
            **({} if schema.measured_views == schema.num_views else {"measured_views": schema.measured_views}),
        },
    )


def _listed_objects(objects: Objects, schema: Schema, codec: TargetCodec,
                    markers: Sequence[UnitMarker]) -> dict[str, ObjectDigest]:  # fmt: skip
    """What the finished store holds: the plan's objects, hashed now, and the units', as their markers say."""
    sizes = dict(objects.list())
    states = array_objects(schema.sample_layouts(1)["state"])
    listed = {}
    for path in {PLAN, UNITS, *fixed_paths(objects, schema, codec), *states}:
        if path not in sizes:
            raise StoreError(f"{objects.name}: {path} is gone: type reinforce build with --resume")
        listed[path] = ObjectDigest(sizes[path], hash_object(objects, path))
    for marker in markers:
        if set(marker.objects) != set(unit_paths(schema, codec, marker.unit)):
            raise CorruptStoreError(f"the marker of unit {marker.unit} lists objects of another plan")
        for path, digest in marker.objects.items():
            if sizes.get(path) != digest.num_bytes:
                raise CorruptStoreError(f"{path} is gone or cut short since unit {marker.unit} was committed")
            listed[path] = digest
    return listed
