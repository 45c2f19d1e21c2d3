"""Dense half precision: nearly exact, 2 C bytes a view before zstd."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from reinforce.store.codecs.base import (
    ABSOLUTE,
    Arrays,
    ArraySpec,
    Uncalibrated,
    absolute_json,
    parse_absolute,
    require_finite,
)

_LARGEST = 65504.0


@dataclass(frozen=True)
class Fp16Codec(Uncalibrated):
    """Logits less their row's maximum, in float16; features (`absolute`) as they are.

    The relative error is 2^-11 of the distance to the maximum, so the likeliest classes are the most exact, and no
    class that was 2^-24 or more below the maximum reaches it: the arg max is kept.
    """

    absolute: bool = False

    name: ClassVar[str] = "fp16"
    formula: ClassVar[str] = "targets = float32(values)"
    num_levels: ClassVar[int] = 1
    can_spill: ClassVar[bool] = False

    def parameters(self) -> dict[str, Any]:
        return absolute_json(self.absolute)

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], calibration: Arrays) -> Fp16Codec:
        if set(parameters) - {ABSOLUTE} or calibration:
            raise ValueError(f"fp16 has no parameters but '{ABSOLUTE}'")
        return cls(parse_absolute(parameters))

    def arrays(self, num_classes: int) -> dict[str, ArraySpec]:
        return {"values": ArraySpec(dtype="float16", shape=(num_classes,))}

    def encode(
        self, targets_VRC: NDArray[np.float32], *, level: int = 0, spilled_VR: NDArray[np.bool_] | None = None,
        shared: Arrays | None = None,
    ) -> dict[str, NDArray[Any]]:  # fmt: skip
        require_finite(targets_VRC)
        values = targets_VRC if self.absolute else targets_VRC - targets_VRC.max(axis=-1, keepdims=True)
        if values.size and float(np.abs(values).max()) > _LARGEST:
            raise ValueError(f"values of one row span more than {_LARGEST:.0f}")
        return {"values": values.astype(np.float16)}

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        values = arrays["values"].astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError("values hold NaN or infinity")
        return values
