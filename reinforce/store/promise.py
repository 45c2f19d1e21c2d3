"""Encoding a unit so that it keeps the promise: as planned, else finer or with its worst rows spilled; else coarser.

V = views, U = rows of a unit, C = classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.errors import BuildError
from reinforce.store.codecs import TargetCodec
from reinforce.store.fidelity import FidelityStats, row_kl
from reinforce.store.schema import Schema
from reinforce.store.writer import decode_unit, encode_unit

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
    """Of a store: a mean KL in nats that no unit exceeds, or bytes a view that its units aim at. One of the two."""

    max_kl: float | None = None
    max_bytes: float | None = None

    def __post_init__(self) -> None:
        if (self.max_kl is None) == (self.max_bytes is None):
            raise ValueError("a promise is either of a mean KL or of bytes")

    @classmethod
    def from_json(cls, promise: Mapping[str, Any]) -> Promise:
        """Of a plan's member `promise`, which also states the temperature."""
        return cls(max_kl=promise["max_kl"], max_bytes=promise["max_bytes"])

    def to_json(self, temperature: float) -> dict[str, Any]:
        return {"max_kl": self.max_kl, "max_bytes": self.max_bytes, "temperature": temperature}


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


def encode_within(schema: Schema, codec: TargetCodec, unit: int, targets_VUC: NDArray[np.float32],
                  ok_U: NDArray[np.bool_], promise: Promise) -> EncodedUnit:  # fmt: skip
    """A unit, encoded as the promise wants it. Raises BuildError where the codec cannot keep a mean KL."""
    if promise.max_bytes is not None:
        return _within_bytes(schema, codec, unit, targets_VUC, ok_U, promise.max_bytes)
    assert promise.max_kl is not None
    return _within_kl(schema, codec, unit, targets_VUC, ok_U, promise.max_kl)


def _within_bytes(schema: Schema, codec: TargetCodec, unit: int, targets_VUC: NDArray[np.float32],
                  ok_U: NDArray[np.bool_], max_bytes: float) -> EncodedUnit:  # fmt: skip
    """The finest level that takes at most `max_bytes` a view of an ok row, or else the coarsest that there is.

    A unit with few ok rows stays as planned: its size is mostly that of padding and indices.
    """
    budget = max_bytes * schema.num_views * int(ok_U.sum())
    stays = codec.num_levels == 1 or ok_U.mean() < FULL_ENOUGH
    for level in range(0, -1 if stays else COARSEST_LEVEL - 1, -1):
        encoded, _ = _attempt(schema, codec, unit, targets_VUC, ok_U, level, None)
        if encoded.num_bytes <= budget:
            break
    return encoded


def _within_kl(schema: Schema, codec: TargetCodec, unit: int, targets_VUC: NDArray[np.float32],
               ok_U: NDArray[np.bool_], max_kl: float) -> EncodedUnit:  # fmt: skip
    """The coarsest encoding of a unit whose mean KL over its ok rows is at most `max_kl` nats."""
    count = schema.num_views * int(ok_U.sum())
    for level in range(codec.num_levels):
        encoded, kl_VU = _attempt(schema, codec, unit, targets_VUC, ok_U, level, None)
        if encoded.fidelity.kl_mean <= max_kl:
            return encoded
        spilled_VU = _worst_rows(kl_VU, SPILL_MARGIN * max_kl * count)
        is_last = level == codec.num_levels - 1
        if codec.can_spill and (is_last or spilled_VU.sum() <= FEW_ROWS * count):
            encoded, _ = _attempt(schema, codec, unit, targets_VUC, ok_U, level, spilled_VU)
            if encoded.fidelity.kl_mean <= max_kl:
                return encoded
    exact = "" if codec.name == "fp16" else "--codec fp16 --overwrite, or "
    raise BuildError(
        f"unit {unit} has a mean KL of {encoded.fidelity.kl_mean:.2g} with {codec.name}, above --max-kl "
        f"{max_kl:g}: type {exact}a larger --max-kl"
    )


def _attempt(schema: Schema, codec: TargetCodec, unit: int, targets_VUC: NDArray[np.float32], ok_U: NDArray[np.bool_],
             level: int, spilled_VU: NDArray[np.bool_] | None) -> tuple[EncodedUnit, NDArray[np.float64]]:  # fmt: skip
    """An encoding, and the KL of every row; 0 where it is not ok."""
    try:
        contents = encode_unit(schema, codec, unit, targets_VUC, level=level, spilled_VU=spilled_VU)
    except ValueError as error:
        raise BuildError(f"unit {unit} cannot be kept as {codec.name}: {error}") from error
    decoded_VUC = decode_unit(schema, codec, unit, contents)
    shape = (-1, schema.num_classes)
    targets, decoded = targets_VUC[:, ok_U].reshape(shape), decoded_VUC[:, ok_U].reshape(shape)
    kl_VU = np.zeros(targets_VUC.shape[:2])
    kl_VU[:, ok_U] = row_kl(targets, decoded, schema.temperature).reshape(schema.num_views, -1)
    num_spilled = 0 if spilled_VU is None else int(spilled_VU.sum())
    fidelity = FidelityStats.measure(targets, decoded, schema.temperature)
    return EncodedUnit(contents, fidelity, level, num_spilled), kl_VU


def _worst_rows(kl_VU: NDArray[np.float64], allowed: float) -> NDArray[np.bool_]:
    """The fewest rows without which the sum of the others is at most `allowed`."""
    order = np.argsort(-kl_VU, axis=None, kind="stable")
    rest = np.cumsum(kl_VU.ravel()[order][::-1])[::-1]  # the sum of this row and all better ones
    spilled = np.zeros(kl_VU.size, np.bool_)
    spilled[order[: np.count_nonzero(rest > allowed)]] = True
    return spilled.reshape(kl_VU.shape)
