"""Metadata of groups and arrays, written anew where they are damaged: they follow from the plan."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Set
from functools import partial

from reinforce.errors import StoreError
from reinforce.store.canonical import parse_object
from reinforce.store.fixed import KEY_METADATA, PROBE_METADATA, key_metadata, planned_metadata, probe_metadata
from reinforce.store.manifest import Manifest
from reinforce.store.marker import ObjectDigest
from reinforce.store.objects import Objects, publish
from reinforce.store.schema import PLAN, Schema
from reinforce.store.verified import holds, read_calibration


def is_zarr_metadata(path: str) -> bool:
    """Of a group or an array."""
    return path.rpartition("/")[2] == "zarr.json"


def damaged_metadata(objects: Objects, manifest: Manifest) -> set[str]:
    """Every `zarr.json` that is not what the manifest lists: some small files, that are all read."""
    listed = manifest.objects.items()
    return {path for path, digest in listed if is_zarr_metadata(path) and not holds(objects, path, digest)}


def mend_metadata(objects: Objects, manifest: Manifest, damaged: Set[str]) -> list[str]:
    """Put those of the damaged `zarr.json` again that this version words as the manifest lists them; returns which.

    None where the plan or the calibration is damaged, too; those of keys and probes not where these are: nothing says
    then what they were.
    """
    known: dict[str, bytes] = {}
    if wanted := {path for path in damaged if is_zarr_metadata(path)}:
        with contextlib.suppress(StoreError, FileNotFoundError):
            known = _metadata(objects, wanted)
    mended = {path: known[path] for path in sorted(wanted & known.keys())
              if ObjectDigest.of(known[path]) == manifest.objects[path]}  # fmt: skip
    publish(objects, mended)
    return list(mended)


def _metadata(objects: Objects, wanted: Set[str]) -> dict[str, bytes]:
    """What a store of this plan may have; whoever asks compares it with a hash."""
    plan = parse_object(objects.get(PLAN), PLAN)
    schema = Schema.from_plan(plan)
    known = planned_metadata(schema, schema.codec(read_calibration(objects, schema)))
    of_a_length: dict[str, Callable[[], bytes]] = {KEY_METADATA: partial(key_metadata, objects, schema),
                                                   PROBE_METADATA: partial(probe_metadata, objects, plan)}  # fmt: skip
    for path in wanted & of_a_length.keys():
        with contextlib.suppress(StoreError, FileNotFoundError):
            known[path] = of_a_length[path]()
    return known
