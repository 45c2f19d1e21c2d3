"""How a listing is cut into units."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinforce.data import Listing
from reinforce.errors import UsageError
from reinforce.units import (
    Unit,
    check_count,
    choose_block_rows,
    choose_unit_rows,
    cut_units,
    mean_decoded_bytes,
    unit_pairs,
)


def listing(num: int, width: int = 100, height: int = 80, shard_size: int | None = None) -> Listing:
    shard_size = shard_size or num
    sizes = [min(shard_size, num - start) for start in range(0, num, shard_size)]
    return Listing.from_columns(
        shard_names=[f"s{i}" for i in range(len(sizes))],
        shard_sizes=sizes,
        keys=[f"{i}.png" for i in range(num)],
        sha64=np.arange(num),
        num_bytes=np.ones(num),
        width=np.full(num, width),
        height=np.full(num, height),
    )


def test_units_never_cross_a_shard() -> None:
    assert cut_units([5, 2], 3) == [Unit(0, 0, 0, 3), Unit(1, 0, 3, 5), Unit(2, 1, 5, 7)]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(1, 60))
def test_units_cover_the_listing_in_order(sizes: list[int], unit_rows: int) -> None:
    units = cut_units(sizes, unit_rows)
    assert [row for unit in units for row in range(unit.start, unit.stop)] == list(range(sum(sizes)))
    assert all(0 < unit.stop - unit.start <= unit_rows for unit in units)
    assert [unit.index for unit in units] == list(range(len(units)))


@pytest.mark.parametrize(
    ("num", "views", "expected"),
    [
        (1_000_000, 10, 1600),  # by the cost of a kill: 16000 views
        (1_000_000, 100, 500),  # ... but not fewer rows than this
        (1_000_000, 1, (256 << 20) // (4 * 24 * 1000)),  # by memory: as many targets as a reader keeps
        (20_000_000, 10, 2442),  # by the number of objects in a folder
        (10_000_000, 100, (256 << 20) // (4 * 100 * 1000)),  # ... but never over the memory
        (4000, 4, 500),  # small sets: 8 units
        (60, 4, 32),  # ... of 32 rows or more
        (10, 4, 10),  # ... but not more than there are
    ],
    ids=["kill", "many views", "targets", "folder", "memory", "small", "tiny", "ten"],
)
def test_rows_of_a_unit(num: int, views: int, expected: int) -> None:
    assert choose_unit_rows([num], views, 1000, 256 << 20) == expected
    assert 4 * max(views, 24) * 1000 * expected <= 256 << 20


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(100, 80, 1638), (800, 800, 104), (4000, 4000, 67), (0, 0, 1638)],
    ids=["small images", "by memory", "reduced when decoded", "unreadable"],
)
def test_rows_of_a_block(width: int, height: int, expected: int) -> None:
    assert choose_block_rows(listing(3, width, height), 224, 1638, 256 << 20) == expected


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 50))
def test_pairs_go_block_by_block_and_view_by_view(num_rows: int, views: int, block_rows: int) -> None:
    order = [
        (view, row)
        for start in range(0, num_rows, block_rows)
        for view in range(views)
        for row in range(start, min(start + block_rows, num_rows))
    ]
    view, row = unit_pairs(num_rows, views, block_rows)
    assert list(zip(view.tolist(), row.tolist(), strict=True)) == order


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(400, 300, 400 * 300 * 4), (4000, 3000, 1000 * 750 * 4), (0, 0, 1.0)],
    ids=["as it is", "reduced by 4", "unreadable"],
)
def test_decoded_bytes_follow_the_decode_rule(width: int, height: int, expected: float) -> None:
    assert mean_decoded_bytes(listing(3, width, height), size_px=160) == expected


def test_targets_of_many_classes_and_views_bound_a_unit() -> None:
    assert choose_unit_rows([100_000], 100, 21_841, 256 << 20) == (256 << 20) // (4 * 100 * 21_841)


class TestHowManyUnits:
    """154,000 maps, four of them in a unit, could be built once, but not be verified."""

    @pytest.mark.parametrize(
        ("num_units", "num_shards", "of_pixels", "advice"),
        [
            (38_500, 20, True, "type --unit-budget-mb 823 or more"),
            (38_500, 20, False, "type --unit-budget-mb 294 or more"),
            (50_000, 50_000, False, "pack the images into larger tars"),
        ],
    )
    def test_more_than_a_store_lists(self, num_units: int, num_shards: int, of_pixels: bool, advice: str) -> None:
        with pytest.raises(UsageError, match=re.escape(advice)):
            check_count(num_units, num_shards, 256, of_pixels=of_pixels)

    @pytest.mark.parametrize(("num_units", "of_pixels"), [(11_000, True), (33_000, False)])
    def test_as_many_as_it_lists(self, num_units: int, of_pixels: bool) -> None:
        check_count(num_units, 20, 256, of_pixels=of_pixels)
