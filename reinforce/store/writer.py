"""Making a store's objects: what a plan fixes at the start, and one unit at a time. Nothing here lasts but `put_new`.

V = views, U = rows of a unit, C = classes, K = kept probe views, S = size_px.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from types import EllipsisType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.errors import StoreError
from reinforce.store.canonical import canonical_json
from reinforce.store.codecs import TargetCodec, array_sha256, decode_finite
from reinforce.store.codecs.base import Arrays
from reinforce.store.layout import ArrayLayout, group_metadata, whole_layout
from reinforce.store.objects import ObjectExistsError, Objects, publish
from reinforce.store.schema import PLAN, PROBES, Schema, TargetArray
from reinforce.store.shard import chunk_range, decode_chunks, in_index_order, index_bytes, parse_index


@dataclass(frozen=True, kw_only=True)
class SampleColumns:
    """The frozen listing as a store keeps it, in listing order; N samples. Sizes are in px, 0 = header unreadable."""

    keys: Sequence[str]
    sha64: NDArray[np.uint64]
    width: NDArray[np.int32]
    height: NDArray[np.int32]

    def __post_init__(self) -> None:
        lengths = {len(self.keys), len(self.sha64), len(self.width), len(self.height)}
        if len(lengths) != 1:
            raise ValueError(f"columns of different lengths: {sorted(lengths)}")

    def arrays(self) -> dict[str, NDArray[Any]]:
        # surrogateescape: a file name that is no UTF-8 keeps its own bytes, and reads back as the same str.
        encoded = [key.encode("utf-8", "surrogateescape") for key in self.keys]
        return {
            "key_bytes": np.frombuffer(b"".join(encoded), np.uint8),
            "key_offsets": np.fromiter(accumulate(map(len, encoded), initial=0), np.uint64, len(encoded) + 1),
            "sha64": np.asarray(self.sha64, np.uint64),
            "width": np.asarray(self.width, np.int32),
            "height": np.asarray(self.height, np.int32),
        }


def create_store(objects: Objects, plan: Mapping[str, Any], codec: TargetCodec, samples: SampleColumns) -> Schema:
    """Put `plan.json` (create-only) and then everything that it fixes; may be repeated, with the same plan.

    `plan["codec"]` must be `codec_record(codec)`. Raises StoreError where another plan is there already or where the
    codec or the samples are not the plan's; nothing is written then.
    """
    schema = Schema.from_plan(plan)
    _check_belongs(schema, codec, samples)
    fixed = plan_objects(schema, codec, samples)
    data = canonical_json(plan)
    try:
        objects.put_new(PLAN, data)
    except ObjectExistsError:
        if objects.get(PLAN) != data:
            raise StoreError(f"{objects.name} holds another plan: type --overwrite or another --out") from None
    publish(objects, fixed)
    return schema


def plan_objects(schema: Schema, codec: TargetCodec, samples: SampleColumns) -> dict[str, bytes]:
    """Every object but `plan.json` that is a function of the plan: groups, arrays' metadata, samples, calibration."""
    codec = schema.shape.fitted(codec)
    contents = schema.group_objects(codec)
    columns = samples.arrays()
    sample_layouts = schema.sample_layouts(len(columns["key_bytes"]))
    layouts = [*sample_layouts.values(), *schema.calibration_layouts().values()]
    layouts += [array.layout for array in schema.target_arrays(codec).values()]
    contents.update({layout.metadata_path: layout.metadata() for layout in layouts})
    for name, values in columns.items():
        contents.update(encode_array(sample_layouts[name], values))
    return contents | codec_objects(schema, codec)


def codec_objects(schema: Schema, codec: TargetCodec) -> dict[str, bytes]:
    """Object path -> bytes of the calibration arrays, which all views share."""
    contents: dict[str, bytes] = {}
    for name, layout in schema.calibration_layouts().items():
        contents.update(encode_array(layout, codec.calibration()[name]))
    return contents


def probe_objects(pixels_KSSC: NDArray[np.uint8], document: Mapping[str, Any]) -> dict[str, bytes]:
    """Object path -> bytes of the replay fingerprint: `probes.json` and the probe views kept losslessly."""
    layout = whole_layout("probes/pixels", "uint8", pixels_KSSC.shape)
    contents = {"probes/zarr.json": group_metadata({}), layout.metadata_path: layout.metadata()}
    return contents | encode_array(layout, pixels_KSSC) | {PROBES: canonical_json(document)}


def write_probes(objects: Objects, pixels_KSSC: NDArray[np.uint8], document: Mapping[str, Any]) -> None:
    """Put the replay fingerprint. Any time before `finalize`."""
    publish(objects, probe_objects(pixels_KSSC, document))


def encode_unit(schema: Schema, codec: TargetCodec, unit: int, targets: NDArray[np.float32], *, level: int = 0,
                spilled: NDArray[np.bool_] | None = None,
                shared: Arrays | None = None) -> dict[str, bytes]:  # fmt: skip
    """Object path -> bytes of one unit, padding rows included. The bytes depend on nothing but the arguments.

    `targets` have shape `schema.unit_shape`; `level`, `spilled` and `shared`: see `TargetCodec.encode`.

    Raises ValueError for a wrong shape, and where the codec cannot take a value (NaN, infinity).
    """
    if targets.shape != schema.unit_shape:
        raise ValueError(f"targets of unit {unit} have shape {targets.shape}, not {schema.unit_shape}")
    if not 0 <= unit < schema.num_units:
        raise ValueError(f"unit {unit} is not in 0..{schema.num_units - 1}")
    encoded = codec.encode(np.ascontiguousarray(targets, np.float32), level=level, spilled_VR=spilled,
                           shared=shared)  # fmt: skip
    return pack_unit(schema, codec, unit, encoded)


def pack_unit(schema: Schema, codec: TargetCodec, unit: int, encoded: Arrays) -> dict[str, bytes]:
    """Object path -> bytes of a unit's arrays, of shapes `ArraySpec.unit_shape`."""
    contents: dict[str, bytes] = {}
    for name, array in schema.target_arrays(codec).items():
        contents.update(encode_array(array.layout, array.padded(encoded[name]), array.region(unit)))
    return contents


def decode_unit(schema: Schema, codec: TargetCodec, unit: int, contents: Mapping[str, bytes]) -> NDArray[np.float32]:
    """(V, U, *item_shape) logits from a unit's objects. Raises ValueError where they are damaged."""
    decoded = np.empty(schema.unit_shape, np.float32)
    for view in range(schema.num_views):
        decoded[view] = decode_view(schema, codec, unit, contents, view)
    return decoded


def decode_view(
    schema: Schema, codec: TargetCodec, unit: int, contents: Mapping[str, bytes], view: int
) -> NDArray[np.float32]:
    """(U, *item_shape) logits of one view from a unit's objects: what every reader will get, to measure fidelity on."""
    arrays = schema.target_arrays(codec)
    return decode_finite(
        codec, {name: stored_part(array, contents[array.object_path(unit)], view) for name, array in arrays.items()}
    )


def stored_part(array: TargetArray, data: bytes, view: int) -> NDArray[Any]:
    """A view's part of a target array, from the bytes of a unit's object. Raises ValueError where they are damaged."""
    index = parse_index(array.layout, data[-index_bytes(array.layout) :], len(data))
    ranges = [chunk_range(index, chunk) for chunk in array.chunk_indices(view)]
    return array.view_part(decode_chunks(array.layout, [data[start : start + length] for start, length in ranges]))


def encode_array(
    layout: ArrayLayout, values: NDArray[Any], region: tuple[slice, ...] | EllipsisType = ...
) -> dict[str, bytes]:
    """Object path -> bytes of the shards that `region` covers whole, encoded by zarr in memory."""
    import zarr  # seconds to import, and only builds need it: readers do without
    from zarr.core.buffer import Buffer, cpu
    from zarr.storage import MemoryStore

    memory: dict[str, Buffer] = {"zarr.json": cpu.Buffer.from_bytes(layout.metadata())}
    # Without this, a shard of nothing but zeros would be no object at all; `open_array(config=...)` does not heed it.
    array = zarr.open_array(MemoryStore(memory), mode="r+", zarr_format=3).with_config({"write_empty_chunks": True})
    array[region] = np.ascontiguousarray(values)
    shards = {key: memory[key].to_bytes() for key in sorted(memory) if key != "zarr.json"}
    return {f"{layout.path}/{key}": in_index_order(layout, shard) for key, shard in shards.items()}


def _check_belongs(schema: Schema, codec: TargetCodec, samples: SampleColumns) -> None:
    if len(samples.keys) != schema.num_samples:
        raise StoreError(f"the plan has {schema.num_samples} samples, the listing {len(samples.keys)}")
    if codec.name != schema.codec_name or codec.parameters() != schema.codec_parameters:
        raise StoreError(f"the plan's codec is {schema.codec_name}, not this {codec.name}")
    found = {name: array_sha256(values) for name, values in codec.calibration().items()}
    if found != {name: digest for name, (_, _, digest) in schema.calibration.items()}:
        raise StoreError("calibration gave other arrays than the plan's: type --overwrite to plan again")
