"""Dense half precision: nearly exact, 2 C bytes a view before zstd."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from reinforce.store.codecs.base import Arrays, ArraySpec, Uncalibrated, require_finite

_LARGEST = 65504.0


class Fp16Codec(Uncalibrated):
    """Logits less their row's maximum, in float16.

    The relative error is 2^-11 of the distance to the maximum, so the likeliest classes are the most exact, and no
    class that was 2^-24 or more below the maximum reaches it: the arg max is kept.
    """

    name: ClassVar[str] = "fp16"
    formula: ClassVar[str] = "logits = float32(values)"
    num_levels: ClassVar[int] = 1
    can_spill: ClassVar[bool] = False

    def parameters(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], calibration: Arrays) -> Fp16Codec:
        if parameters or calibration:
            raise ValueError("fp16 has no parameters")
        return cls()

    def arrays(self, num_classes: int) -> dict[str, ArraySpec]:
        return {"values": ArraySpec(dtype="float16", shape=(num_classes,))}

    def encode(
        self, targets_VRC: NDArray[np.float32], *, level: int = 0, spilled_VR: NDArray[np.bool_] | None = None
    ) -> dict[str, NDArray[Any]]:
        require_finite(targets_VRC)
        below = targets_VRC - targets_VRC.max(axis=-1, keepdims=True)
        if below.size and float(below.min()) < -_LARGEST:
            raise ValueError(f"logits of one row span more than {_LARGEST:.0f}")
        return {"values": below.astype(np.float16)}

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        values = arrays["values"].astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError("values hold NaN or infinity")
        return values
