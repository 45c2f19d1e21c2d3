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


@dataclass(frozen=True, kw_only=True)
class Promise:
    """Of a store: a mean KL in nats that no unit exceeds, or bytes a view that units keep to. One of the two."""

    max_kl: float | None = None
    max_bytes: float | None = None

    @classmethod
    def from_plan(cls, plan: Mapping[str, Any]) -> Promise:
        promise = plan["promise"]
        return cls(max_kl=promise["max_kl"], max_bytes=promise.get("max_bytes"))


@dataclass(frozen=True)
class EncodedUnit:
    """Objects of a unit, and how well they keep its targets; `level` and `num_spilled` say what that took."""

    contents: dict[str, bytes]
    fidelity: FidelityStats
    level: int
    num_spilled: int


def encode_within(schema: Schema, codec: TargetCodec, unit: int, targets_VUC: NDArray[np.float32],
                  ok_U: NDArray[np.bool_], promise: Promise) -> EncodedUnit:  # fmt: skip
    """A unit, encoded as the promise wants it. Raises BuildError where the codec cannot keep a mean KL."""
    if promise.max_kl is None:
        return _within_bytes(schema, codec, unit, targets_VUC, ok_U, promise.max_bytes or 0.0)
    return _within_kl(schema, codec, unit, targets_VUC, ok_U, promise.max_kl)


def _within_bytes(schema: Schema, codec: TargetCodec, unit: int, targets_VUC: NDArray[np.float32],
                  ok_U: NDArray[np.bool_], max_bytes: float) -> EncodedUnit:  # fmt: skip
    """The finest level that takes at most `max_bytes` a view of an ok row, or else the coarsest that there is."""
    budget = max_bytes * schema.num_views * int(ok_U.sum())
    for level in range(0, COARSEST_LEVEL - 1 if codec.num_levels > 1 else -1, -1):
        encoded, _ = _attempt(schema, codec, unit, targets_VUC, ok_U, level, None)
        if sum(map(len, encoded.contents.values())) <= budget:
            break
    return encoded


def _within_kl(schema: Schema, codec: TargetCodec, unit: int, targets_VUC: NDArray[np.float32],
               ok_U: NDArray[np.bool_], max_kl: float) -> EncodedUnit:  # fmt: skip
    """The coarsest encoding of a unit whose mean KL over its ok rows is at most `max_kl` nats."""
    for level in range(codec.num_levels):
        encoded, kl_VU = _attempt(schema, codec, unit, targets_VUC, ok_U, level, None)
        if encoded.fidelity.kl_mean <= max_kl or not ok_U.any():
            return encoded
        spilled_VU = _worst_rows(kl_VU, max_kl)
        is_last = level == codec.num_levels - 1
        if codec.can_spill and (is_last or spilled_VU.sum() <= FEW_ROWS * kl_VU.size):
            encoded, _ = _attempt(schema, codec, unit, targets_VUC, ok_U, level, spilled_VU)
            if encoded.fidelity.kl_mean <= max_kl:
                return encoded
    raise BuildError(
        f"unit {unit} has a mean KL of {encoded.fidelity.kl_mean:.2g} with {codec.name}, above --max-kl "
        f"{max_kl:g}: type --codec fp16 --overwrite, or a larger --max-kl"
    )


def _attempt(schema: Schema, codec: TargetCodec, unit: int, targets_VUC: NDArray[np.float32], ok_U: NDArray[np.bool_],
             level: int, spilled_VU: NDArray[np.bool_] | None) -> tuple[EncodedUnit, NDArray[np.float64]]:  # fmt: skip
    """An encoding, and the KL of every row; 0 where it is not ok."""
    contents = encode_unit(schema, codec, unit, targets_VUC, level=level, spilled_VU=spilled_VU)
    decoded_VUC = decode_unit(schema, codec, unit, contents)
    shape = (-1, schema.num_classes)
    targets, decoded = targets_VUC[:, ok_U].reshape(shape), decoded_VUC[:, ok_U].reshape(shape)
    fidelity = FidelityStats.measure(targets, decoded, schema.temperature)
    kl_VU = np.zeros(targets_VUC.shape[:2])
    kl_VU[:, ok_U] = row_kl(targets, decoded, schema.temperature).reshape(schema.num_views, -1)
    num_spilled = 0 if spilled_VU is None else int(spilled_VU.sum())
    return EncodedUnit(contents, fidelity, level, num_spilled), kl_VU


def _worst_rows(kl_VU: NDArray[np.float64], max_kl: float) -> NDArray[np.bool_]:
    """The fewest rows without which the sum of the others is within the promise."""
    order = np.argsort(-kl_VU, axis=None, kind="stable")
    rest = np.cumsum(kl_VU.ravel()[order][::-1])[::-1]  # the sum of this row and all better ones
    allowed = SPILL_MARGIN * max_kl * np.count_nonzero(kl_VU)
    spilled = np.zeros(kl_VU.size, np.bool_)
    spilled[order[: np.count_nonzero(rest > allowed)]] = True
    return spilled.reshape(kl_VU.shape)
