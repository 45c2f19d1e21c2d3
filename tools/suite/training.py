"""One student on one store, trained from its targets, plain labels and the live teacher, step by step in turns.

    B = batch, C = classes, P = the student's input side, h, w = sides of a map
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from reinforce.dataset import ReinforcedDataset, open_dataset
from reinforce.models import Preprocess
from suite.inputs import Network
from suite.timing import Clock, Times
from train.batches import Batch, Rows, TrainingData
from train.cached import CachedViews
from train.loop import LoopPlan, TrainingLoop
from train.matching import LogitMatching
from train.online import LiveTeacher
from train.rundir import MetricsLog
from train.students import make_model
from train.world import World

Loss = Callable[[nn.Module, Batch], Tensor]


class LabelledViews:
    """The same images under the same views in the same order, with a class id each: what a plain training reads."""

    def __init__(self, dataset: ReinforcedDataset) -> None:
        self.dataset = dataset

    def epoch_order(self, epoch: int) -> Rows:
        return self.dataset.epoch_order(epoch)

    def load(self, rows: Rows, epoch: int) -> Batch:
        """`inputs` uint8 (B, S, S, 3), `targets` int64 (B,)."""
        views = self.dataset.view_index(rows, epoch)
        units, local = np.divmod(rows, self.dataset.store.unit_rows)
        places = zip(units.tolist(), local.tolist(), views.tolist(), strict=True)
        images = np.stack([self.dataset.replayer(unit).view(row, view) for unit, row, view in places])
        return Batch(torch.from_numpy(images), torch.from_numpy(rows % self.dataset.num_channels))


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to train: what a batch is, and the loss."""

    data: TrainingData
    loss: Loss


class InTurns:
    """Batches of several ways by turns: an epoch is one batch here, of way epoch mod their number."""

    def __init__(self, ways: Sequence[Way], batch_size: int, started: Callable[[], None]) -> None:
        """`started` is called before a batch is loaded, where that happens in this process."""
        self.ways, self.batch_size, self.started = ways, batch_size, started

    def epoch_order(self, epoch: int) -> Rows:
        order = self.ways[0].data.epoch_order(0)
        first = epoch // len(self.ways) * self.batch_size
        return order[np.arange(first, first + self.batch_size) % len(order)]

    def load(self, rows: Rows, epoch: int) -> Batch:
        self.started()
        return self.ways[epoch % len(self.ways)].data.load(rows, epoch // len(self.ways))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"started": _nothing, "ways": [Way(way.data, _no_loss) for way in self.ways]}


def _nothing() -> None:
    pass


def _no_loss(model: nn.Module, batch: Batch) -> Tensor:
    raise NotImplementedError


@dataclasses.dataclass
class Student:
    """A student to be trained on a store, for its time alone."""

    network: Network
    cache: str
    device: str
    batch_size: int
    workers: int

    def __post_init__(self) -> None:
        self.clock = Clock(self.device, self.workers)
        self.dataset = open_dataset(self.cache)
        self.module, info = make_model(self.network.architecture, class_names=self.dataset.store.class_names,
                                       image_size=self.network.image_size, seed=0, task=self.network.task,
                                       head="linear" if self.network.task == "segmentation" else None)  # fmt: skip
        self.preprocess = Preprocess.from_info(info)
        self.matching = LogitMatching(self.dataset.store.temperature or 1.0)

    def from_store(self) -> Way:
        return Way(CachedViews(self.dataset, seed=0), self._matched)

    def from_labels(self) -> Way:
        """Of classification. Images that are kept decoded for one way are no help to another."""
        return Way(LabelledViews(open_dataset(self.cache)), self._cross_entropy)

    def from_teacher(self, teacher: LiveTeacher) -> Way:
        """The targets are computed at every step, as without a store."""
        data = CachedViews(open_dataset(self.cache), seed=0)
        return Way(data, lambda model, batch: self._matched(model, teacher.relabelled(batch)))

    def train(self, ways: Mapping[str, Way], rounds: int) -> tuple[Times, float]:
        """Seconds of a step each way, round by round, the first round left out; and the share of waiting for data.

        A step is timed from the moment its batch is loaded or, where other processes load, from its forward, to that
        of the next.
        """
        starts: list[float] = []

        def note() -> None:
            starts.append(self.clock())

        turns = InTurns(list(ways.values()), self.batch_size, note if self.workers == 0 else _nothing)
        count = 0

        def loss(model: nn.Module, batch: Batch) -> Tensor:
            nonlocal count
            if self.workers > 0:
                note()
            count += 1
            return turns.ways[(count - 1) % len(ways)].loss(model, batch)

        wait = self._run(turns, loss, len(ways) * (rounds + 1) + 1)
        taken = np.diff(starts)[len(ways) :].reshape(rounds, len(ways))
        return {name: taken[:, i].tolist() for i, name in enumerate(ways)}, wait

    def _run(self, data: TrainingData, loss: Loss, steps: int) -> float:
        """Share of the wall time that was spent waiting for data."""
        plan = LoopPlan(lr=1e-4, total_steps=steps, batch_size=self.batch_size, log_every=steps, quiet=True,
                        workers=self.workers)  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            log = MetricsLog(Path(folder, "metrics.jsonl"))
            TrainingLoop(self.module, data, loss, plan, world=World(torch.device(self.device)), folder=Path(folder),
                         log=log).run()  # fmt: skip
            return float(log.lines()[0]["data_wait"])

    def _matched(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.matching.loss(model, self.preprocess(batch.inputs), batch)

    def _cross_entropy(self, model: nn.Module, batch: Batch) -> Tensor:
        return nn.functional.cross_entropy(model(self.preprocess(batch.inputs)), batch.targets)
