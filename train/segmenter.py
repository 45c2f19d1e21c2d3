"""A segmentation model that is measured and shown: its answer to views, its masks of images.

B batch, C classes, H, W an image's own size in px.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from reinforce.data import MaskedDataset, MaskedSample
from reinforce.errors import UsageError
from reinforce.models import ModelInfo, Preprocess, create_model, short_name
from reinforce.progress import Progress
from torch import Tensor, nn

from train.batches import SkippedImages
from train.evaluate import check_class_names
from train.mask_tally import MaskTally, tally_masked
from train.masked import MaskedBatch, WholeViews
from train.optim import autocast, autocast_dtype
from train.prediction import predicted_mask
from train.students import own_task
from train.world import World

if TYPE_CHECKING:
    from train.evaluate import EvaluateConfig


@dataclasses.dataclass(frozen=True)
class Segmenter:
    name: str
    """What it is called; no path."""
    model: nn.Module
    info: ModelInfo
    dtype: torch.dtype | None
    world: World

    @classmethod
    def open(cls, name: str, config: EvaluateConfig, class_names: Sequence[str], world: World) -> Segmenter:
        """In eval mode, on the device. Raises UsageError for a model of another task, ModelError without a head."""
        if own_task(name) != "segmentation":
            raise UsageError(f"{name} is a model of classification: choose one that train adapt or finetune made with "
                             "--task segmentation")  # fmt: skip
        size = config.image_size if name == config.model else None
        model, info = create_model(name, image_size=size, task="segmentation")
        check_class_names(name, info, class_names)
        dtype = autocast_dtype(config.precision, model, world.device)
        return cls(short_name(name), model.to(world.device).eval(), info, dtype, world)

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
            return tally_masked(self.answer, self.views(dataset, samples), num_classes=self.info.num_classes,
                                world=self.world, dtype=self.dtype, batch_size=config.batch_size,
                                workers=config.workers, skipped=SkippedImages(quiet=quiet),
                                progress=progress)  # fmt: skip

    def masks(self, batch: MaskedBatch) -> list[Tensor]:
        """Predicted class ids of the batch's images, uint8 (H, W) each, on the CPU."""
        with torch.inference_mode(), autocast(self.world.device, self.dtype):
            maps = self.answer(batch.inputs)
        size_px = batch.targets.shape[-1]
        return [predicted_mask(one, size_px, truth.content, (truth.mask.shape[0], truth.mask.shape[1])).cpu()
                for one, truth in zip(maps, batch.truths, strict=True)]  # fmt: skip
