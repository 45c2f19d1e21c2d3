"""How close stored targets are to the teacher's: statistics of the rows' errors that merge exactly.

B = views x rows of a unit, C = channels.
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
from reinforce.store.measures import CosineDistance, Divergence, Measure, parse_measure

TICK = 2.0**-50
"""Errors are summed as integer multiples of this, so that no order of summing changes a digit."""
_LOW_EXPONENT, _HIGH_EXPONENT, _BINS_PER_OCTAVE = -50, 14, 8
_NUM_BINS = (_HIGH_EXPONENT - _LOW_EXPONENT) * _BINS_PER_OCTAVE


@dataclass(frozen=True, kw_only=True)
class FidelityStats:
    """Statistics of many rows' errors by one measure; `merge` is exact, associative and commutative.

    The mean comes from an integer sum of ticks (2^-50), percentiles from a histogram with 8 bins an octave, whose
    upper edges they report: never below the true percentile, at most 12.5 % (and 2^-49) above it.
    """

    measure: Measure
    count: int = 0
    ticks: int = 0
    worst: float = 0.0
    top1_count: int = 0
    histogram: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, targets_BC: NDArray[Any], decoded_BC: NDArray[Any], measure: Measure) -> FidelityStats:
        """Statistics of these rows; give only real ones (no padding, no skipped). Raises as `Measure.errors`."""
        errors = measure.errors(targets_BC, decoded_BC)
        if not len(errors):
            return cls(measure=measure)
        bins, counts = np.unique(_bins(errors), return_counts=True)
        return cls(
            measure=measure,
            count=len(errors),
            ticks=sum(int(ticks) for ticks in np.rint(errors / TICK).tolist()),
            worst=float(errors.max()),
            top1_count=measure.num_agreeing(targets_BC, decoded_BC),
            histogram=dict(zip(bins.tolist(), counts.tolist(), strict=True)),
        )

    def merge(self, other: FidelityStats) -> FidelityStats:
        """Statistics of both sets of rows together. Raises CorruptStoreError where the measures differ."""
        if self.measure != other.measure:
            raise CorruptStoreError(f"fidelity was measured otherwise: {self.measure} and {other.measure}")
        histogram = dict(self.histogram)
        for bin_index, count in other.histogram.items():
            histogram[bin_index] = histogram.get(bin_index, 0) + count
        return FidelityStats(
            measure=self.measure,
            count=self.count + other.count,
            ticks=self.ticks + other.ticks,
            worst=max(self.worst, other.worst),
            top1_count=self.top1_count + other.top1_count,
            histogram=dict(sorted(histogram.items())),
        )

    @classmethod
    def merge_all(cls, stats: Iterable[FidelityStats], measure: Measure) -> FidelityStats:
        total = cls(measure=measure)
        for one in stats:
            total = total.merge(one)
        return total

    @property
    def mean(self) -> float:
        """0 where there are no rows."""
        return self.ticks / self.count * TICK if self.count else 0.0

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
                return min(_upper_edge(bin_index), self.worst)
        return 0.0

    def certified(self) -> dict[str, float]:
        """What a certificate says: kl_mean (or of another measure), _p50, _p99, _max, and of logits top1_agreement."""
        prefix = self.measure.prefix
        figures = {"mean": self.mean, "p50": self.percentile(0.5), "p99": self.percentile(0.99), "max": self.worst}
        agreement = {"top1_agreement": self.top1_agreement} if self._counts_top1 else {}
        return {f"{prefix}_{name}": value for name, value in figures.items()} | agreement | self.measure.to_json()

    def to_json(self) -> dict[str, Any]:
        prefix = self.measure.prefix
        return {
            **self.measure.to_json(),
            "count": self.count,
            f"{prefix}_ticks": self.ticks,
            f"{prefix}_max": self.worst,
            **({"top1_count": self.top1_count} if self._counts_top1 else {}),
            "histogram": [[bin_index, self.histogram[bin_index]] for bin_index in sorted(self.histogram)],
        }

    @classmethod
    def from_json(cls, document: object, name: str = "fidelity") -> FidelityStats:
        """Inverse of `to_json`. Raises CorruptStoreError naming the wrong member."""
        fields = Fields(document, name)
        is_features = f"{CosineDistance.prefix}_ticks" in fields.members
        measure = parse_measure(fields.members, name, is_features=is_features)
        count = fields.integer("count", 0, 1 << 62)
        return cls(
            measure=measure,
            count=count,
            ticks=fields.integer(f"{measure.prefix}_ticks", 0, 1 << 256),
            worst=fields.number(f"{measure.prefix}_max"),
            top1_count=0 if is_features else fields.integer("top1_count", 0, count),
            histogram=_histogram(fields, count),
        )

    @property
    def _counts_top1(self) -> bool:
        return isinstance(self.measure, Divergence)


def _histogram(fields: Fields, count: int) -> dict[int, int]:
    histogram = {}
    for pair in fields.items("histogram"):
        if not isinstance(pair, list) or len(pair) != 2:
            raise CorruptStoreError(f"{fields.name}: 'histogram' is not a list of [bin, count]")
        entry = Fields({"bin": pair[0], "count": pair[1]}, f"{fields.name}: 'histogram'")
        histogram[entry.integer("bin", 0, _NUM_BINS - 1)] = entry.integer("count", 1, count)
    if sum(histogram.values()) != count:
        raise CorruptStoreError(f"{fields.name}: 'histogram' does not hold 'count' rows")
    return histogram


def _bins(errors: NDArray[np.float64]) -> NDArray[np.int64]:
    # Linear bins inside each octave come from the float's own bits: exact on every machine, unlike a logarithm.
    mantissa, exponent = np.frexp(errors)
    octave = exponent.astype(np.int64) - 1 - _LOW_EXPONENT
    bins = octave * _BINS_PER_OCTAVE + ((mantissa - 0.5) * 2 * _BINS_PER_OCTAVE).astype(np.int64)
    bins[errors < 2.0**_LOW_EXPONENT] = 0
    return np.minimum(bins, _NUM_BINS - 1)


def _upper_edge(bin_index: int) -> float:
    octave, step = divmod(bin_index, _BINS_PER_OCTAVE)
    return math.ldexp(1.0 + (step + 1) / _BINS_PER_OCTAVE, octave + _LOW_EXPONENT)
