"""Encoding a unit so that it keeps the promise: as planned, else finer or with its worst rows spilled; else coarser.

V = views, U = rows of a unit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.errors import BuildError
from reinforce.store.codecs import TargetCodec
from reinforce.store.codecs.base import Arrays
from reinforce.store.fidelity import FidelityStats
from reinforce.store.measures import Measure
from reinforce.store.schema import Schema
from reinforce.store.writer import codec_objects, decode_view, encode_unit

FEW_ROWS = 0.02
"""Share of a unit's rows that are spilled sooner than the whole unit is made finer."""
SPILL_MARGIN = 0.9
"""Share of the promise that the rows which are not spilled may use up."""
COARSEST_LEVEL = -4
"""To keep within bytes; each level takes about half a bit less per coefficient."""
FULL_ENOUGH = 0.5
"""Share of ok rows from which on a unit's bytes are looked at."""


@dataclass(frozen=True, kw_only=True)
class Promise:
    """Of a store: a mean error that no unit exceeds, or bytes a view that its units aim at. One of the two."""

    max_error: float | None = None
    """By the store's measure: of logits the mean KL in nats, of features the mean cosine distance."""
    max_bytes: float | None = None
    keep_top1: bool = False
    """Whether every row's largest class is the teacher's, too."""

    def __post_init__(self) -> None:
        if (self.max_error is None) == (self.max_bytes is None):
            raise ValueError("a promise is either of a mean error or of bytes")

    @classmethod
    def from_json(cls, promise: Mapping[str, Any], measure: Measure) -> Promise:
        """Of a plan's member `promise`."""
        return cls(max_error=promise[f"max_{measure.prefix}"], max_bytes=promise["max_bytes"],
                   keep_top1=promise.get("keep_top1", False))  # fmt: skip

    def to_json(self, measure: Measure) -> dict[str, Any]:
        top1 = {"keep_top1": True} if self.keep_top1 else {}
        return {f"max_{measure.prefix}": self.max_error, "max_bytes": self.max_bytes, **top1, **measure.to_json()}


@dataclass(frozen=True)
class EncodedUnit:
    """Objects of a unit, and how well they keep its targets; `level` and `num_spilled` say what that took."""

    contents: dict[str, bytes]
    fidelity: FidelityStats
    level: int
    num_spilled: int

    @property
    def num_bytes(self) -> int:
        return sum(map(len, self.contents.values()))


def encode_within(schema: Schema, codec: TargetCodec, unit: int, targets: NDArray[np.float32],
                  ok_U: NDArray[np.bool_], promise: Promise, shared: Arrays | None = None) -> EncodedUnit:  # fmt: skip
    """A unit, encoded as the promise wants it. Raises BuildError where the codec cannot keep a mean error.

    `targets` have shape `schema.unit_shape`; `shared`: see `TargetCodec.encode`.
    """
    encoder = _UnitEncoder(schema, codec, unit, targets, ok_U, shared)
    if promise.max_bytes is not None:
        return _within_bytes(encoder, promise.max_bytes)
    assert promise.max_error is not None
    return _within_error(encoder, promise.max_error)


def _within_bytes(encoder: _UnitEncoder, max_bytes: float) -> EncodedUnit:
    """The finest level that takes at most `max_bytes` a view of an ok row, or else the coarsest that there is.

    What all units share, such as a basis, counts. A unit with few ok rows stays as planned: its size is mostly that
    of padding and indices.
    """
    schema = encoder.schema
    shared = sum(map(len, codec_objects(schema, encoder.codec).values())) / schema.num_samples
    budget = (max_bytes * schema.num_views - shared) * int(encoder.ok_U.sum())
    stays = encoder.codec.num_levels == 1 or encoder.ok_U.mean() < FULL_ENOUGH
    for level in range(0, -1 if stays else COARSEST_LEVEL - 1, -1):
        encoded = encoder.encode(level)
        if encoded.num_bytes <= budget:
            break
    return encoded


def _within_error(encoder: _UnitEncoder, max_error: float) -> EncodedUnit:
    """The coarsest encoding of a unit whose mean error, as it is measured, is at most `max_error`."""
    codec = encoder.codec
    for level in range(codec.num_levels):
        encoded = encoder.encode(level)
        if encoded.fidelity.mean <= max_error:
            return encoded
        is_last = level == codec.num_levels - 1
        if not codec.can_spill:
            continue
        errors = encoder.row_errors(encoded.contents)
        spilled = _worst_rows(errors, SPILL_MARGIN * max_error * encoder.num_ok)
        if is_last or spilled.sum() <= FEW_ROWS * encoder.num_ok:
            encoded = encoder.encode(level, spilled)
            if encoded.fidelity.mean <= max_error:
                return encoded
    exact = "" if codec.name == "fp16" else "--codec fp16 --overwrite, or "
    measure = encoder.schema.measure
    raise BuildError(
        f"unit {encoder.unit} has a mean {measure.words} of {encoded.fidelity.mean:.2g} with {codec.name}, above "
        f"{measure.option} {max_error:g}: type {exact}a larger {measure.option}"
    )


class _UnitEncoder:
    """Encodes a unit as often as it takes. What codecs see as rows: those of the unit, or the cells of their maps."""

    def __init__(self, schema: Schema, codec: TargetCodec, unit: int, targets: NDArray[np.float32],
                 ok_U: NDArray[np.bool_], shared: Arrays | None) -> None:  # fmt: skip
        self.schema, self.codec, self.unit, self.targets, self.ok_U = schema, codec, unit, targets, ok_U
        self.shared = shared
        self.sample = schema.sample(ok_U)

    @property
    def num_ok(self) -> int:
        """Rows of all views together, or cells, that are ok."""
        return self.schema.num_views * int(self.ok_U.sum()) * math.prod(self.schema.shape.item_shape[:-1])

    def encode(self, level: int, spilled: NDArray[np.bool_] | None = None) -> EncodedUnit:
        """`spilled` has the shape of the targets without classes."""
        try:
            contents = encode_unit(self.schema, self.codec, self.unit, self.targets, level=level, spilled=spilled,
                                   shared=self.shared)  # fmt: skip
        except ValueError as error:
            raise BuildError(f"unit {self.unit} cannot be kept as {self.codec.name}: {error}") from error
        num_spilled = 0 if spilled is None else int(spilled.sum())
        return EncodedUnit(contents, self._fidelity(contents), level, num_spilled)

    def row_errors(self, contents: dict[str, bytes]) -> NDArray[np.float64]:
        """The error of every row of every view, or cell; 0 where it is not ok."""
        errors = np.zeros(self.targets.shape[:-1])
        for view in range(self.schema.num_views):
            targets, decoded = self.targets[view, self.ok_U], self._decoded(contents, view)[self.ok_U]
            flat = self.schema.measure.errors(self._rows(targets), self._rows(decoded))
            errors[view, self.ok_U] = flat.reshape(targets.shape[:-1])
        return errors

    def _rows(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return values.reshape(-1, self.schema.num_channels)

    def _fidelity(self, contents: dict[str, bytes]) -> FidelityStats:
        shape, measure = self.schema.shape, self.schema.measure
        stats = (shape.fidelity(self.targets[view, rows], self._decoded(contents, view)[rows], measure)
                 for view, rows in self.sample)  # fmt: skip
        return FidelityStats.merge_all(stats, measure)

    def _decoded(self, contents: dict[str, bytes], view: int) -> NDArray[np.float32]:
        return decode_view(self.schema, self.codec, self.unit, contents, view)


def _worst_rows(errors: NDArray[np.float64], allowed: float) -> NDArray[np.bool_]:
    """The fewest rows without which the sum of the others is at most `allowed`."""
    order = np.argsort(-errors, axis=None, kind="stable")
    rest = np.cumsum(errors.ravel()[order][::-1])[::-1]  # the sum of this row and all better ones
    spilled = np.zeros(errors.size, np.bool_)
    spilled[order[: np.count_nonzero(rest > allowed)]] = True
    return spilled.reshape(errors.shape)
