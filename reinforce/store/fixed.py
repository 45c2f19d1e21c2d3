"""What a plan fixes of its store before any unit: which objects, and whether their metadata say what the plan says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from reinforce.errors import CorruptStoreError
from reinforce.store.canonical import Fields, one_line, parse_object
from reinforce.store.codecs import TargetCodec
from reinforce.store.layout import ArrayLayout, group_metadata, whole_layout
from reinforce.store.objects import Objects
from reinforce.store.schema import PLAN, PROBES, Schema
from reinforce.store.shard import LONGEST_FRAME_HEADER, frame_content_bytes
from reinforce.store.unfinished import read_column

PROBE_GROUP, PROBE_METADATA, PROBE_PIXELS = "probes/zarr.json", "probes/pixels/zarr.json", "probes/pixels/c/0/0/0/0"
KEY_METADATA = "samples/key_bytes/zarr.json"
MAX_VIEW_PX = 1 << 16


def planned_layouts(schema: Schema, codec: TargetCodec, num_key_bytes: int) -> list[ArrayLayout]:
    """Every array of a store but its probes'."""
    layouts = [*schema.sample_layouts(num_key_bytes).values(), *schema.calibration_layouts().values()]
    return layouts + [array.layout for array in schema.target_arrays(codec).values()]


def fixed_paths(objects: Objects, schema: Schema, codec: TargetCodec) -> list[str]:
    """Every object but the plan that is there before the first unit, the fingerprint last.

    Raises FileNotFoundError where `create_store` has not ended, CorruptStoreError.
    """
    paths = list(schema.group_objects(codec))
    for layout in planned_layouts(schema, codec, num_key_bytes(objects, schema)):
        is_fixed = layout.path.startswith(("samples/", "codec/")) and layout.path != "samples/state"
        paths += array_objects(layout) if is_fixed else [layout.metadata_path]
    if objects.exists(PROBES):
        paths += [PROBE_GROUP, PROBE_METADATA, PROBE_PIXELS, PROBES]
    return paths


def num_key_bytes(objects: Objects, schema: Schema) -> int:
    """Where the last key ends: the length of `samples/key_bytes`. Raises FileNotFoundError, CorruptStoreError."""
    return int(read_column(objects, schema.sample_layouts(1)["key_offsets"])[-1])


def planned_metadata(schema: Schema, codec: TargetCodec) -> dict[str, bytes]:
    """Every `zarr.json` that the plan alone decides: all but those of keys and probes' pixels, which have a length."""
    arrays = [layout for layout in planned_layouts(schema, codec, 1) if layout.metadata_path != KEY_METADATA]
    return {
        **schema.group_objects(codec),
        **{layout.metadata_path: layout.metadata() for layout in arrays},
        PROBE_GROUP: group_metadata({}),
    }


def key_metadata(objects: Objects, schema: Schema) -> bytes:
    """Raises FileNotFoundError, CorruptStoreError."""
    return schema.sample_layouts(num_key_bytes(objects, schema))["key_bytes"].metadata()


def probe_metadata(objects: Objects, plan: Mapping[str, Any]) -> bytes:
    """As many views of the policy's size as the pixels' one frame says. Raises FileNotFoundError, CorruptStoreError."""
    policy = Fields(plan, PLAN).inner("policy")
    side = (policy.inner("whole") if "whole" in policy.members else policy).integer("size_px", 1, MAX_VIEW_PX)
    num_bytes = frame_content_bytes(objects.get_range(PROBE_PIXELS, 0, LONGEST_FRAME_HEADER)) or 0
    kept, rest = divmod(num_bytes, 3 * side * side)
    if rest or not kept:
        raise CorruptStoreError(f"{PROBE_PIXELS} does not hold views of {side} px")
    return whole_layout("probes/pixels", "uint8", (kept, side, side, 3)).metadata()


def array_objects(layout: ArrayLayout) -> list[str]:
    return [layout.metadata_path, *(layout.object_path(*shard) for shard in layout.shards())]


def wrong_metadata(
    read: Callable[[str], bytes], schema: Schema, codec: TargetCodec, layouts: Sequence[ArrayLayout]
) -> Iterator[tuple[str, str]]:
    """(path, reason) of what any Zarr reader would believe, and the plan does not say: the two would read different
    values."""
    for path, expected in schema.group_objects(codec).items():
        if not _says(parse_object(read(path), path, canonical=False), json.loads(expected)):
            yield path, "its attributes are not those of the plan"
    for layout in layouts:
        if reason := _unlike(layout, read(layout.metadata_path)):
            yield layout.metadata_path, reason


def _unlike(layout: ArrayLayout, metadata: bytes) -> str | None:
    try:
        found = ArrayLayout.parse(layout.path, metadata)
    except CorruptStoreError as error:
        return one_line(error)
    return None if found == layout else "describes another array than the plan"


def _says(found: Any, expected: Any) -> bool:
    """Whether `found` has all that `expected` has, but for the formula, which is for people; it may have more."""
    if isinstance(expected, dict):
        compared = expected.keys() - {"formula"}
        return isinstance(found, dict) and all(key in found and _says(found[key], expected[key]) for key in compared)
    return bool(found == expected)
