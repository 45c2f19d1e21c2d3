"""Targets by row: equal to whole planes, within a budget, read ahead, alike in every process."""

from __future__ import annotations

import multiprocessing
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
from tiny_stores import NUM_CLASSES, NUM_VIEWS, UNIT_ROWS, UNITS

from reinforce.errors import CorruptStoreError
from reinforce.store import Store, TargetReader

NUM_ROWS = UNIT_ROWS * len(UNITS)
ROWS, VIEWS = (grid.ravel() for grid in np.meshgrid(np.arange(NUM_ROWS), np.arange(NUM_VIEWS)))
PLANE_BYTES = 4 * UNIT_ROWS * NUM_CLASSES


@pytest.fixture
def store(finished_store: Path) -> Store:
    return Store.open(finished_store)


@pytest.fixture(params=[0, 4 * PLANE_BYTES, 1 << 20], ids=["least", "four planes", "all"])
def reader(store: Store, request: pytest.FixtureRequest) -> TargetReader:
    return TargetReader(store, budget_bytes=request.param)


def planes(store: Store) -> np.ndarray:
    """(V, rows, C)"""
    units = range(store.num_units)
    return np.stack([np.concatenate([store.read_targets(u, v) for u in units]) for v in range(store.num_views)])


class TestAnyRows:
    @pytest.mark.parametrize("seed", range(5))
    @pytest.mark.parametrize("ahead", [False, True])
    def test_in_any_order_equal_the_planes(self, reader: TargetReader, seed: int, ahead: bool) -> None:
        order = np.random.Generator(np.random.Philox(seed)).permutation(len(ROWS))
        expected = planes(reader.store)
        for some in np.array_split(order, 7):
            if ahead:
                reader.prefetch(ROWS[order], VIEWS[order])
            np.testing.assert_array_equal(reader.read(ROWS[some], VIEWS[some]), expected[VIEWS[some], ROWS[some]])

    def test_the_same_row_may_come_twice_and_none_at_all(self, reader: TargetReader) -> None:
        rows = np.array([3, 3, 0, 3])
        twice = reader.read(rows, np.array([1, 1, 0, 2]))
        np.testing.assert_array_equal(twice[0], twice[1])
        assert reader.read(rows[:0], rows[:0]).shape == (0, NUM_CLASSES)

    @pytest.mark.parametrize(
        ("rows", "views"),
        [([-1], [0]), ([NUM_ROWS], [0]), ([0], [NUM_VIEWS]), ([0], [-1]), ([0, 1], [0]), ([[0]], [[0]])],
        ids=str,
    )
    def test_places_that_do_not_exist(self, reader: TargetReader, rows: list[int], views: list[int]) -> None:
        with pytest.raises(IndexError):
            reader.read(np.array(rows), np.array(views))


class TestMemory:
    def test_no_more_planes_are_held_than_the_budget_has_room_for(self, store: Store) -> None:
        reader = TargetReader(store, budget_bytes=4 * PLANE_BYTES)
        for start in range(len(ROWS)):
            reader.prefetch(ROWS[start:], VIEWS[start:])
            reader.read(ROWS[start : start + 1], VIEWS[start : start + 1])
            assert len(reader._kept) + len(reader._ahead) <= 4

    def test_a_plane_in_use_is_read_once(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        reads = []
        read_targets = store.read_targets
        monkeypatch.setattr(store, "read_targets", lambda *place: reads.append(place) or read_targets(*place))
        reader = TargetReader(store)
        for row in range(NUM_ROWS):
            reader.read(np.array([row]), np.array([0]))
        assert reads == [(unit, 0) for unit in range(len(UNITS))]

    def test_what_is_prefetched_is_read_in_another_thread(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        threads = []
        read_targets = store.read_targets
        monkeypatch.setattr(
            store, "read_targets", lambda *place: threads.append(threading.current_thread()) or read_targets(*place)
        )
        reader = TargetReader(store)
        reader.prefetch(ROWS, VIEWS)
        reader.read(ROWS, VIEWS)
        assert len(threads) == len(UNITS) * NUM_VIEWS
        assert threading.main_thread() not in threads

    def test_an_epoch_that_was_broken_off_does_not_stop_reading_ahead(self, store: Store) -> None:
        reader = TargetReader(store, budget_bytes=3 * PLANE_BYTES)
        assert reader.max_ahead == 1
        for row in (0, UNIT_ROWS, 2 * UNIT_ROWS):
            reader.prefetch(np.array([row]), np.array([0]))
            assert list(reader._ahead) == [row // UNIT_ROWS * NUM_VIEWS]


class TestProcesses:
    @pytest.mark.parametrize("method", ["spawn", "fork"])
    def test_a_reader_in_use_works_in_another_process(self, store: Store, method: str) -> None:
        reader = TargetReader(store)
        reader.prefetch(ROWS, VIEWS)
        expected = reader.read(ROWS[:1], VIEWS[:1])
        with multiprocessing.get_context(method).Pool(1) as pool:
            np.testing.assert_array_equal(pool.apply(_read_first, (reader,)), expected)

    def test_a_copy_starts_empty(self, store: Store) -> None:
        reader = TargetReader(store, budget_bytes=123)
        reader.prefetch(ROWS, VIEWS)
        copy = pickle.loads(pickle.dumps(reader))
        assert copy.budget_bytes == 123
        assert not copy._kept


def _read_first(reader: TargetReader) -> np.ndarray:
    return reader.read(ROWS[:1], VIEWS[:1])


def test_a_damaged_unit_is_an_error_when_it_is_read_and_not_before(store_copy: Path) -> None:
    store = Store.open(store_copy)
    path = store_copy / "targets/values/c/0/1/0"
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    reader = TargetReader(store)
    reader.prefetch(ROWS, VIEWS)
    sound = np.array([0]), np.array([0])
    reader.read(*sound)
    with pytest.raises(CorruptStoreError, match="SHA-256"):
        reader.read(np.array([UNIT_ROWS]), np.array([0]))
    reader.read(*sound)
