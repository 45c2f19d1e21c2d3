"""How a transfer set is cut into units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reinforce.data import Listing

MIN_UNITS = 8
"""A small set is still cut into this many units, so that a killed build loses little of it ..."""
MIN_UNIT_ROWS = 32
"""... but into none smaller than this."""
UNIT_VIEWS = 16384
"""Views a unit, at which a kill costs a minute or so of a teacher; large N: no fewer rows than the next constant."""
MIN_ROWS_OF_MANY_VIEWS = 512
BYTES_PER_TARGET = 4
BYTES_PER_PIXEL = 4
"""Pillow keeps RGB in four bytes."""


@dataclass(frozen=True)
class Unit:
    """Samples [start, stop) of the listing, all in one shard; they fill the first rows of the unit."""

    index: int
    shard: int
    start: int
    stop: int


def choose_unit_rows(listing: Listing, views: int, size_px: int, num_classes: int, budget_bytes: int) -> int:
    """Rows a unit: as many as `budget_bytes` of decoded images hold, and as many of their targets in float32."""
    by_targets = budget_bytes // (BYTES_PER_TARGET * views * num_classes)
    by_memory = budget_bytes // max(1, round(mean_decoded_bytes(listing, size_px)))
    by_kill = max(UNIT_VIEWS // views, MIN_ROWS_OF_MANY_VIEWS)
    by_count = max(MIN_UNIT_ROWS, math.ceil(len(listing.keys) / MIN_UNITS))
    return max(1, min(by_memory, by_targets, by_kill, by_count, max(listing.shard_sizes)))


def mean_decoded_bytes(listing: Listing, size_px: int) -> float:
    """Mean size of a decoded working image: the view policy's decode rule reduces large ones by whole factors."""
    width, height = listing.width.astype(np.float64), listing.height.astype(np.float64)
    known = (width > 0) & (height > 0)
    if not known.any():
        return 1.0
    width, height = width[known], height[known]
    factor = np.maximum(1, np.minimum(width, height) // (4 * size_px))
    return float(np.mean(np.ceil(width / factor) * np.ceil(height / factor)) * BYTES_PER_PIXEL)


def cut_units(shard_sizes: Sequence[int], unit_rows: int) -> list[Unit]:
    """Units in listing order; a shard's last unit may be shorter, and none crosses a shard."""
    units: list[Unit] = []
    first = 0
    for shard, size in enumerate(shard_sizes):
        for start in range(first, first + size, unit_rows):
            units.append(Unit(len(units), shard, start, min(start + unit_rows, first + size)))
        first += size
    return units
