"""Classification: images with one class each, cross entropy, accuracy, a linear probe on pooled features."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property

import torch
from reinforce.data import LabelledDataset, LabelledSample, named_labelled, shortage, take
from reinforce.models import Preprocess
from reinforce.progress import Progress
from reinforce.views import named_policy
from torch import Tensor, nn

from train.batches import Batch, SkippedImages, TrainingData
from train.labelled import PlainBatch, PlainViews, TrainingViews
from train.losses import cross_entropy
from train.metrics import Tally
from train.optim import autocast
from train.options import LabelledOptions, default_epochs
from train.passes import InOrder, Pass, readable
from train.probe import FeatureTable, Standardisation, extract_features, new_probe, num_probe_views, set_head
from train.tasks import Bench, Task, crop_range, warn_of

PROBE_PASSES = 50_000
PROBE_CROP_SCALE = (0.35, 1.0)
"""Milder crops than a network learns from: a frozen encoder should still see the object."""


class Classification(Task[LabelledDataset, LabelledSample]):
    metric = "accuracy"

    @classmethod
    def open(cls, config: LabelledOptions) -> Classification:
        dataset = named_labelled(config.data)
        samples, asked = dataset.split("train"), {"shots": config.shots, "num_labelled": config.num_labelled}
        warn_of(shortage((sample.label for sample in samples), dataset.class_names, **asked))
        train = take(samples, **asked, limit=config.limit, seed=config.seed)
        val = dataset.splits.get("val", ())
        # A fixed seed: the validation images stay the same ones when --seed draws other training images.
        return cls(dataset, train, take(val, num_labelled=config.val_limit) if val else ())

    def training_data(self, bench: Bench) -> TrainingViews:
        config = bench.config
        policy = named_policy(config.policy or "classification", size_px=bench.info.image_size, seed=config.seed,
                              crop_scale=crop_range(config))  # fmt: skip
        return TrainingViews(self.dataset.source, self.train, policy, num_classes=len(self.class_names),
                             seed=config.seed)  # fmt: skip

    def objective(self, bench: Bench, model: nn.Module, batch: Batch) -> Tensor:
        return cross_entropy(model(bench.preprocess(batch.inputs)), batch.targets)

    def validator(self, bench: Bench) -> Callable[[nn.Module], dict[str, float]]:
        rows = bench.rows(self.plain(bench), keeps=True)
        return lambda model: _scores(tally_labelled(model, rows, bench.preprocess, dtype=bench.dtype,
                                                    skipped=bench.skipped))  # fmt: skip

    def plain(self, bench: Bench) -> PlainViews:
        """The validation images."""
        return PlainViews(self.dataset.source, self.val, num_classes=len(self.class_names),
                          size_px=bench.info.image_size)  # fmt: skip

    def probe(self, bench: Bench) -> PooledProbe:
        return PooledProbe(self, bench)


class PooledProbe:
    """A linear classifier on standardised pooled features, computed once for all learning rates."""

    def __init__(self, task: Classification, bench: Bench) -> None:
        self.task, self.bench = task, bench

    @property
    def data(self) -> FeatureTable:
        return self._tables.train

    @property
    def reads_images(self) -> bool:
        return False

    @property
    def num_epochs(self) -> int:
        return default_epochs(len(self.task.train), image_passes=PROBE_PASSES, shortest=20, longest=300)

    def new_head(self) -> nn.Module:
        return new_probe(self.data.features.shape[-1], len(self.task.class_names))

    def objective(self, head: nn.Module, batch: Batch) -> Tensor:
        return cross_entropy(head(batch.inputs), batch.targets)

    def evaluate(self, head: nn.Module) -> dict[str, float]:
        val = self._tables.val
        assert val is not None
        tally = Tally()
        device = next(head.parameters()).device
        tally.add(head(val.features[0].to(device)), val.targets[0].to(device))
        return _scores(tally)

    def install(self, state: Mapping[str, Tensor]) -> None:
        set_head(self.bench.model, *self._tables.standardisation.fold(state["weight"], state["bias"]))

    @cached_property
    def _tables(self) -> _Tables:
        self.bench.restore()
        config, size, task = self.bench.config, self.bench.info.image_size, self.task
        count = num_probe_views(len(task.train), config.probe_views)
        plain, crops = (
            TrainingViews(task.dataset.source, task.train, policy, num_classes=len(task.class_names), seed=0)
            for policy in (named_policy("center", size_px=size),
                           named_policy("crops", size_px=size, seed=config.seed,
                                        crop_scale=crop_range(config) or PROBE_CROP_SCALE))
        )  # fmt: skip
        train = self._extract((plain, 0), *((crops, view) for view in range(count)))
        val = self._extract((task.plain(self.bench), 0)) if task.val else None
        return _Tables.standardised(train, val)

    def _extract(self, *views: tuple[TrainingData, int]) -> FeatureTable:
        bench = self.bench
        rows = bench.rows(InOrder(views), epochs=len(views))
        return extract_features(bench.model, rows, bench.preprocess, dtype=bench.dtype, seed=bench.config.seed,
                                skipped=bench.skipped, quiet=bench.config.quiet or not bench.world.is_main)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Tables:
    train: FeatureTable
    val: FeatureTable | None
    standardisation: Standardisation

    @classmethod
    def standardised(cls, train: FeatureTable, val: FeatureTable | None) -> _Tables:
        scale = Standardisation.of(train.features)
        scaled = [None if table is None else replace(table, features=scale(table.features)) for table in (train, val)]
        assert scaled[0] is not None
        return cls(scaled[0], scaled[1], scale)


def tally_labelled(model: nn.Module, rows: Pass, preprocess: Preprocess, *, dtype: torch.dtype | None,
                   skipped: SkippedImages, progress: Progress | None = None,
                   tally: Tally | None = None) -> Tally:  # fmt: skip
    """Run a model in eval mode over all rows, and count.

    Rows that cannot be decoded are noted in `skipped`. `tally`: what is counted into, and given back (default: a new
    one).
    """
    tally, world = Tally() if tally is None else tally, rows.world
    model.eval()
    for batch in readable(rows, skipped, progress):
        assert isinstance(batch, PlainBatch)
        with torch.inference_mode(), autocast(world.device, dtype):
            logits = model(preprocess(batch.inputs, world.device))
        tally.add(logits, batch.targets.to(world.device), batch.rows)
    tally.sum_over(world)
    skipped.share(world, progress)
    return tally


def _scores(tally: Tally) -> dict[str, float]:
    return {"val_accuracy": tally.accuracy, "val_loss": tally.loss}
