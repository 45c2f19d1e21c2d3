"""A segmentation head trained alone: the frozen encoder's maps are stored if they fit into memory, else made each step.

N images, V views, D features, C classes, h, w sides of a map, S side of the views in px.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from reinforce.data import IGNORE
from reinforce.models import SegmentationModel
from reinforce.progress import Progress
from torch import Tensor, nn

from train.batches import Batch, Rows, TrainingData, shuffled
from train.losses import pixel_cross_entropy
from train.mask_tally import tally_masked
from train.masked import MaskedBatch, WholeViews
from train.optim import autocast
from train.options import default_epochs
from train.passes import InOrder, Pass, readable
from train.probe import num_probe_views
from train.tasks import Bench

if TYPE_CHECKING:
    from train.segmentation import Segmentation

PROBE_PASSES = 20_000
STORED_BYTES = 1 << 30
"""Maps and labels that a probe stores, of training and validation images together."""


class MapProbe:
    """The model's own head on its frozen encoder, in eval mode.

    Epoch e shows view e mod V of the training images: the whole image, and under "segmentation-crops". Where not one
    view of all images fits into STORED_BYTES, every step renders new crops and runs the encoder.
    """

    def __init__(self, task: Segmentation, bench: Bench) -> None:
        assert isinstance(bench.model, SegmentationModel)
        self.task, self.bench, self.model = task, bench, bench.model

    @property
    def num_epochs(self) -> int:
        return default_epochs(len(self.task.train), image_passes=PROBE_PASSES, shortest=10, longest=200)

    @property
    def reads_images(self) -> bool:
        return self.num_views == 0

    @cached_property
    def num_views(self) -> int:
        """V; 0: nothing is stored."""
        task, config, info = self.task, self.bench.config, self.bench.info
        image_bytes = 2 * self.model.num_features * info.map_size**2 + info.image_size**2
        room = STORED_BYTES - len(task.val) * image_bytes
        fitting = room // (len(task.train) * image_bytes)
        return max(0, min(1 + num_probe_views(len(task.train), config.probe_views), fitting))

    @cached_property
    def data(self) -> TrainingData:
        self._freeze()
        crops = self.task.augmented(self.bench, "segmentation-crops")
        if self.reads_images:
            return crops
        whole = self.task.augmented(self.bench, "whole")
        views = [(whole, 0), *((crops, view) for view in range(self.num_views - 1))]
        size_px = self.bench.info.image_size
        labels = torch.zeros(self.num_views, len(whole), size_px, size_px, dtype=torch.uint8)
        stored = StoredMaps(self._room(self.num_views, len(whole)), labels, self.bench.config.seed)
        self._store(self.bench.rows(InOrder(views), epochs=len(views)), stored)
        return stored

    def new_head(self) -> nn.Module:
        self._freeze()
        return copy.deepcopy(self.model.head)

    def objective(self, head: nn.Module, batch: Batch) -> Tensor:
        return pixel_cross_entropy(head(self._maps(batch.inputs)), batch.targets)

    def evaluate(self, head: nn.Module) -> dict[str, float]:
        head.eval()
        return tally_masked(lambda inputs: head(self._maps(inputs)), self._validation,
                            num_classes=len(self.task.class_names), dtype=None,
                            skipped=self.bench.skipped).scores()  # fmt: skip

    def install(self, state: Mapping[str, Tensor]) -> None:
        self.model.head.load_state_dict(state)

    @cached_property
    def _validation(self) -> Pass:
        whole = self.task.whole(self.bench)
        if self.reads_images:
            return self.bench.rows(whole, keeps=True)
        _ = self._whole_maps  # not while other processes load the rows
        return self.bench.rows(MappedWholeViews(whole), keeps=True)

    @cached_property
    def _whole_maps(self) -> Tensor:
        """Of the validation images, (N, D, h, w) float16."""
        self._freeze()
        whole = self.task.whole(self.bench)
        maps = self._room(len(whole))
        for batch in self._loaded(self.bench.rows(whole)):
            assert isinstance(batch, MaskedBatch)
            maps[[truth.row for truth in batch.truths]] = self._maps(batch.inputs).half().cpu()
        return maps

    def _freeze(self) -> None:
        """The encoder that every probe sees: that of the start, in eval mode, on the device."""
        self.bench.restore()
        self.model.to(self.bench.world.device).eval()

    def _maps(self, inputs: Tensor) -> Tensor:
        """(B, D, h, w) float32 of stored maps, of rows of validation images, or of images by the frozen encoder."""
        if inputs.dtype == torch.long:
            return self._whole_maps[inputs.cpu()].to(inputs.device).float()
        if inputs.is_floating_point():
            return inputs.float()
        with torch.no_grad(), autocast(self.bench.world.device, self.bench.dtype):
            features: Tensor = self.model.features(self.bench.preprocess(inputs, self.bench.world.device))
        return features.float()

    def _room(self, *counts: int) -> Tensor:
        """Zeros (*counts, D, h, w), float16."""
        side = self.bench.info.map_size
        return torch.zeros(*counts, self.model.num_features, side, side, dtype=torch.half)

    def _store(self, rows: Pass, stored: StoredMaps) -> None:
        """Fill in all views of the training images, one after the other."""
        maps, labels, start = stored.maps.flatten(0, 1), stored.labels.flatten(0, 1), 0
        for batch in self._loaded(rows):
            here = slice(start, start + len(batch))
            maps[here] = self._maps(batch.inputs).half().cpu()
            labels[here] = batch.targets
            start += len(batch)

    def _loaded(self, rows: Pass) -> Iterator[Batch]:
        """All rows in order, with progress; the bad ones noted."""
        quiet = self.bench.config.quiet or not self.bench.world.is_main
        with Progress("features", rows.epochs * rows.num_rows, quiet=quiet) as progress:
            yield from readable(rows, self.bench.skipped, progress)


@dataclasses.dataclass(frozen=True)
class StoredMaps:
    """Maps (V, N, D, h, w) float16 with their labels (V, N, S, S) uint8; view e mod V is what epoch e trains on."""

    maps: Tensor
    labels: Tensor
    seed: int

    def epoch_order(self, epoch: int) -> Rows:
        return shuffled(self.maps.shape[1], seed=self.seed, epoch=epoch)

    def load(self, rows: Rows, epoch: int) -> Batch:
        view, index = epoch % len(self.maps), torch.from_numpy(rows)
        labels = self.labels[view, index]
        return Batch(self.maps[view, index], labels, num_counted=int((labels != IGNORE).sum()))


@dataclasses.dataclass(frozen=True)
class MappedWholeViews:
    """Whole images whose maps are stored: `inputs` are row ids (B,)."""

    views: WholeViews

    def epoch_order(self, epoch: int) -> Rows:
        return self.views.epoch_order(epoch)

    def load(self, rows: Rows, epoch: int) -> MaskedBatch:
        batch = self.views.load(rows, epoch)
        return dataclasses.replace(batch, inputs=torch.tensor([truth.row for truth in batch.truths], dtype=torch.long))
