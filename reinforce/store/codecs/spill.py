"""Rows that a scheme serves badly, kept beside it in half precision: so a scheme keeps a promise for any row.

R = rows, C = classes. Where no row is spilled both arrays hold zeros and pack to next to nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.store.codecs.base import Arrays, ArraySpec

LOGITS, MASK = "spilled_logits", "is_spilled"
FORMULA = "where is_spilled: logits = float32(spilled_logits)"
_LEAST = -65504.0


def spill_specs(num_classes: int) -> dict[str, ArraySpec]:
    return {LOGITS: ArraySpec(dtype="float16", shape=(num_classes,)), MASK: ArraySpec(dtype="uint8")}


def encode_spill(targets_VRC: NDArray[np.float32], rows_VR: NDArray[np.bool_] | None) -> dict[str, NDArray[Any]]:
    """The two arrays: of the marked rows, logits less their maximum, at least -65504."""
    logits = np.zeros(targets_VRC.shape, np.float16)
    mask = np.zeros(targets_VRC.shape[:2], np.uint8)
    if rows_VR is not None and rows_VR.any():
        rows = targets_VRC[rows_VR]
        logits[rows_VR] = np.maximum(rows - rows.max(axis=-1, keepdims=True), np.float32(_LEAST))
        mask[rows_VR] = 1
    return {LOGITS: logits, MASK: mask}


def put_spilled(logits_RC: NDArray[np.float32], arrays: Arrays) -> NDArray[np.float32]:
    """Overwrite the spilled rows; `spilled_logits` is looked at only where there are any."""
    rows = np.flatnonzero(arrays[MASK])
    if len(rows):
        logits_RC[rows] = arrays[LOGITS][rows]
    return logits_RC
