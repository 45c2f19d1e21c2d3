"""The K likeliest classes and a tail: what published caches of logits keep. Rarely the cheapest; here to be compared.

V = views, R = rows of a unit, C = classes, T = temperature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from reinforce.store.codecs.base import (
    MAX_CLASSES,
    TEMPERATURES,
    Arrays,
    ArraySpec,
    Uncalibrated,
    count,
    number,
    require_finite,
)
from reinforce.store.codecs.spill import FORMULA, encode_spill, put_spilled, spill_specs
from reinforce.store.codecs.tail import FORMULA as TAIL
from reinforce.store.codecs.tail import decode_tails, encode_tails

_LEAST_LOG_P = -60.0


@dataclass(frozen=True)
class TopKCodec(Uncalibrated):
    """Log-probabilities at T in float16, likeliest first; all other classes share a stored tail evenly."""

    k: int
    num_classes: int
    temperature: float

    name: ClassVar[str] = "top-k"
    formula: ClassVar[str] = (
        TAIL + "; log p[classes] = log_p, log p of each other class = log(tail / max(1, C - K)); "
        "logits = temperature * log p; " + FORMULA
    )
    num_levels: ClassVar[int] = 1
    can_spill: ClassVar[bool] = True

    def parameters(self) -> dict[str, Any]:
        return {"k": self.k, "num_classes": self.num_classes, "temperature": self.temperature}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], calibration: Arrays) -> TopKCodec:
        if calibration:
            raise ValueError("top-k has no calibration arrays")
        num_classes = count(parameters, "num_classes", 1, MAX_CLASSES)
        k = count(parameters, "k", 1, num_classes)
        return cls(k, num_classes, number(parameters, "temperature", *TEMPERATURES))

    def arrays(self, num_classes: int) -> dict[str, ArraySpec]:
        if num_classes != self.num_classes:
            raise ValueError(f"made for {self.num_classes} classes, not {num_classes}")
        return {
            "classes": ArraySpec(dtype="uint8" if num_classes <= 256 else "uint32", shape=(self.k,), items_last=True),
            "log_p": ArraySpec(dtype="float16", shape=(self.k,), items_last=True),
            "tails": ArraySpec(dtype="uint8"),
            **spill_specs(num_classes),
        }

    def encode(
        self, targets_VRC: NDArray[np.float32], *, level: int = 0, spilled_VR: NDArray[np.bool_] | None = None,
        shared: Arrays | None = None,
    ) -> dict[str, NDArray[Any]]:  # fmt: skip
        require_finite(targets_VRC)
        classes = np.argsort(-targets_VRC, axis=-1, kind="stable")[..., : self.k]
        scaled = targets_VRC.astype(np.float64) / self.temperature
        scaled -= scaled.max(axis=-1, keepdims=True)
        scaled -= np.log(np.exp(scaled).sum(axis=-1, keepdims=True))
        log_p = np.take_along_axis(scaled, classes, axis=-1)
        np.put_along_axis(scaled, classes, -np.inf, axis=-1)
        dtype = self.arrays(self.num_classes)["classes"].dtype
        return {
            "classes": classes.astype(dtype),
            "log_p": np.maximum(log_p, _LEAST_LOG_P).astype(np.float16),
            "tails": encode_tails(np.exp(scaled).sum(axis=-1)),
            **encode_spill(targets_VRC, spilled_VR),
        }

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        log_p_RK, classes_RK, num_classes = arrays["log_p"].astype(np.float32), arrays["classes"], self.num_classes
        if not (log_p_RK <= 0).all() or int(classes_RK.max(initial=0)) >= num_classes:
            raise ValueError("log_p holds NaN or values above 0, or a class is beyond the last")
        ordered = np.sort(classes_RK, axis=1)
        if (ordered[:, 1:] == ordered[:, :-1]).any():
            raise ValueError("a row has a class twice: readers would not agree on its logit")
        rest_R = np.log(decode_tails(arrays["tails"]) / max(1, num_classes - self.k))
        logits_RC = np.repeat(rest_R[:, None], num_classes, axis=1)
        np.put_along_axis(logits_RC, classes_RK.astype(np.int64), log_p_RK, axis=1)
        logits_RC *= np.float32(self.temperature)
        return put_spilled(logits_RC, arrays)


class TopKFamily:
    def __init__(self, num_classes: int, *, temperature: float) -> None:
        self.num_classes, self.temperature = num_classes, temperature
        self.knobs = tuple(k for k in (500, 200, 100, 50, 20, 10, 5, 3, 2, 1) if k <= num_classes)
        """K, from exact to coarse."""

    def codec(self, knob: int) -> TopKCodec:
        return TopKCodec(knob, self.num_classes, self.temperature)
