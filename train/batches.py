"""From rows to batches: a sample order that is a function of (seed, epoch), cut into steps, split over ranks.

The order knows nothing of processes: rank r of n takes the r-th of n pieces of every global batch, so that any number
of ranks and of workers sees the same batches, and a resumed run starts at any step without replaying earlier ones.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from reinforce.errors import ReinforceError
from reinforce.progress import Progress
from reinforce.worker_process import as_it_is, enter_worker, raise_errors
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from train.world import World, loader_workers

Rows = NDArray[np.int64]

MOST_BATCHES_AHEAD = 4
LOADED_AHEAD_BYTES = 4 << 30
"""Memory of loaded batches that wait, over all workers of a rank, unless one batch a worker is more."""


@dataclasses.dataclass
class Batch:
    """One step's share of a rank.

    `inputs`: uint8 images (B, S, S, 3) or float features, (B, D) or maps (B, D, h, w); `targets`: soft labels or logits
    (B, C) float, maps of logits (B, h, w, C) float, or class ids of pixels (B, S, S) uint8.

    `skipped`: (key, reason) of rows that could not be decoded; another row stands in their place.
    `num_global`: rows of the step over all ranks.
    `valid`: bool (B, S, S), the pixels that count, where the targets cannot say so.
    `num_counted`: how many pixels the loss is a mean of; None where it is a mean of rows.
    """

    inputs: Tensor
    targets: Tensor
    skipped: tuple[tuple[str, str], ...] = ()
    num_global: int = 0
    valid: Tensor | None = None
    num_counted: int | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def num_bytes(self) -> int:
        """Memory of its tensors."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, Tensor))

    def copied(self) -> Self:
        """In this process's own memory: a worker's tensors are shared, and each holds a file open; or are pinned."""
        return self._each(Tensor.clone)

    def to(self, device: torch.device) -> Self:
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        return self._each(Tensor.pin_memory)

    def _each(self, move: Callable[[Tensor], Tensor]) -> Self:
        moved: dict[str, Any] = {name: move(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return dataclasses.replace(self, **moved)


@dataclasses.dataclass
class SkippedImages:
    """Labelled images that could not be decoded: each is named once, and counted in the result."""

    quiet: bool = False
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)

    def note(self, batch: Batch, progress: Progress | None = None) -> None:
        self._add(batch.skipped, progress)

    def share(self, world: World, progress: Progress | None = None) -> None:
        """From here on those of all ranks; every rank must ask."""
        for reasons in world.gather(dict(self.reasons)):
            self._add(reasons.items(), progress)

    def _add(self, skipped: Iterable[tuple[str, str]], progress: Progress | None) -> None:
        for key, reason in skipped:
            if key not in self.reasons:
                self.reasons[key] = reason
                line = f"warning: skipped {key}: {reason}"
                if progress is not None:
                    progress.write(line)
                elif not self.quiet:
                    sys.stderr.write(line + "\n")


class TrainingData(Protocol):
    """Rows that can be loaded in any order; pickles, because workers load it.

    May have `row_bytes`, the size of a loaded row where it is large: fewer batches are then loaded ahead.
    """

    def epoch_order(self, epoch: int) -> Rows:
        """Row ids of an epoch in training order; every epoch has the same length."""

    def load(self, rows: Rows, epoch: int) -> Batch:
        """The rows as epoch `epoch` shows them: a pure function of its arguments."""


def shuffled(num_rows: int, *, seed: int, epoch: int) -> Rows:
    """Row ids 0..num_rows-1, shuffled by (seed, epoch)."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(num_rows).astype(np.int64)


def steps_in_epoch(num_rows: int, batch_size: int) -> int:
    """Steps that an epoch is cut into: as few as batches of at most `batch_size` allow."""
    return max(1, -(-num_rows // batch_size))


@dataclasses.dataclass(frozen=True)
class StepRows:
    epoch: int
    rows: Rows
    num_global: int


class StepSampler(Sampler[StepRows]):
    """Rows of steps start..total-1 for one rank; an epoch is cut into batches whose sizes differ by one at most."""

    def __init__(self, data: TrainingData, batch_size: int, *, start: int, total: int, rank: int = 0,
                 world_size: int = 1) -> None:  # fmt: skip
        self.data, self.batch_size = data, batch_size
        self.start, self.total = start, total
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return self.total - self.start

    def __iter__(self) -> Iterator[StepRows]:
        step = self.start
        order = self.data.epoch_order(0)
        per_epoch = steps_in_epoch(len(order), self.batch_size)
        while step < self.total:
            epoch, first = divmod(step, per_epoch)
            batches = np.array_split(self.data.epoch_order(epoch), per_epoch)
            for rows in batches[first : first + self.total - step]:
                yield StepRows(epoch, np.array_split(rows, self.world_size)[self.rank], len(rows))
                step += 1


def batches_ahead(bytes_of_one_each: int) -> int:
    """Batches that a worker loads ahead: 4, fewer where those of all workers would not fit LOADED_AHEAD_BYTES."""
    return max(1, min(MOST_BATCHES_AHEAD, LOADED_AHEAD_BYTES // max(bytes_of_one_each, 1)))


class _StepDataset(Dataset[Batch | ReinforceError]):
    def __init__(self, data: TrainingData) -> None:
        self.data = data

    def __getitem__(self, index: Any) -> Batch | ReinforceError:
        step: StepRows = index
        try:
            batch = self.data.load(step.rows, step.epoch)
        except ReinforceError as error:
            return error
        batch.num_global = step.num_global
        return batch


def make_loader(data: TrainingData, batch_size: int, *, start: int, total: int, world: World,
                workers: int) -> Iterator[Batch]:  # fmt: skip
    """Batches of steps start..total-1 in order, decoded by spawned workers (stores and zarr must not be forked)."""
    sampler = StepSampler(data, batch_size, start=start, total=total, rank=world.rank, world_size=world.size)
    num_workers = loader_workers(workers, world.device)
    ahead = batches_ahead(getattr(data, "row_bytes", 0) * batch_size * max(num_workers, 1))
    spawned: dict[str, Any] = {"multiprocessing_context": "spawn", "prefetch_factor": ahead} if num_workers else {}
    loader = DataLoader(_StepDataset(data), sampler=sampler, batch_size=None, num_workers=num_workers,
                      collate_fn=as_it_is, worker_init_fn=enter_worker, generator=torch.Generator().manual_seed(0),
                      pin_memory=world.device.type == "cuda", **spawned)  # fmt: skip
    return raise_errors(loader)
