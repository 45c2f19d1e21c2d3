"""Metadata of groups and arrays, written anew where they are damaged: they follow from the plan."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Set

from reinforce.errors import StoreError
from reinforce.store.canonical import Fields
from reinforce.store.fixed import planned_layouts
from reinforce.store.layout import group_metadata, whole_layout
from reinforce.store.manifest import Manifest
from reinforce.store.marker import ObjectDigest
from reinforce.store.objects import Objects, publish
from reinforce.store.schema import PLAN, Schema
from reinforce.store.verified import VerifiedObjects, read_calibration

MOST_KEPT_PROBES = 256
"""How many views are kept is written nowhere but in the metadata itself: each number is tried."""
MAX_VIEW_PX = 4096
_KEY_BYTES, _PROBE_PIXELS = "samples/key_bytes/zarr.json", "probes/pixels/zarr.json"


def mend_metadata(objects: Objects, manifest: Manifest, damaged: Set[str]) -> list[str]:
    """Put those of the damaged `zarr.json` again that this version words as the manifest lists them; returns which.

    None where the plan or the calibration is damaged, too: nothing says then what they were.
    """
    wanted = {path for path in damaged if path.rpartition("/")[2] == "zarr.json"}
    mended: dict[str, bytes] = {}
    if wanted:
        with contextlib.suppress(StoreError, FileNotFoundError):
            for path, data in _metadata(VerifiedObjects(objects, manifest), wanted):
                if path in wanted and ObjectDigest.of(data) == manifest.objects[path]:
                    mended[path] = data
    publish(objects, mended)
    return sorted(mended)


def _metadata(verified: VerifiedObjects, wanted: Set[str]) -> Iterator[tuple[str, bytes]]:
    """(path, bytes) that a `zarr.json` of this plan's store may have. Raises StoreError where that is damaged."""
    plan = verified.read_json(PLAN)
    schema = Schema.from_plan(plan)
    codec = schema.codec(read_calibration(verified.objects, schema))
    yield from schema.group_objects(codec).items()
    yield "probes/zarr.json", group_metadata({})
    layouts = planned_layouts(schema, codec, _num_key_bytes(verified, schema) if _KEY_BYTES in wanted else 1)
    if _PROBE_PIXELS in wanted:
        size = Fields(plan, PLAN).inner("policy").integer("size_px", 1, MAX_VIEW_PX)
        shapes = ((kept, size, size, 3) for kept in range(1, MOST_KEPT_PROBES + 1))
        layouts += [whole_layout("probes/pixels", "uint8", shape) for shape in shapes]
    yield from ((layout.metadata_path, layout.metadata()) for layout in layouts)


def _num_key_bytes(verified: VerifiedObjects, schema: Schema) -> int:
    """Where the last key ends."""
    offsets = schema.sample_layouts(1)["key_offsets"]
    return int(verified.column(offsets, schema.num_samples, schema.num_samples + 1)[0])
