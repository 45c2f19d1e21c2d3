"""Up to eight bits with a step per row: C + 2 bytes a view before zstd, fewer after it where steps are coarse."""

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
    count,
    parse_absolute,
    require_finite,
)

LARGEST = 127
_WIDEST = 2.0 * LARGEST * 65504.0


@dataclass(frozen=True)
class Int8Codec(Uncalibrated):
    """Logits less their row's mid-range, in 2 * `largest` even steps over the row's range; of features (`absolute`)
    over twice their largest magnitude.

    The step is float16, rounded up, and the codes are made for the rounded step: its 11 bits cost no accuracy worth
    two more bytes a row (float32), which at 10 classes are a seventh of the store.
    """

    largest: int = LARGEST
    """Of the codes, 1..127; at finer levels of `encode` more, at coarser ones fewer."""
    absolute: bool = False

    name: ClassVar[str] = "int8"
    formula: ClassVar[str] = "targets = float32(codes) * float32(steps), steps broadcast over channels"
    num_levels: ClassVar[int] = 4
    can_spill: ClassVar[bool] = False

    def parameters(self) -> dict[str, Any]:
        largest = {} if self.largest == LARGEST else {"largest": self.largest}
        return largest | absolute_json(self.absolute)

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], calibration: Arrays) -> Int8Codec:
        if calibration or set(parameters) - {"largest", ABSOLUTE}:
            raise ValueError(f"int8 has no parameters but 'largest' and '{ABSOLUTE}'")
        return cls(count({"largest": LARGEST, **parameters}, "largest", 1, LARGEST), parse_absolute(parameters))

    def arrays(self, num_classes: int) -> dict[str, ArraySpec]:
        return {"codes": ArraySpec(dtype="int8", shape=(num_classes,)), "steps": ArraySpec(dtype="float16")}

    def encode(
        self, targets_VRC: NDArray[np.float32], *, level: int = 0, spilled_VR: NDArray[np.bool_] | None = None,
        shared: Arrays | None = None,
    ) -> dict[str, NDArray[Any]]:  # fmt: skip
        require_finite(targets_VRC)
        high, low = self._range(targets_VRC)
        if high.size and float((high - low).max()) > _WIDEST:
            raise ValueError(f"values of one row span more than {_WIDEST:.0f}")
        largest = min(LARGEST, max(1, round(self.largest * 2 ** (level / 2))))
        steps = _round_up((high - low) / (2 * largest))
        middle = ((high + low) / 2).astype(np.float32)
        divisor = np.where(steps > 0, steps, 1).astype(np.float32)
        codes = targets_VRC - middle[..., None]
        codes /= divisor[..., None]
        np.rint(codes, out=codes)
        np.clip(codes, -largest, largest, out=codes)  # the middle is rounded to float32, so 127.5 can occur
        return {"codes": codes.astype(np.int8), "steps": steps}

    def _range(self, targets_VRC: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(V, R) upper and lower end of what the codes span."""
        if self.absolute:
            largest = np.abs(targets_VRC).max(axis=-1).astype(np.float64)
            return largest, -largest
        return targets_VRC.max(axis=-1).astype(np.float64), targets_VRC.min(axis=-1).astype(np.float64)

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        steps = arrays["steps"].astype(np.float32)
        if not (np.isfinite(steps).all() and (steps >= 0).all()):
            raise ValueError("steps hold NaN, infinity or negative values")
        return np.multiply(arrays["codes"], steps[..., None], dtype=np.float32)


def _round_up(values: NDArray[np.float64]) -> NDArray[np.float16]:
    rounded = values.astype(np.float16)
    return np.where(rounded < values, np.nextafter(rounded, np.float16(np.inf)), rounded)


class Int8Family:
    knobs: ClassVar[tuple[int, ...]] = tuple(round(LARGEST * 2 ** (-i / 4)) for i in range(17))
    """Largest codes, from 127 to 8."""

    def __init__(self, *, absolute: bool = False) -> None:
        self.absolute = absolute

    def codec(self, knob: int) -> Int8Codec:
        return Int8Codec(knob, self.absolute)
