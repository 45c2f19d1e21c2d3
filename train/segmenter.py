"""A segmentation model that is measured and shown: its answer to views, its masks of images.

B batch, C classes, H, W an image's own size in px.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from reinforce.data import MaskedDataset, MaskedSample
from reinforce.models import Preprocess
from reinforce.progress import Progress
from torch import Tensor

from train.batches import SkippedImages
from train.evaluated import EvaluatedModel
from train.mask_tally import MaskTally, tally_masked
from train.masked import MaskedBatch, WholeViews
from train.optim import autocast
from train.passes import Pass
from train.prediction import predicted_mask

if TYPE_CHECKING:
    from train.evaluate import EvaluateConfig


class Segmenter(EvaluatedModel):
    task, choose = "segmentation", "train adapt or finetune made with --task segmentation"

    def views(self, dataset: MaskedDataset, samples: Sequence[MaskedSample]) -> WholeViews:
        return WholeViews(dataset, samples, size_px=self.info.image_size)

    def answer(self, images_BSS3: Tensor) -> Tensor:
        """Maps of logits (B, C, h, w) of uint8 views."""
        preprocess = Preprocess.from_info(self.info)
        maps: Tensor = self.model(preprocess(images_BSS3, self.world.device))
        return maps

    def measure(self, dataset: MaskedDataset, samples: Sequence[MaskedSample], config: EvaluateConfig) -> MaskTally:
        quiet = config.quiet or not self.world.is_main
        with Progress(f"evaluate {self.name}", len(samples), quiet=quiet) as progress:
            rows = Pass(self.views(dataset, samples), self.batch_size, world=self.world, workers=config.workers)
            return tally_masked(self.answer, rows, num_classes=self.info.num_classes, dtype=self.dtype,
                                skipped=SkippedImages(quiet=quiet), progress=progress)  # fmt: skip

    def masks(self, batch: MaskedBatch) -> list[Tensor]:
        """Predicted class ids of the batch's images, uint8 (H, W) each, on the CPU."""
        with torch.inference_mode(), autocast(self.world.device, self.dtype):
            maps = self.answer(batch.inputs)
        size_px = batch.targets.shape[-1]
        return [predicted_mask(one, size_px, truth.content, (truth.mask.shape[0], truth.mask.shape[1])).cpu()
                for one, truth in zip(maps, batch.truths, strict=True)]  # fmt: skip
