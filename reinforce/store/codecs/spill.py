"""Rows that a scheme serves badly, kept beside it in half precision: so a scheme keeps a promise for any row.

R = rows, C = channels. Where no row is spilled both arrays hold zeros and pack to next to nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.store.codecs.base import Arrays, ArraySpec

ROWS, MASK = "spilled_logits", "is_spilled"
FORMULA = "where is_spilled: targets = float32(spilled_logits)"
_LARGEST = 65504.0


def spill_specs(num_channels: int) -> dict[str, ArraySpec]:
    return {ROWS: ArraySpec(dtype="float16", shape=(num_channels,)), MASK: ArraySpec(dtype="uint8")}


def encode_spill(
    targets_VRC: NDArray[np.float32], rows_VR: NDArray[np.bool_] | None, *, absolute: bool = False
) -> dict[str, NDArray[Any]]:
    """The two arrays: of the marked rows, logits less their maximum, or features as they are; cut at 65504."""
    kept = np.zeros(targets_VRC.shape, np.float16)
    mask = np.zeros(targets_VRC.shape[:2], np.uint8)
    if rows_VR is not None and rows_VR.any():
        rows = targets_VRC[rows_VR]
        values = rows if absolute else rows - rows.max(axis=-1, keepdims=True)
        kept[rows_VR] = np.clip(values, np.float32(-_LARGEST), np.float32(_LARGEST))
        mask[rows_VR] = 1
    return {ROWS: kept, MASK: mask}


def put_spilled(targets_RC: NDArray[np.float32], arrays: Arrays) -> NDArray[np.float32]:
    """Overwrite the spilled rows; `spilled_logits` is looked at only where there are any."""
    rows = np.flatnonzero(arrays[MASK])
    if len(rows):
        targets_RC[rows] = arrays[ROWS][rows]
    return targets_RC
