"""A segmentation model's figures over images with masks.

B batch, C classes, N images, h, w sides of a map, S side of the views in px.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from reinforce.data import IGNORE
from reinforce.progress import Progress
from torch import Tensor

from train.batches import SkippedImages
from train.iou import ConfusionMatrix, Counts
from train.losses import pixel_cross_entropy
from train.masked import MaskedBatch
from train.optim import autocast
from train.passes import Pass, readable
from train.prediction import predicted_mask
from train.world import World

Answer = Callable[[Tensor], Tensor]
"""The inputs of a batch, on the device -> map of logits (B, C, h, w)."""


@dataclasses.dataclass
class MaskTally:
    """Counts over batches. Mean IoU is that of all pixels at the images' own sizes, the loss that of the views'."""

    confusion: ConfusionMatrix
    class_sums: Counts
    """(N, 3, C): each image's right, true and predicted pixels by class; 0 for images that could not be decoded."""
    seen: Counts
    """(N,): 1 for images that were measured."""
    loss_sum: float = 0.0
    num_labelled: int = 0
    """Labelled pixels of the views."""

    @classmethod
    def empty(cls, num_images: int, num_classes: int) -> MaskTally:
        sums = np.zeros((num_images, 3, num_classes), np.int64)
        return cls(ConfusionMatrix.empty(num_classes), sums, np.zeros(num_images, np.int64))

    def add(self, map_BChw: Tensor, batch: MaskedBatch) -> None:
        """Maps of a batch whose tensors are on the maps' device."""
        size_px = batch.targets.shape[-1]
        num_labelled = int((batch.targets != IGNORE).sum())
        self.loss_sum += float(pixel_cross_entropy(map_BChw, batch.targets)) * num_labelled
        self.num_labelled += num_labelled
        for map_Chw, truth in zip(map_BChw, batch.truths, strict=True):
            height, width = truth.mask.shape
            predicted = predicted_mask(map_Chw, size_px, truth.content, (height, width))
            image = ConfusionMatrix.empty(map_BChw.shape[1])
            image.add(torch.from_numpy(truth.mask).to(predicted.device), predicted)
            self.confusion.counts += image.counts
            self.class_sums[truth.row] = image.class_sums
            self.seen[truth.row] = 1

    def sum_over(self, world: World) -> None:
        """From here on the figures of all ranks; every rank must ask."""
        if world.size == 1:
            return
        self.confusion.sum_over(world)
        self.class_sums, self.seen = (world.sum(torch.from_numpy(counts).to(world.device)).cpu().numpy()
                                      for counts in (self.class_sums, self.seen))  # fmt: skip
        losses = torch.tensor([self.loss_sum, self.num_labelled], dtype=torch.float64, device=world.device)
        self.loss_sum, num_labelled = world.sum(losses).tolist()
        self.num_labelled = int(num_labelled)

    @property
    def num_images(self) -> int:
        return int(self.seen.sum())

    @property
    def measured_sums(self) -> Counts:
        """`class_sums` of the images that were measured."""
        return self.class_sums[self.seen > 0]

    def scores(self) -> dict[str, float]:
        return {"val_mean_iou": self.confusion.mean_iou, "val_loss": self.loss_sum / max(self.num_labelled, 1)}


def tally_masked(answer: Answer, rows: Pass, *, num_classes: int, dtype: torch.dtype | None, skipped: SkippedImages,
                 progress: Progress | None = None) -> MaskTally:  # fmt: skip
    """Measure `answer` on rows that give batches of masks.

    Rows that cannot be decoded are noted in `skipped`.
    """
    tally, world = MaskTally.empty(rows.num_rows, num_classes), rows.world
    for batch in readable(rows, skipped, progress):
        assert isinstance(batch, MaskedBatch)
        moved = batch.to(world.device)
        with torch.inference_mode(), autocast(world.device, dtype):
            map_BChw = answer(moved.inputs)
        tally.add(map_BChw, moved)
    tally.sum_over(world)
    skipped.share(world, progress)
    return tally
