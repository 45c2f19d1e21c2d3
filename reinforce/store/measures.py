"""What the error of a stored target is: of logits a divergence of what they say, of features an angle.

B = rows (or cells of maps), C = channels: classes of logits, dimensions of features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from reinforce.errors import CorruptStoreError
from reinforce.store.canonical import Fields

_BLOCK_VALUES = 1 << 17  # 1 MiB of float64: the temporaries stay in cache


class Measure(Protocol):
    """How far decoded targets are from the teacher's, row by row."""

    prefix: ClassVar[str]
    """Of the names of its figures, as in "kl_mean"."""
    words: ClassVar[str]
    """What it is called in sentences."""
    unit: ClassVar[str]
    option: ClassVar[str]
    """The command line's option for the promised mean."""

    def errors(self, targets_BC: NDArray[Any], decoded_BC: NDArray[Any]) -> NDArray[np.float64]:
        """(B,) in float64, never negative. Raises ValueError where the shapes differ."""

    def num_agreeing(self, targets_BC: NDArray[Any], decoded_BC: NDArray[Any]) -> int:
        """Rows of which the largest class is kept; 0 where that means nothing."""

    def to_json(self) -> dict[str, Any]:
        """What a plan and a certificate say of it besides its figures."""


@dataclass(frozen=True)
class Divergence:
    """KL(softmax(z / T) || softmax(z' / T)) in nats. Raises ValueError where the temperature T is not positive."""

    temperature: float = 1.0

    prefix: ClassVar[str] = "kl"
    words: ClassVar[str] = "KL"
    unit: ClassVar[str] = "nats"
    option: ClassVar[str] = "--max-kl"

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and math.isfinite(self.temperature)):
            raise ValueError(f"temperature must be positive, not {self.temperature}")

    def errors(self, targets_BC: NDArray[Any], decoded_BC: NDArray[Any]) -> NDArray[np.float64]:
        return _in_blocks(self._block, targets_BC, decoded_BC)

    def num_agreeing(self, targets_BC: NDArray[Any], decoded_BC: NDArray[Any]) -> int:
        return int((targets_BC.argmax(axis=1) == decoded_BC.argmax(axis=1)).sum())

    def to_json(self) -> dict[str, Any]:
        return {"temperature": self.temperature}

    def _block(self, targets_BC: NDArray[Any], decoded_BC: NDArray[Any]) -> NDArray[np.float64]:
        # KL = sum p (a - b) - log sum e^a + log sum e^b, with a, b the logits less their row's maximum.
        a, b = self._scaled(targets_BC), self._scaled(decoded_BC)
        exp_a = np.exp(a)
        sum_a = exp_a.sum(axis=1)
        a -= b
        a *= exp_a
        return np.asarray(a.sum(axis=1) / sum_a - np.log(sum_a) + np.log(np.exp(b, out=b).sum(axis=1)))

    def _scaled(self, values_BC: NDArray[Any]) -> NDArray[np.float64]:
        scaled = values_BC.astype(np.float64)
        scaled -= scaled.max(axis=1, keepdims=True)
        scaled /= self.temperature
        return scaled


@dataclass(frozen=True)
class CosineDistance:
    """1 - cos(z, z'): what losses of features compare. A zero vector is at a distance of 1 from all but itself."""

    prefix: ClassVar[str] = "cosine_distance"
    words: ClassVar[str] = "cosine distance"
    unit: ClassVar[str] = ""
    option: ClassVar[str] = "--max-cosine-distance"

    def errors(self, targets_BC: NDArray[Any], decoded_BC: NDArray[Any]) -> NDArray[np.float64]:
        return _in_blocks(self._block, targets_BC, decoded_BC)

    def num_agreeing(self, targets_BC: NDArray[Any], decoded_BC: NDArray[Any]) -> int:
        return 0

    def to_json(self) -> dict[str, Any]:
        return {}

    def _block(self, targets_BC: NDArray[Any], decoded_BC: NDArray[Any]) -> NDArray[np.float64]:
        # 1 - cos = |u - v|^2 / 2 for unit vectors: exact near 0, where 1 - u v would cancel.
        u, v = (_unit_rows(values.astype(np.float64)) for values in (targets_BC, decoded_BC))
        is_one_zero = u.any(axis=1) != v.any(axis=1)
        return np.where(is_one_zero, 1.0, np.square(u - v).sum(axis=1) / 2)


def parse_measure(record: Mapping[str, Any], name: str, *, is_features: bool) -> Measure:
    """Of a plan's promise, a marker's figures or a certificate. Raises CorruptStoreError."""
    if is_features:
        return CosineDistance()
    temperature = Fields(record, name).number("temperature")
    if not (temperature > 0 and math.isfinite(temperature)):
        raise CorruptStoreError(f"{name}: 'temperature' is not positive: {temperature}")
    return Divergence(temperature)


Errors = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]


def _in_blocks(block_errors: Errors, targets_BC: NDArray[Any], decoded_BC: NDArray[Any]) -> NDArray[np.float64]:
    if targets_BC.shape != decoded_BC.shape or targets_BC.ndim != 2:
        raise ValueError(f"shapes differ: {targets_BC.shape} and {decoded_BC.shape}")
    errors = np.empty(len(targets_BC), np.float64)
    block = max(1, _BLOCK_VALUES // targets_BC.shape[1])
    for start in range(0, len(errors), block):
        part = slice(start, start + block)
        errors[part] = block_errors(targets_BC[part], decoded_BC[part])
    clipped: NDArray[np.float64] = np.maximum(errors, 0.0)
    return clipped


def _unit_rows(values_BC: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.sqrt(np.square(values_BC).sum(axis=1, keepdims=True))
    return np.asarray(values_BC / np.where(lengths > 0, lengths, 1.0))
