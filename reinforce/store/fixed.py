"""What a plan fixes of its store before any unit: which objects, and whether their metadata say what the plan says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from reinforce.store.canonical import parse_object
from reinforce.store.codecs import TargetCodec
from reinforce.store.layout import ArrayLayout
from reinforce.store.objects import Objects
from reinforce.store.schema import PROBES, Schema


def planned_layouts(schema: Schema, codec: TargetCodec, num_key_bytes: int) -> list[ArrayLayout]:
    """Every array of a store but its probes'."""
    layouts = [*schema.sample_layouts(num_key_bytes).values(), *schema.calibration_layouts().values()]
    return layouts + [array.layout for array in schema.target_arrays(codec).values()]


def fixed_paths(objects: Objects, schema: Schema, codec: TargetCodec) -> list[str]:
    """Every object but the plan that is there before the first unit, the fingerprint last.

    Raises FileNotFoundError where `create_store` has not ended, CorruptStoreError.
    """
    key_bytes = ArrayLayout.parse("samples/key_bytes", objects.get("samples/key_bytes/zarr.json"))
    paths = list(schema.group_objects(codec))
    for layout in planned_layouts(schema, codec, key_bytes.shape[0]):
        is_fixed = layout.path.startswith(("samples/", "codec/")) and layout.path != "samples/state"
        paths += array_objects(layout) if is_fixed else [layout.metadata_path]
    if objects.exists(PROBES):
        pixels = ArrayLayout.parse("probes/pixels", objects.get("probes/pixels/zarr.json"))
        paths += ["probes/zarr.json", *array_objects(pixels), PROBES]
    return paths


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
        if ArrayLayout.parse(layout.path, read(layout.metadata_path)) != layout:
            yield layout.metadata_path, "describes another array than the plan"


def _says(found: Any, expected: Any) -> bool:
    """Whether `found` has all that `expected` has, but for the formula, which is for people; it may have more."""
    if isinstance(expected, dict):
        compared = expected.keys() - {"formula"}
        return isinstance(found, dict) and all(key in found and _says(found[key], expected[key]) for key in compared)
    return bool(found == expected)
