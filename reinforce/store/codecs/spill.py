"""Rows that a scheme serves badly, kept beside it in eight bits: what lets a scheme keep a promise for any row.

R = rows, C = classes. Where no row is spilled both arrays hold zeros and pack to next to nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.store.codecs.base import Arrays, ArraySpec
from reinforce.store.codecs.int8 import Int8Codec

CODES, STEPS = "spill_codes", "spill_steps"
FORMULA = "where spill_steps > 0: logits = float32(spill_codes) * float32(spill_steps)"


def spill_specs(num_classes: int) -> dict[str, ArraySpec]:
    return {CODES: ArraySpec(dtype="int8", shape=(num_classes,)), STEPS: ArraySpec(dtype="float16")}


def encode_spill(targets_VRC: NDArray[np.float32], rows_VR: NDArray[np.bool_] | None) -> dict[str, NDArray[Any]]:
    """The two arrays, for the rows that are marked; a row of equal logits needs no spilling."""
    codes = np.zeros(targets_VRC.shape, np.int8)
    steps = np.zeros(targets_VRC.shape[:2], np.float16)
    if rows_VR is not None and rows_VR.any():
        arrays = Int8Codec().encode(targets_VRC[rows_VR])
        codes[rows_VR], steps[rows_VR] = arrays["codes"], arrays["steps"]
    return {CODES: codes, STEPS: steps}


def put_spilled(logits_RC: NDArray[np.float32], arrays: Arrays) -> NDArray[np.float32]:
    """Overwrite the spilled rows; `spill_codes` is looked at only where there are any."""
    steps = arrays[STEPS]
    rows = np.flatnonzero(steps)
    if len(rows):
        spilled = {"codes": arrays[CODES][rows], "steps": steps[rows]}
        logits_RC[rows] = Int8Codec().decode(spilled)
    return logits_RC
