"""Images with masks as batches: augmented views to train on, whole images with their masks as they are to evaluate on.

The view index is the epoch, as in `train.labelled`; a mask moves with its image.
B batch, S side of the views in px, H, W an image's own size in px.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from reinforce.data import IGNORE, MaskedDataset, MaskedSample
from reinforce.errors import UndecodableImageError
from reinforce.views import DenseParams, Policy, named_policy
from torch import Tensor

from train.batches import Batch, Rows, shuffled
from train.rendered import Pixels, Problems, RenderedViews

KEPT_MASK_BYTES = 64 << 20
"""Masks that a loading process keeps: those of few labelled images are read once, not once an epoch."""


@dataclasses.dataclass(frozen=True)
class Truth:
    """What a prediction is measured against."""

    row: int
    mask: NDArray[np.uint8]
    """(H, W), class ids of the image's own size; IGNORE where no label is. A worker's tensor would be an open file."""
    content: tuple[int, int, int, int]
    """Left, top, width, height in px of the view, where the whole image is."""


@dataclasses.dataclass
class MaskedBatch(Batch):
    """`inputs` of B images that could be decoded, `targets` uint8 (B, S, S): their masks moved to the view."""

    truths: tuple[Truth, ...] = ()

    @property
    def num_bytes(self) -> int:
        return super().num_bytes + sum(truth.mask.nbytes for truth in self.truths)


class MaskedViews(RenderedViews):
    """Shared half of training and whole views."""

    def __init__(self, dataset: MaskedDataset, samples: Sequence[MaskedSample], policy: Policy) -> None:
        super().__init__(dataset.source, samples, policy)
        self.dataset = dataset
        self._masks: dict[int, NDArray[np.uint8]] = {}
        self._kept_bytes = 0

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_masks": {}, "_kept_bytes": 0}

    def mask(self, row: int) -> NDArray[np.uint8]:
        """uint8 (H, W). Raises DataError naming a file that is no mask of its image."""
        if row in self._masks:
            return self._masks[row]
        mask_HW = self.dataset.read_mask(self.samples[row])
        if self._kept_bytes + mask_HW.nbytes <= KEPT_MASK_BYTES:
            self._masks[row] = mask_HW
            self._kept_bytes += mask_HW.nbytes
        return mask_HW

    def labels(self, row: int, view: int) -> NDArray[np.uint8]:
        """The row's mask in a view, uint8 (S, S), IGNORE where the view does not show the image."""
        return self.replayer.labels(row, view, self.mask(row))

    def stacked_labels(self, labels: Sequence[NDArray[np.uint8]]) -> Tensor:
        return torch.from_numpy(np.stack(labels) if labels else np.empty((0, self.size_px, self.size_px), np.uint8))


class MaskedTrainingViews(MaskedViews):
    """Augmented views, shuffled by (seed, epoch). An image that cannot be decoded is replaced by the next one."""

    def __init__(self, dataset: MaskedDataset, samples: Sequence[MaskedSample], policy: Policy, *,
                 seed: int) -> None:  # fmt: skip
        super().__init__(dataset, samples, policy)
        self.seed = seed

    def epoch_order(self, epoch: int) -> Rows:
        return shuffled(len(self), seed=self.seed, epoch=epoch)

    def load(self, rows: Rows, epoch: int) -> Batch:
        """`inputs` uint8 (B, S, S, 3), `targets` uint8 (B, S, S). Raises DataError for a wrong mask."""
        images: list[Pixels] = []
        labels: list[NDArray[np.uint8]] = []
        skipped: Problems = []
        for row in rows.tolist():
            image, shown, problems = self.render(row, epoch)
            images.append(image)
            labels.append(self.labels(shown, epoch))
            skipped += problems
        targets = self.stacked_labels(labels)
        return Batch(self.stacked(images), targets, tuple(skipped), num_counted=int((targets != IGNORE).sum()))


class WholeViews(MaskedViews):
    """Whole images, fitted into the view, in listing order. What cannot be decoded is left out of its batch."""

    def __init__(self, dataset: MaskedDataset, samples: Sequence[MaskedSample], *, size_px: int) -> None:
        super().__init__(dataset, samples, named_policy("whole", size_px=size_px))

    def epoch_order(self, epoch: int) -> Rows:
        return np.arange(len(self), dtype=np.int64)

    def load(self, rows: Rows, epoch: int) -> MaskedBatch:
        """With `truths`; B counts the rows that could be decoded. Raises DataError for a wrong mask."""
        images: list[Pixels] = []
        labels: list[NDArray[np.uint8]] = []
        truths: list[Truth] = []
        skipped: Problems = []
        for row in rows.tolist():
            try:
                images.append(self.replayer.view(row, 0))
            except UndecodableImageError as error:
                skipped.append((self.samples[row].key, str(error)))
                continue
            labels.append(self.labels(row, 0))
            truths.append(Truth(row, self.mask(row), self.content(row)))
        return MaskedBatch(self.stacked(images), self.stacked_labels(labels), tuple(skipped), truths=tuple(truths))

    def content(self, row: int) -> tuple[int, int, int, int]:
        """Where the view shows the image: left, top, width, height in px."""
        params = self.replayer.params(row, 0)
        assert isinstance(params, DenseParams)
        return params.content
