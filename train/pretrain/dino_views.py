"""Images as batches of DINO's crops, and as plain views to watch the teacher with.

Crop c of an image in epoch e is view e * (2 + L) + c of that crop's policy: a function of (seed, key, epoch, c).
B images, L small crops an image, S and s sides of large and small crops in px.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from reinforce.data import ImageSource
from reinforce.errors import UndecodableImageError
from reinforce.models import ModelInfo, Preprocess
from reinforce.views import DinoPolicy, MultiCrop, draw_params, named_policy, replay
from torch import Tensor

from train import rendered
from train.batches import Batch, Rows, shuffled
from train.pretrain.transfer_images import Image
from train.rendered import RenderedViews

NUM_LARGE = 2


@dataclasses.dataclass
class CropBatch(Batch):
    """`inputs` uint8 (B, 2, S, S, 3), the large crops; there are no `targets` (B, 0)."""

    small: Tensor = dataclasses.field(default_factory=lambda: torch.empty(0))
    """uint8 (B, L, s, s, 3)."""


class CropViews(RenderedViews):
    """Crops to learn from, shuffled by (seed, epoch). An image that cannot be decoded is replaced by the next one."""

    def __init__(self, source: ImageSource, images: Sequence[Image], crops: MultiCrop, *, num_small: int,
                 seed: int) -> None:  # fmt: skip
        super().__init__(source, images, crops.first)
        self.crops, self.num_small, self.seed = crops, num_small, seed

    @property
    def row_bytes(self) -> int:
        return 3 * (NUM_LARGE * self.crops.first.size_px**2 + self.num_small * self.crops.local.size_px**2)

    def epoch_order(self, epoch: int) -> Rows:
        return shuffled(len(self), seed=self.seed, epoch=epoch)

    def load(self, rows: Rows, epoch: int) -> CropBatch:
        """The crops of images, each decoded once."""
        large, small, skipped = [], [], []
        first_view = epoch * (NUM_LARGE + self.num_small)
        for row in rows.tolist():
            first, shown, problems = self.render(row, first_view)
            large += [first, self._crop(self.crops.second, shown, first_view + 1)]
            small += [self._crop(self.crops.local, shown, first_view + NUM_LARGE + i) for i in range(self.num_small)]
            skipped += problems
        size, small_size = self.crops.first.size_px, self.crops.local.size_px
        return CropBatch(
            _stacked(large, (len(rows), NUM_LARGE, size)), torch.empty(len(rows), 0), tuple(skipped),
            small=_stacked(small, (len(rows), self.num_small, small_size)),
        )  # fmt: skip

    def _crop(self, policy: DinoPolicy, row: int, view: int) -> rendered.Pixels:
        """A view of another policy than the replayer's, cut from the working image that both share."""
        image = self.replayer.image(row)
        return replay(image, draw_params(policy, self.samples[row].key, view, image.size, 1, 0), policy)


class PlainViews(RenderedViews):
    """Whole central squares, in listing order. An image that cannot be decoded is left out of its batch."""

    def __init__(self, source: ImageSource, images: Sequence[Image], *, size_px: int) -> None:
        super().__init__(source, images, named_policy("center", size_px=size_px))

    def epoch_order(self, epoch: int) -> Rows:
        return np.arange(len(self), dtype=np.int64)

    def load(self, rows: Rows, epoch: int) -> Batch:
        """`inputs` uint8 (B, S, S, 3), `targets` (B, 0)."""
        images = []
        for row in rows.tolist():
            try:
                images.append(self.replayer.view(row, 0))
            except UndecodableImageError:
                continue
        return Batch(self.stacked(images), torch.empty(len(images), 0))


@dataclass(frozen=True)
class Pixels:
    """A batch of crops as what a model sees: crop after crop, (2 B, 3, P, P) and (L B, 3, p, p)."""

    large: Preprocess
    small: Preprocess

    @classmethod
    def of(cls, info: ModelInfo, small_px: int) -> Pixels:
        large = Preprocess.from_info(info)
        return cls(large, replace(large, image_size=small_px))

    def __call__(self, batch: CropBatch) -> tuple[Tensor, Tensor]:
        return self.large(_crop_major(batch.inputs)), self.small(_crop_major(batch.small))


def _crop_major(crops_BVSS3: Tensor) -> Tensor:
    return crops_BVSS3.transpose(0, 1).flatten(0, 1)


def _stacked(crops: Sequence[rendered.Pixels], shape: tuple[int, int, int]) -> Tensor:
    """uint8 (B, V, S, S, 3), also of no crops."""
    num_images, num_crops, size = shape
    stacked = np.stack(crops) if crops else np.empty((0, size, size, 3), np.uint8)
    return torch.from_numpy(stacked.reshape(num_images, num_crops, size, size, 3))
