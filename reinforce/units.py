"""How a transfer set is cut into units."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reinforce.errors import UsageError
from reinforce.store.canonical import MAX_JSON_BYTES

if TYPE_CHECKING:
    from reinforce.data import Listing

MIN_UNITS = 8
"""A small set is still cut into this many units, so that a killed build loses little of it ..."""
MIN_UNIT_ROWS = 32
"""... but into none smaller than this."""
UNIT_VIEWS = 16000
"""Views a unit, at which a kill costs a minute or so of a teacher; large N: no fewer rows than the next constant.

No power of two: planes of 2048 rows take four times as long to transpose as planes of 2000."""
MIN_ROWS_OF_MANY_VIEWS = 500
MOST_UNITS = 8192
"""A unit is an object in the folder of every array: folders of over 10,000 are slow in many places. Where memory does
not hold the targets of larger units, there are more all the same."""
RECORD_BYTES, PIXEL_RECORD_BYTES = 1000, 2800
"""What `units.json` keeps of a unit, mostly the histogram of its errors: some 400 to 900 bytes, of the pixels of maps
up to 2,700, since they spread over more octaves. Its lines in the manifest are fewer."""
LEAST_PLANES = 24
"""Views of as many units that one unit's memory must have room for: a reader goes through 16 and reads 8 ahead."""
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


def choose_unit_rows(shard_sizes: Sequence[int], views: int, num_values: int, budget_bytes: int) -> int:
    """Rows a unit: as a kill costs, as there are samples, as folders hold units, and never more than `budget_bytes`
    hold of their targets (`num_values` float32 each). Never fewer than one."""
    num_samples = sum(shard_sizes)
    by_targets = budget_bytes // bytes_of_units(1, views, num_values)
    by_kill = max(UNIT_VIEWS // views, MIN_ROWS_OF_MANY_VIEWS)
    by_count = max(MIN_UNIT_ROWS, math.ceil(num_samples / MIN_UNITS))
    wanted = max(min(by_kill, by_count), math.ceil(num_samples / MOST_UNITS))
    return max(1, min(wanted, by_targets, max(shard_sizes)))


def check_count(num_units: int, num_shards: int, budget_mb: int, *, of_pixels: bool) -> None:
    """Raises UsageError for more units than are listed in JSON that readers take: such a store could be built, and not
    be verified or repaired."""
    most = MAX_JSON_BYTES // (PIXEL_RECORD_BYTES if of_pixels else RECORD_BYTES)
    if num_units > most:
        raise UsageError(f"{num_units} units are more than the {most} that a store can list: "
                         f"{fewer_units(num_units, most, num_shards, budget_mb)}")  # fmt: skip


def fewer_units(num_units: int, most: int, num_shards: int, budget_mb: int) -> str:
    """What to type to have `most` of them: each shard has one at least."""
    if num_shards > most:
        return "pack the images into larger tars, reinforce pack --shard-mb"
    return f"type --unit-budget-mb {-(-budget_mb * num_units // most)} or more"


def bytes_of_units(unit_rows: int, views: int, num_values: int) -> int:
    """Memory for the targets that are held at once of units of so many rows."""
    return BYTES_PER_TARGET * max(views, LEAST_PLANES) * num_values * unit_rows


def check_memory(store: str, unit_rows: int, views: int, num_values: int, budget_mb: int) -> None:
    """Raises UsageError where the targets of units that are cut already are more than the budget."""
    needed = bytes_of_units(unit_rows, views, num_values)
    if needed > budget_mb << 20:
        least = -(-needed >> 20)
        raise UsageError(f"the units of {store} have {unit_rows} rows: type --unit-budget-mb {least} or more")


def choose_block_rows(listing: Listing, size_px: int, unit_rows: int, budget_bytes: int) -> int:
    """Rows of a unit whose decoded images `budget_bytes` hold together."""
    return max(1, min(unit_rows, budget_bytes // max(1, round(mean_decoded_bytes(listing, size_px)))))


def unit_pairs(num_rows: int, views: int, block_rows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(num_rows * views,) view and row of a unit's pairs in the order in which they are rendered.

    Block by block, so that a block's images are decoded once, and within it view by view, so that a mixing partner's
    view is at hand.
    """
    parts = [np.divmod(np.arange(views * (stop - start)), stop - start) + np.array([[0], [start]])
             for start, stop in _blocks(num_rows, block_rows)]  # fmt: skip
    view, row = np.concatenate(parts, axis=1)
    return view, row


def _blocks(num_rows: int, block_rows: int) -> Iterator[tuple[int, int]]:
    for start in range(0, num_rows, block_rows):
        yield start, min(start + block_rows, num_rows)


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
