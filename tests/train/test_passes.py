"""A pass over all rows: each once, in the same batches every time, loaded once where they are kept."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from train import passes
from train.batches import Batch, Rows, SkippedImages
from train.masked import MaskedBatch, Truth
from train.passes import InOrder, Pass, readable
from train.world import World

CPU = World(torch.device("cpu"))


@dataclasses.dataclass
class Counted:
    """Row i is the number i, its target the view and the process that loaded it; rows are of 8 + 16 bytes."""

    count: int
    loads: list[list[int]] = dataclasses.field(default_factory=list)

    def epoch_order(self, epoch: int) -> Rows:
        return np.arange(self.count, dtype=np.int64)[::-1]

    def load(self, rows: Rows, epoch: int) -> Batch:
        self.loads.append(rows.tolist())
        targets = torch.tensor([[epoch, os.getpid()]] * len(rows))
        return Batch(torch.from_numpy(rows.copy()), targets, skipped=tuple((str(row), "broken") for row in rows[:1]))


class Masked(Counted):
    """Row i has a mask of i."""

    def load(self, rows: Rows, epoch: int) -> Batch:
        truths = [Truth(row, np.full((4, 5), row, np.uint8), (0, 0, 4, 5)) for row in rows.tolist()]
        return MaskedBatch(torch.from_numpy(rows.copy()), torch.zeros(len(rows)), truths=tuple(truths))


def num_open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def rows_of(batches: Pass) -> list[list[int]]:
    return [batch.inputs.tolist() for batch in batches]


class TestPass:
    @pytest.mark.parametrize("keeps", [False, True])
    def test_shows_every_row_once_in_the_same_batches_every_time(self, keeps: bool) -> None:
        rows = Pass(Counted(7), 3, world=CPU, workers=0, keeps=keeps)
        assert [rows_of(rows) for _ in range(3)] == 3 * [[[6, 5, 4], [3, 2], [1, 0]]]
        assert rows.num_rows == 7

    @pytest.mark.parametrize(("keeps", "num_loads"), [(False, 9), (True, 3)])
    def test_loads_once_what_it_keeps(self, keeps: bool, num_loads: int) -> None:
        data = Counted(7)
        rows = Pass(data, 3, world=CPU, workers=0, keeps=keeps)
        for _ in range(3):
            list(rows)
        assert len(data.loads) == num_loads

    @pytest.mark.parametrize(("room", "num_loads"), [(7 * 24, 3), (7 * 24 - 1, 6)])
    def test_keeps_all_or_nothing(self, monkeypatch: pytest.MonkeyPatch, room: int, num_loads: int) -> None:
        monkeypatch.setattr(passes, "KEPT_BYTES", room)
        data = Counted(7)
        rows = Pass(data, 3, world=CPU, workers=0, keeps=True)
        assert rows_of(rows) == rows_of(rows)
        assert len(data.loads) == num_loads
        assert sum(batch.num_bytes for batch in rows._kept) in (0, 7 * 24)

    def test_that_was_left_half_way_begins_anew(self) -> None:
        rows = Pass(Counted(7), 3, world=CPU, workers=0, keeps=True)
        next(iter(rows))
        assert rows_of(rows) == [[6, 5, 4], [3, 2], [1, 0]]
        assert rows_of(rows) == [[6, 5, 4], [3, 2], [1, 0]]

    def test_starts_its_processes_once(self) -> None:
        rows = Pass(Counted(7), 3, world=CPU, workers=1, keeps=True)
        first, second = ({int(batch.targets[0, 1]) for batch in rows} for _ in range(2))
        assert first == second
        assert os.getpid() not in first

    @pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc")
    def test_keeps_no_file_of_a_process_open(self) -> None:
        """Each tensor that a process hands over is one, until it is let go."""
        rows, before = Pass(Masked(200), 3, world=CPU, workers=1, keeps=True), num_open_files()
        for _ in range(2):
            for batch in rows:
                assert isinstance(batch, MaskedBatch)
                assert [int(truth.mask[0, 0]) for truth in batch.truths] == batch.inputs.tolist()
        assert num_open_files() < before + 20

    def test_of_ranks_shares_the_rows(self) -> None:
        shares = [rows_of(Pass(Counted(7), 4, world=dataclasses.replace(CPU, rank=rank, size=2), workers=0))
                  for rank in range(2)]  # fmt: skip
        assert [one + two for one, two in zip(*shares, strict=True)] == [[6, 5, 4, 3], [2, 1, 0]]

    def test_names_what_was_skipped_every_time(self) -> None:
        rows = Pass(Counted(7), 3, world=CPU, workers=0, keeps=True)
        for skipped in (SkippedImages(quiet=True), SkippedImages(quiet=True)):
            list(readable(rows, skipped))
            assert sorted(skipped.reasons) == ["1", "3", "6"]


class TestInOrder:
    def test_shows_a_view_an_epoch_of_rows_by_id(self) -> None:
        one, other = Counted(5), Counted(5)
        rows = Pass(InOrder([(one, 0), (other, 4), (other, 2)]), 3, world=CPU, workers=0, epochs=3)
        batches = list(rows)
        assert [batch.inputs.tolist() for batch in batches] == 3 * [[0, 1, 2], [3, 4]]
        assert [int(batch.targets[0, 0]) for batch in batches] == [0, 0, 4, 4, 2, 2]
        assert one.loads == [[0, 1, 2], [3, 4]]

    def test_starts_its_processes_once_for_all_views(self) -> None:
        rows = Pass(InOrder([(Counted(4), view) for view in range(3)]), 2, world=CPU, workers=1, epochs=3)
        assert len({int(batch.targets[0, 1]) for batch in rows}) == 1


def test_masks_of_the_images_own_size_count_as_memory() -> None:
    truth = Truth(0, np.zeros((40, 50), np.uint8), (0, 0, 8, 8))
    images, labels = torch.zeros(1, 8, 8, 3, dtype=torch.uint8), torch.zeros(1, 8, 8, dtype=torch.uint8)
    assert MaskedBatch(images, labels, truths=(truth,)).num_bytes == 192 + 64 + 2000
