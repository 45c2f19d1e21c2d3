"""Square roots of probabilities in even steps: for teachers that are sure, at one temperature.

V = views, R = rows of a unit, C = classes, T = temperature.

With x = sqrt(p), KL is about 2 * sum((x - x')^2): an even step in x errs where KL counts it equally, and the many
classes below half a step become zeros, which pack by themselves and share a stored tail.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from reinforce.store.codecs.base import TEMPERATURES, Arrays, ArraySpec, Uncalibrated, number, require_finite
from reinforce.store.codecs.spill import FORMULA, encode_spill, put_spilled, spill_specs
from reinforce.store.codecs.tail import FORMULA as TAIL
from reinforce.store.codecs.tail import decode_tails, encode_tails

TAIL_TOLERANCE = 0.02
"""KL that a coarse tail may add, in squared steps: a percent or two of what rounding costs, for half a byte a view."""
_FINEST = 1 / 255
BLOCK_VALUES = 1 << 16
"""Decoded at a time: they stay in the cache."""


@dataclass(frozen=True)
class SqrtPCodec(Uncalibrated):
    """See the module. `level` n of `encode` divides the step by 2^(n/2), down to 1/255."""

    step: float
    temperature: float

    name: ClassVar[str] = "sqrt-p"
    formula: ClassVar[str] = (
        TAIL + ", 0 where no code of the row is 0; body = (codes * steps) ** 2; "
        "p = tail / number of zero codes where codes == 0, else body / sum(body) * (1 - tail); "
        "logits = temperature * log(max(p, 1e-37)); " + FORMULA
    )
    num_levels: ClassVar[int] = 4
    can_spill: ClassVar[bool] = True

    def parameters(self) -> dict[str, Any]:
        return {"step": self.step, "temperature": self.temperature}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], calibration: Arrays) -> SqrtPCodec:
        if calibration:
            raise ValueError("sqrt-p has no calibration arrays")
        return cls(number(parameters, "step", _FINEST, 1.0), number(parameters, "temperature", *TEMPERATURES))

    def arrays(self, num_classes: int) -> dict[str, ArraySpec]:
        return {
            "codes": ArraySpec(dtype="uint8", shape=(num_classes,), items_last=True),
            "tails": ArraySpec(dtype="uint8"),
            "steps": ArraySpec(dtype="float32", per_view=False, per_row=False),
            **spill_specs(num_classes),
        }

    def encode(
        self, targets_VRC: NDArray[np.float32], *, level: int = 0, spilled_VR: NDArray[np.bool_] | None = None,
        shared: Arrays | None = None,
    ) -> dict[str, NDArray[Any]]:  # fmt: skip
        require_finite(targets_VRC)
        step = np.float32(min(1.0, max(self.step * 2.0 ** (-level / 2), _FINEST)))
        if shared is not None:
            step = shared["steps"][0]
        codes = np.empty(targets_VRC.shape, np.uint8)
        tails = np.empty(targets_VRC.shape[:2], np.uint8)
        for view, targets_RC in enumerate(targets_VRC):
            codes[view], tails[view] = self._encode_view(targets_RC, step)
        steps = np.full((1,), step, np.float32)
        return {"codes": codes, "tails": tails, "steps": steps, **encode_spill(targets_VRC, spilled_VR)}

    def _encode_view(self, targets_RC: NDArray[np.float32], step: np.float32) -> tuple[NDArray[Any], NDArray[Any]]:
        p_RC = targets_RC.astype(np.float64)
        p_RC -= p_RC.max(axis=1, keepdims=True)
        np.exp(p_RC / self.temperature, out=p_RC)
        p_RC /= p_RC.sum(axis=1, keepdims=True)
        codes = np.minimum(np.rint(np.sqrt(p_RC) / step), 255).astype(np.uint8)
        # a tail of 1 would leave nothing for the classes that have codes
        return codes, encode_tails((p_RC * (codes == 0)).sum(axis=1), least=codes.any(axis=1),
                                   tolerance=TAIL_TOLERANCE * float(step) ** 2)  # fmt: skip

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        steps = arrays["steps"].astype(np.float32)
        if not ((steps >= np.float32(_FINEST)) & (steps <= 1)).all():
            raise ValueError("steps hold values outside of 1/255..1")
        # of a class with a code, log p = 2 log(code * step) + a number of the row; the others share the tail
        levels = np.log(np.square(np.maximum(np.arange(256, dtype=np.float32), 1) * steps[0]))
        levels *= np.float32(self.temperature)
        codes_RC, tails_R = arrays["codes"], arrays["tails"]
        logits_RC = np.empty(codes_RC.shape, np.float32)
        block = max(1, BLOCK_VALUES // codes_RC.shape[1])
        for start in range(0, len(codes_RC), block):
            rows = slice(start, start + block)
            self._decode_block(codes_RC[rows], decode_tails(tails_R[rows]), steps[0], levels, logits_RC[rows])
        return put_spilled(logits_RC, arrays)

    def _decode_block(self, codes_RC: NDArray[np.uint8], tail_R: NDArray[np.float32], step: np.float32,
                      levels: NDArray[np.float32], out_RC: NDArray[np.float32]) -> None:  # fmt: skip
        is_zero_RC = codes_RC == 0
        zeros_R = np.count_nonzero(is_zero_RC, axis=1).astype(np.float32)
        body_R = _sums_of_squares(codes_RC) * np.square(step)
        tail_R = np.where(zeros_R > 0, tail_R, np.float32(0))
        rest_R = np.log(np.maximum(1 - tail_R, np.float32(1e-37)) / np.maximum(body_R, np.float32(1e-30)))
        shared_R = np.log(np.maximum(tail_R / np.maximum(zeros_R, 1), np.float32(1e-37)))
        temperature = np.float32(self.temperature)
        np.add(levels.take(codes_RC), (rest_R * temperature)[:, None], out=out_RC)
        np.copyto(out_RC, (shared_R * temperature)[:, None], where=is_zero_RC)


def _sums_of_squares(codes_RC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(R,)"""
    sums: NDArray[np.float32] = np.einsum("rc,rc->r", codes_RC, codes_RC, dtype=np.float32, casting="unsafe")
    return sums


class SqrtPFamily:
    knobs: ClassVar[tuple[float, ...]] = tuple(_FINEST * 2 ** (i / 8) for i in range(48))
    """Steps, from exact to coarse: 1/255 to 0.23."""

    def __init__(self, *, temperature: float) -> None:
        self.temperature = temperature

    def codec(self, knob: float) -> SqrtPCodec:
        return SqrtPCodec(knob, self.temperature)
