"""From a plan to every array of its store: the only place that knows names, shapes and cuts.

V = views, U = rows of a unit. Rows of unit u are u*U .. u*U + (stop - start); the rest up to (u+1)*U is padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.errors import CorruptStoreError, StoreError
from reinforce.store.canonical import Fields, one_line
from reinforce.store.codecs import TargetCodec, load_codec
from reinforce.store.codecs.base import Arrays, ArraySpec
from reinforce.store.layout import MAX_CHUNK_BYTES, ArrayLayout, column_layout, group_metadata, whole_layout
from reinforce.store.measures import Measure, parse_measure
from reinforce.store.shapes import FEATURES, TARGETS, TargetShape, parse_shape

FORMAT = 1
PART_FORMAT = 2
"""Of the plan of a part of another store: who does not know `first_view` would replay other views."""
PLAN, MANIFEST, UNITS, PROBES = "plan.json", "manifest.json", "units.json", "probes.json"
README, CROISSANT = "README.md", "croissant.json"
CARD = (README, CROISSANT)
"""For people and catalogs; older stores have none."""
STATE_OK, STATE_PADDING, STATE_SKIPPED = 0, 1, 2
MAX_SAMPLES, MAX_VIEWS, MAX_UNIT_ROWS, MAX_CHANNELS, MAX_UNITS = 1 << 27, 1 << 16, 1 << 20, 1 << 20, 1 << 20
MAX_ROWS = 2 * MAX_SAMPLES
"""With padding: a plan of few samples in huge units would unpack to states without end."""
MAX_KEY_BYTES = 4096
MAX_CALIBRATION_ARRAYS, MAX_CALIBRATION_VALUES = 16, 1 << 25


@dataclass(frozen=True, kw_only=True)
class Schema:
    """What a store's layout depends on, checked. `units` are (shard, start, stop) in positions of the listing."""

    target: str
    shape: TargetShape
    is_part: bool
    """Whether it is of a part of another store."""
    num_views: int
    first_view: int
    """The policy's view that is view 0 here: not 0 in parts of stores only."""
    measured_views: int
    """Of each unit, on which its fidelity was measured: more than there are in parts of stores only."""
    grown_from: tuple[int, ...]
    """Numbers of views that the store had before it grew, ascending; each time what was added was measured alone."""
    unit_rows: int
    num_channels: int
    """Classes of logits, dimensions of features."""
    class_names: tuple[str, ...]
    """Empty for features."""
    measure: Measure
    num_samples: int
    units: tuple[tuple[int, int, int], ...]
    codec_name: str
    codec_parameters: Mapping[str, Any]
    calibration: Mapping[str, tuple[str, tuple[int, ...], str]]
    zstd_level: int

    @classmethod
    def from_plan(cls, plan: Mapping[str, Any]) -> Schema:
        """Raises StoreError for a plan of a newer format, CorruptStoreError where a member is wrong or absurd."""
        fields = Fields(plan, PLAN)
        if fields.integer("format", 1, 1 << 31) > PART_FORMAT:
            raise StoreError(f"store format {plan['format']} is newer than {PART_FORMAT}: upgrade reinforce-vision")
        if fields.text("target") not in TARGETS:
            raise StoreError(f"this version knows no target {one_line(repr(plan['target']))}: upgrade reinforce-vision")
        codec = fields.inner("codec")
        num_samples = fields.integer("num_samples", 1, MAX_SAMPLES)
        unit_rows = fields.integer("unit_rows", 1, MAX_UNIT_ROWS)
        is_features = plan["target"] in FEATURES
        num_views = fields.integer("views", 1, MAX_VIEWS)
        is_part = plan["format"] == PART_FORMAT
        measured_views = fields.integer("measured_views", num_views, MAX_VIEWS) if is_part else num_views
        num_channels = fields.integer("dimensions" if is_features else "classes", 1, MAX_CHANNELS)
        fields.inner("policy")
        if is_part:
            fields.inner("part_of").digest("transfer_digest")
        promise = fields.inner("promise")
        units = _units(fields.items("units"), num_samples, unit_rows)
        _check_shards(fields.inner("transfer").items("shards"), units)
        return cls(
            target=plan["target"],
            shape=parse_shape(plan, PLAN, num_channels),
            is_part=is_part,
            num_views=num_views,
            first_view=fields.integer("first_view", 0, MAX_VIEWS) if is_part else 0,
            measured_views=measured_views,
            grown_from=_grown_from(fields, measured_views),
            unit_rows=unit_rows,
            num_channels=num_channels,
            class_names=_class_names(fields.items("class_names"), 0 if is_features else num_channels),
            measure=parse_measure(promise.members, promise.name, is_features=is_features),
            num_samples=num_samples,
            units=units,
            codec_name=codec.text("name"),
            codec_parameters=codec.inner("parameters").members,
            calibration=_calibration(codec.inner("arrays")),
            zstd_level=codec.integer("zstd_level", 1, 22),
        )

    @property
    def num_units(self) -> int:
        return len(self.units)

    @property
    def num_rows(self) -> int:
        """Rows of the target arrays, padding included."""
        return self.num_units * self.unit_rows

    @property
    def unit_shape(self) -> tuple[int, ...]:
        """(V, U, C) or (V, U, N, C) of a unit's targets."""
        return (self.num_views, self.unit_rows, *self.shape.item_shape)

    @property
    def width_json(self) -> dict[str, int]:
        """How the last axis of the targets is called in JSON: "classes", or "dimensions" of features."""
        return {"dimensions" if self.target in FEATURES else "classes": self.num_channels}

    def codec(self, calibration: Arrays) -> TargetCodec:
        """The plan's codec. Raises as `load_codec`."""
        codec = load_codec(self.codec_name, self.codec_parameters, calibration, self.num_channels)
        if getattr(codec, "absolute", False) != (self.target in FEATURES):
            raise CorruptStoreError(f"{PLAN}: codec {codec.name} as it is described does not keep {self.target}")
        return self.shape.fitted(codec)

    def unit_size(self, unit: int) -> int:
        """Rows of a unit that are samples."""
        _, start, stop = self.units[unit]
        return stop - start

    def num_measured(self, num_ok: int) -> int:
        """Of how many rows, pixels or cells the statistics of a unit are that has so many rows with targets."""
        numbers = [0, *self.grown_from, self.measured_views]
        return sum(self.shape.num_measured(after - before, num_ok) for before, after in pairwise(numbers))

    def sample(self, ok_U: NDArray[np.bool_]) -> list[tuple[int, NDArray[np.int64]]]:
        """(view, rows) of a unit on which its fidelity is measured; `ok_U` says which rows have targets."""
        numbers = pairwise([0, *self.grown_from, self.num_views])
        return [(before + view, rows) for before, after in numbers
                for view, rows in self.shape.sample(after - before, ok_U)]  # fmt: skip

    def states(self, skipped: Mapping[int, Iterable[int]]) -> NDArray[np.uint8]:
        """(rows,) state of every row; `skipped` gives, for some units, the rows inside them that were skipped."""
        states_UR = np.full((self.num_units, self.unit_rows), STATE_PADDING, np.uint8)
        for unit in range(self.num_units):
            states_UR[unit, : self.unit_size(unit)] = STATE_OK
            states_UR[unit, list(skipped.get(unit, ()))] = STATE_SKIPPED
        return states_UR.reshape(-1)

    def sample_layouts(self, num_key_bytes: int) -> dict[str, ArrayLayout]:
        """Columns under `samples/` in listing order, by name; `state` alone is by rows and written at the end.

        Raises CorruptStoreError where keys would be longer than any is.
        """
        if num_key_bytes > MAX_KEY_BYTES * self.num_samples:
            raise CorruptStoreError(f"samples/key_bytes: {self.num_samples} keys of {num_key_bytes} bytes")
        columns = {
            "key_bytes": ("uint8", num_key_bytes),
            "key_offsets": ("uint64", self.num_samples + 1),
            "sha64": ("uint64", self.num_samples),
            "width": ("int32", self.num_samples),
            "height": ("int32", self.num_samples),
            "state": ("uint8", self.num_rows),
        }
        return {name: column_layout(f"samples/{name}", dtype, length) for name, (dtype, length) in columns.items()}

    def calibration_layouts(self) -> dict[str, ArrayLayout]:
        """Arrays under `codec/`, by name."""
        return {name: whole_layout(f"codec/{name}", *spec[:2]) for name, spec in self.calibration.items()}

    def target_arrays(self, codec: TargetCodec) -> dict[str, TargetArray]:
        """Arrays under `targets/`, by name."""
        return {name: self._target_array(name, spec) for name, spec in codec.arrays(self.num_channels).items()}

    def _target_array(self, name: str, spec: ArraySpec) -> TargetArray:
        rows = self.unit_rows if spec.per_row else 1
        views = (self.num_views,) if spec.per_view else ()
        row_axis, num_axes = len(views), len(views) + 1 + len(spec.shape)
        order = (*range(row_axis), num_axes - 1, *range(row_axis, num_axes - 1)) if spec.items_last else None
        stored, chunk = spec.shape, spec.shape
        if spec.grouped:
            *leading, columns = spec.shape
            group = spec.chunk_columns(self.num_views, rows)
            stored, chunk = (*leading, -(-columns // group) * group), (*leading, group)
        layout = ArrayLayout(
            path=f"targets/{name}",
            dtype=spec.dtype,
            shape=(*views, rows * self.num_units, *stored),
            shard_shape=(*views, rows, *stored),
            chunk_shape=(*([1] if views else []), rows, *chunk),
            order=order,
            zstd_level=self.zstd_level,
        )
        if layout.chunk_bytes * layout.chunks_per_shard // math.prod(views) > MAX_CHUNK_BYTES:
            raise CorruptStoreError(f"{layout.path}: a view of a unit would take over {MAX_CHUNK_BYTES >> 20} MiB")
        return TargetArray(layout=layout, spec=spec)

    def group_objects(self, codec: TargetCodec) -> dict[str, bytes]:
        """Every group's `zarr.json`, by path."""
        root = {
            "format": FORMAT,
            **self.shape.to_json(),
            "views": self.num_views,
            **self.width_json,
            "samples": self.num_samples,
            "unit_rows": self.unit_rows,
            "rows": self.num_rows,
        }
        targets = {"codec": codec.name, "formula": codec.formula, "parameters": codec.parameters()}
        states = {"state": {"ok": STATE_OK, "padding": STATE_PADDING, "skipped": STATE_SKIPPED}}
        groups: dict[str, bytes] = {
            "zarr.json": group_metadata({"reinforce": root}),
            "samples/zarr.json": group_metadata(states),
            "targets/zarr.json": group_metadata(targets),
        }
        if self.calibration:
            groups["codec/zarr.json"] = group_metadata({})
        return groups


@dataclass(frozen=True, kw_only=True)
class TargetArray:
    """One array under `targets/`: one shard (object) a unit, in it one chunk a view, or one a group of its columns."""

    layout: ArrayLayout
    spec: ArraySpec

    def object_path(self, unit: int) -> str:
        views = [0] if self.spec.per_view else []
        return self.layout.object_path(*views, unit, *[0] * len(self.spec.shape))

    def region(self, unit: int) -> tuple[slice, ...]:
        """The unit's part of the array."""
        rows = self.layout.shard_shape[1 if self.spec.per_view else 0]
        rows_slice = slice(unit * rows, (unit + 1) * rows)
        return (slice(None), rows_slice) if self.spec.per_view else (rows_slice,)

    def chunk_indices(self, view: int) -> range:
        """Which chunks of a shard serve this view."""
        count = self.layout.chunks_per_shard // (self.layout.shape[0] if self.spec.per_view else 1)
        start = view * count if self.spec.per_view else 0
        return range(start, start + count)

    def padded(self, values: NDArray[Any]) -> NDArray[Any]:
        """A unit's values as they are stored: zeros behind the last column, where it is cut into groups."""
        if not self.spec.grouped:
            return values
        width = self.layout.shape[-1] - values.shape[-1]
        return np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, width)])

    def view_part(self, chunks: NDArray[Any]) -> NDArray[Any]:
        """The chunks of a view as `TargetCodec.decode` takes them: joined, without the view axis and the padding.

        Nothing is copied where columns lie one after the other in memory, as grouped ones do.
        """
        values = chunks[:, 0] if self.spec.per_view else chunks
        if not self.spec.grouped:
            return np.ascontiguousarray(values[0])
        joined = np.moveaxis(values, 0, -2).reshape(*values.shape[1:-1], -1)
        return joined[..., : self.spec.shape[-1]]


def check_described(plan: Mapping[str, Any]) -> None:
    """What is said of a store's origin must be there: who the teacher is, and which transfer set. Raises
    CorruptStoreError."""
    described = Fields(plan, PLAN)
    for member, name in (("teacher", "name"), ("teacher", "architecture"), ("teacher", "weights_sha256"),
                         ("transfer", "name"), ("transfer", "digest"), ("policy", "name")):  # fmt: skip
        described.inner(member).text(name)


def _units(items: list[Any], num_samples: int, unit_rows: int) -> tuple[tuple[int, int, int], ...]:
    """Units cover the listing in order, without a gap, none over `unit_rows`, shards never going back."""
    if not 0 < len(items) <= MAX_UNITS:
        raise CorruptStoreError(f"{PLAN}: {len(items)} units, not 1..{MAX_UNITS}")
    units, shard_before, position = [], 0, 0
    for number, item in enumerate(items):
        if not isinstance(item, (list, tuple)) or len(item) != 3 or not all(type(value) is int for value in item):
            raise CorruptStoreError(f"{PLAN}: unit {number} is not [shard, start, stop]")
        shard, start, stop = item
        if shard < shard_before or start != position or not 0 < stop - start <= unit_rows:
            raise CorruptStoreError(f"{PLAN}: unit {number} = {one_line(item)} does not continue the one before")
        units.append((shard, start, stop))
        shard_before, position = shard, stop
    if position != num_samples:
        raise CorruptStoreError(f"{PLAN}: units hold {position} samples, not {num_samples}")
    if len(units) * unit_rows > MAX_ROWS:
        raise CorruptStoreError(f"{PLAN}: {len(units)} units of {unit_rows} rows are over {MAX_ROWS} rows")
    return tuple(units)


def _check_shards(shards: list[Any], units: Sequence[tuple[int, int, int]]) -> None:
    """Every unit lies in its shard, and the shards have as many samples as the units; where any are listed."""
    ends = list(accumulate(Fields(item, f"{PLAN}: shard").integer("samples", 0, MAX_SAMPLES) for item in shards))
    if not ends:
        return
    for number, (shard, start, stop) in enumerate(units):
        if not (0 <= shard < len(ends) and (ends[shard - 1] if shard else 0) <= start and stop <= ends[shard]):
            raise CorruptStoreError(f"{PLAN}: unit {number} does not lie in its shard")
    if ends[-1] != units[-1][2]:
        raise CorruptStoreError(f"{PLAN}: shards hold {ends[-1]} samples, not {units[-1][2]}")


def _grown_from(fields: Fields, num_views: int) -> tuple[int, ...]:
    """Of a plan's member `grown_from`, which stores that never grew have not got."""
    items = fields.items("grown_from") if "grown_from" in fields.members else []
    found = [Fields(item, f"{PLAN}: 'grown_from'") for item in items]
    for item in found:
        item.digest("plan_digest")
    numbers = tuple(item.integer("views", 1, MAX_VIEWS) for item in found)
    if any(before >= after for before, after in pairwise([*numbers, num_views])):
        raise CorruptStoreError(f"{PLAN}: 'grown_from' does not grow")
    return numbers


def _class_names(names: list[Any], num_classes: int) -> tuple[str, ...]:
    if len(names) != num_classes or not all(isinstance(name, str) for name in names):
        raise CorruptStoreError(f"{PLAN}: 'class_names' are not {num_classes} strings")
    return tuple(names)


def _calibration(fields: Fields) -> dict[str, tuple[str, tuple[int, ...], str]]:
    if len(fields.members) > MAX_CALIBRATION_ARRAYS:
        raise CorruptStoreError(f"{fields.name}: more than {MAX_CALIBRATION_ARRAYS} arrays")
    arrays = {}
    for name in fields.members:
        if not name.isidentifier() or not name.isascii():
            raise CorruptStoreError(f"{fields.name}: {one_line(repr(name))} is no name of an array")
        array = fields.inner(name)
        shape = array.items("shape")
        if not shape or not all(type(side) is int and 0 < side <= 1 << 31 for side in shape):
            raise CorruptStoreError(f"{array.name}: impossible shape {one_line(shape)}")
        arrays[name] = (array.text("dtype"), tuple(shape), array.digest("sha256"))
    if sum(math.prod(shape) for _, shape, _ in arrays.values()) > MAX_CALIBRATION_VALUES:
        raise CorruptStoreError(f"{fields.name}: over {MAX_CALIBRATION_VALUES} values")
    return arrays
