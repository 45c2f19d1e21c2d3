"""The sample order: a function of (seed, epoch), cut evenly, equal for any rank count, worker count and start."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.batches import (
    Batch,
    Rows,
    SkippedImages,
    StepSampler,
    batches_ahead,
    make_loader,
    shuffled,
    steps_in_epoch,
)
from train.world import World

CPU = World(torch.device("cpu"))


@dataclasses.dataclass(frozen=True)
class Numbers:
    """Row i is the number i."""

    count: int

    def epoch_order(self, epoch: int) -> Rows:
        return shuffled(self.count, seed=7, epoch=epoch)

    def load(self, rows: Rows, epoch: int) -> Batch:
        return Batch(torch.from_numpy(rows), torch.full((len(rows),), epoch))


def rows_of(sampler: StepSampler) -> list[list[int]]:
    return [step.rows.tolist() for step in sampler]


@given(st.integers(1, 60), st.integers(1, 17))
def test_an_epoch_shows_every_row_once_in_even_batches(count: int, batch_size: int) -> None:
    per_epoch = steps_in_epoch(count, batch_size)
    batches = rows_of(StepSampler(Numbers(count), batch_size, start=0, total=per_epoch))
    assert sorted(itertools.chain(*batches)) == list(range(count))
    sizes = {len(batch) for batch in batches}
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(0, 20), st.integers(1, 4))
def test_a_resumed_sampler_goes_on_where_the_first_would(start: int, world_size: int) -> None:
    whole = rows_of(StepSampler(Numbers(23), 6, start=0, total=20, world_size=world_size))
    rest = rows_of(StepSampler(Numbers(23), 6, start=start, total=20, world_size=world_size))
    assert rest == whole[start:]


@given(st.integers(1, 6))
def test_ranks_share_the_same_global_batches(world_size: int) -> None:
    alone = rows_of(StepSampler(Numbers(25), 8, start=0, total=9))
    shares = [
        rows_of(StepSampler(Numbers(25), 8, start=0, total=9, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert [list(itertools.chain(*parts)) for parts in zip(*shares, strict=True)] == alone


def test_epochs_differ_and_repeat() -> None:
    assert shuffled(50, seed=1, epoch=0).tolist() == shuffled(50, seed=1, epoch=0).tolist()
    assert shuffled(50, seed=1, epoch=0).tolist() != shuffled(50, seed=1, epoch=1).tolist()
    assert shuffled(50, seed=1, epoch=0).tolist() != shuffled(50, seed=2, epoch=0).tolist()


@pytest.mark.parametrize("workers", [0, 1])
def test_workers_do_not_change_what_is_loaded(workers: int) -> None:
    loader = make_loader(Numbers(10), 4, start=1, total=7, world=CPU, workers=workers)
    loaded = [(batch.inputs.tolist(), batch.targets.tolist(), batch.num_global) for batch in loader]
    steps = list(StepSampler(Numbers(10), 4, start=1, total=7))
    assert loaded == [(s.rows.tolist(), [s.epoch] * len(s.rows), s.num_global) for s in steps]


def test_loading_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(make_loader(Numbers(10), 4, start=0, total=3, world=CPU, workers=0))
    assert torch.equal(torch.get_rng_state(), before)


def test_skipped_images_are_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    batch = Batch(torch.zeros(1), torch.zeros(1), skipped=(("a/b.png", "truncated"),))
    skipped = SkippedImages()
    skipped.note(batch)
    skipped.note(batch)
    assert skipped.reasons == {"a/b.png": "truncated"}
    assert capsys.readouterr().err == "warning: skipped a/b.png: truncated\n"


def test_order_is_golden() -> None:
    """The order is part of what a resumed run relies on, across versions."""
    assert shuffled(8, seed=0, epoch=0).tolist() == [5, 0, 6, 1, 7, 2, 4, 3]
    assert shuffled(8, seed=1, epoch=2).tolist() == [7, 0, 5, 4, 6, 2, 3, 1]


@dataclasses.dataclass
class NamedBatch(Batch):
    names: tuple[str, ...] = ()


def test_a_batch_moves_with_all_its_tensors() -> None:
    batch = NamedBatch(torch.zeros(2, 3), torch.ones(2, 4, 4), (("a", "b"),), 5, torch.ones(2, 4, 4) > 0, 9, ("x", "y"))
    moved = batch.to(torch.device("meta"))
    assert [tensor.device.type for tensor in (moved.inputs, moved.targets, moved.valid)] == ["meta"] * 3
    assert (moved.skipped, moved.num_global, moved.num_counted, moved.names) == ((("a", "b"),), 5, 9, ("x", "y"))
    assert len(moved) == 2


@pytest.mark.parametrize(
    ("row_bytes", "batch_size", "workers", "ahead"),
    [
        pytest.param(0, 64, 8, 4, id="small rows"),
        pytest.param(3_500_000, 128, 8, 1, id="150 classes at 512 px"),
        pytest.param(3_500_000, 32, 8, 4, id="in smaller batches"),
        pytest.param(1 << 40, 1, 1, 1, id="at least one"),
    ],
)
def test_large_batches_are_loaded_less_far_ahead(row_bytes: int, batch_size: int, workers: int, ahead: int) -> None:
    assert batches_ahead(row_bytes * batch_size * workers) == ahead
