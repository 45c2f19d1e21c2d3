"""How close stored targets are to the teacher's: KL divergence per row, and statistics that merge exactly.

B = views x rows of a unit, C = classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.errors import CorruptStoreError
from reinforce.store.canonical import Fields

TICK = 2.0**-50
"""KL values are summed as integer multiples of this, so that no order of summing changes a digit."""
_LOW_EXPONENT, _HIGH_EXPONENT, _BINS_PER_OCTAVE = -50, 14, 8
_NUM_BINS = (_HIGH_EXPONENT - _LOW_EXPONENT) * _BINS_PER_OCTAVE
_BLOCK_VALUES = 1 << 17  # 1 MiB of float64: the temporaries stay in cache


def row_kl(logits_BC: NDArray[Any], decoded_BC: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    """(B,) KL(softmax(z / T) || softmax(z' / T)) in nats, in float64, never negative.

    Raises ValueError where the shapes differ or the temperature is not positive.
    """
    if logits_BC.shape != decoded_BC.shape or logits_BC.ndim != 2:
        raise ValueError(f"shapes differ: {logits_BC.shape} and {decoded_BC.shape}")
    if not (temperature > 0 and math.isfinite(temperature)):
        raise ValueError(f"temperature must be positive, not {temperature}")
    kl = np.empty(len(logits_BC), np.float64)
    block = max(1, _BLOCK_VALUES // logits_BC.shape[1])
    for start in range(0, len(kl), block):
        stop = start + block
        kl[start:stop] = _block_kl(logits_BC[start:stop], decoded_BC[start:stop], temperature)
    return kl


def _block_kl(logits_BC: NDArray[Any], decoded_BC: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    # KL = sum p (a - b) - log sum e^a + log sum e^b, with a, b the logits less their row's maximum.
    a = _scaled(logits_BC, temperature)
    b = _scaled(decoded_BC, temperature)
    exp_a = np.exp(a)
    sum_a = exp_a.sum(axis=1)
    a -= b
    a *= exp_a
    kl = a.sum(axis=1) / sum_a - np.log(sum_a) + np.log(np.exp(b, out=b).sum(axis=1))
    clipped: NDArray[np.float64] = np.maximum(kl, 0.0)
    return clipped


def _scaled(values_BC: NDArray[Any], temperature: float) -> NDArray[np.float64]:
    scaled = values_BC.astype(np.float64)
    scaled -= scaled.max(axis=1, keepdims=True)
    scaled /= temperature
    return scaled


@dataclass(frozen=True, kw_only=True)
class FidelityStats:
    """Statistics of many rows' KL at one temperature; `merge` is exact, associative and commutative.

    The mean comes from an integer sum of ticks (2^-50 nats), percentiles from a histogram with 8 bins an octave, whose
    upper edges they report: never below the true percentile, at most 12.5 % (and 2^-49) above it.
    """

    temperature: float
    count: int = 0
    kl_ticks: int = 0
    kl_max: float = 0.0
    top1_count: int = 0
    histogram: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def measure(cls, targets_BC: NDArray[Any], decoded_BC: NDArray[Any], temperature: float) -> FidelityStats:
        """Statistics of these rows; give only real ones (no padding, no skipped). Raises as `row_kl`."""
        kl = row_kl(targets_BC, decoded_BC, temperature)
        if not len(kl):
            return cls(temperature=temperature)
        bins, counts = np.unique(_bins(kl), return_counts=True)
        return cls(
            temperature=temperature,
            count=len(kl),
            kl_ticks=sum(int(ticks) for ticks in np.rint(kl / TICK).tolist()),
            kl_max=float(kl.max()),
            top1_count=int((targets_BC.argmax(axis=1) == decoded_BC.argmax(axis=1)).sum()),
            histogram=dict(zip(bins.tolist(), counts.tolist(), strict=True)),
        )

    def merge(self, other: FidelityStats) -> FidelityStats:
        """Statistics of both sets of rows together. Raises ValueError where the temperatures differ."""
        if self.temperature != other.temperature:
            raise ValueError(f"measured at other temperatures: {self.temperature} and {other.temperature}")
        histogram = dict(self.histogram)
        for bin_index, count in other.histogram.items():
            histogram[bin_index] = histogram.get(bin_index, 0) + count
        return FidelityStats(
            temperature=self.temperature,
            count=self.count + other.count,
            kl_ticks=self.kl_ticks + other.kl_ticks,
            kl_max=max(self.kl_max, other.kl_max),
            top1_count=self.top1_count + other.top1_count,
            histogram=dict(sorted(histogram.items())),
        )

    @classmethod
    def merge_all(cls, stats: Iterable[FidelityStats], temperature: float) -> FidelityStats:
        total = cls(temperature=temperature)
        for one in stats:
            total = total.merge(one)
        return total

    @property
    def kl_mean(self) -> float:
        """Mean KL in nats; 0 where there are no rows."""
        return self.kl_ticks / self.count * TICK if self.count else 0.0

    @property
    def top1_agreement(self) -> float:
        """Share of rows whose largest class is the teacher's, in 0..1; 1 where there are no rows."""
        return self.top1_count / self.count if self.count else 1.0

    def percentile(self, share: float) -> float:
        """The smallest bin edge (or the maximum) that at least `share` (0..1) of the rows do not exceed."""
        rank = max(1, math.ceil(share * self.count))
        seen = 0
        for bin_index in sorted(self.histogram):
            seen += self.histogram[bin_index]
            if seen >= rank:
                return min(_upper_edge(bin_index), self.kl_max)
        return 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "temperature": self.temperature,
            "count": self.count,
            "kl_ticks": self.kl_ticks,
            "kl_max": self.kl_max,
            "top1_count": self.top1_count,
            "histogram": [[bin_index, self.histogram[bin_index]] for bin_index in sorted(self.histogram)],
        }

    @classmethod
    def from_json(cls, document: object, name: str = "fidelity") -> FidelityStats:
        """Inverse of `to_json`. Raises CorruptStoreError naming the wrong member."""
        fields = Fields(document, name)
        count = fields.integer("count", 0, 1 << 62)
        histogram = {}
        for pair in fields.items("histogram"):
            if not isinstance(pair, list) or len(pair) != 2:
                raise CorruptStoreError(f"{name}: 'histogram' is not a list of [bin, count]")
            entry = Fields({"bin": pair[0], "count": pair[1]}, f"{name}: 'histogram'")
            histogram[entry.integer("bin", 0, _NUM_BINS - 1)] = entry.integer("count", 1, count)
        if sum(histogram.values()) != count:
            raise CorruptStoreError(f"{name}: 'histogram' does not hold 'count' rows")
        return cls(
            temperature=fields.number("temperature"),
            count=count,
            kl_ticks=fields.integer("kl_ticks", 0, 1 << 256),
            kl_max=fields.number("kl_max"),
            top1_count=fields.integer("top1_count", 0, count),
            histogram=histogram,
        )


def _bins(kl: NDArray[np.float64]) -> NDArray[np.int64]:
    # Linear bins inside each octave come from the float's own bits: exact on every machine, unlike a logarithm.
    mantissa, exponent = np.frexp(kl)
    octave = exponent.astype(np.int64) - 1 - _LOW_EXPONENT
    bins = octave * _BINS_PER_OCTAVE + ((mantissa - 0.5) * 2 * _BINS_PER_OCTAVE).astype(np.int64)
    bins[kl < 2.0**_LOW_EXPONENT] = 0
    return np.minimum(bins, _NUM_BINS - 1)


def _upper_edge(bin_index: int) -> float:
    octave, step = divmod(bin_index, _BINS_PER_OCTAVE)
    return math.ldexp(1.0 + (step + 1) / _BINS_PER_OCTAVE, octave + _LOW_EXPONENT)
