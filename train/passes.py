"""All rows of some data once: a model is measured on them, over and over while it trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from train.batches import Batch, Rows, SkippedImages, TrainingData, make_loader, steps_in_epoch

if TYPE_CHECKING:
    from reinforce.progress import Progress

    from train.world import World

KEPT_BYTES = 512 << 20
"""Loaded batches that a pass keeps to be made again. Some 3,500 images of 224 px."""


class Pass:
    """Every row once, as epoch 0 shows it (or as each of `epochs` does, one after the other); the ranks of `world`
    share the rows of a batch.

    Can be made again. With `keeps`, its batches stay in memory if all of them fit into KEPT_BYTES: images are decoded
    once for all evaluations of a training, and the processes that decode them start once.
    """

    def __init__(self, data: TrainingData, batch_size: int, *, world: World, workers: int,
                 epochs: int = 1, keeps: bool = False) -> None:  # fmt: skip
        self.data, self.batch_size, self.world, self.workers = data, batch_size, world, workers
        self.epochs = epochs
        self._keeps = keeps
        self._kept: list[Batch] = []
        self._kept_bytes = 0
        self._is_whole = False

    @property
    def num_rows(self) -> int:
        """Of an epoch, on all ranks."""
        return len(self.data.epoch_order(0))

    def __iter__(self) -> Iterator[Batch]:
        if self._is_whole:
            yield from self._kept
            return
        self._kept, self._kept_bytes = [], 0
        for batch in self._loaded():
            yield self._kept_copy(batch) if self._keeps else batch
        self._is_whole = self._keeps

    def _loaded(self) -> Iterator[Batch]:
        total = self.epochs * steps_in_epoch(self.num_rows, self.batch_size)
        return make_loader(self.data, self.batch_size, start=0, total=total, world=self.world, workers=self.workers)

    def _kept_copy(self, batch: Batch) -> Batch:
        """Kept, unless it is one too many: then none is."""
        self._kept_bytes += batch.num_bytes
        if self._kept_bytes > KEPT_BYTES:
            self._keeps, self._kept = False, []
            return batch
        self._kept.append(batch.copied())
        return self._kept[-1]


class InOrder:
    """Fixed views of the same rows, by id instead of shuffled: epoch e shows the e-th pair of (data, its view)."""

    def __init__(self, views: Sequence[tuple[TrainingData, int]]) -> None:
        self.views = views

    def epoch_order(self, epoch: int) -> Rows:
        return np.sort(self.views[0][0].epoch_order(0))

    def load(self, rows: Rows, epoch: int) -> Batch:
        data, view = self.views[epoch]
        return data.load(rows, view)


def readable(batches: Iterable[Batch], skipped: SkippedImages, progress: Progress | None = None) -> Iterator[Batch]:
    """Those that have a row; what could not be decoded is noted, and progress follows."""
    for batch in batches:
        skipped.note(batch, progress)
        if len(batch):
            yield batch
        if progress is not None:
            progress.update(batch.num_global)
