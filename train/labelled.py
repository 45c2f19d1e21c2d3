"""Labelled images as training batches: views under the same policies as a store's, so augmentation is replayable.

The view index is the epoch: what a row looks like is a function of (policy, key, epoch), and a resumed run sees the
same images. A row's mixing partner may be any other training image; its label is mixed in with the same weight.
B batch, S size_px, C classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from reinforce.data import ImageSource, LabelledSample
from reinforce.errors import UndecodableImageError
from reinforce.views import Policy, named_policy

from train.batches import Batch, Rows, shuffled
from train.rendered import Pixels, Problems, RenderedViews


class LabelledViews(RenderedViews):
    """Shared half of training and plain views."""

    def __init__(self, source: ImageSource, samples: Sequence[LabelledSample], policy: Policy, *,
                 num_classes: int) -> None:  # fmt: skip
        """Labels are ids below `num_classes`."""
        super().__init__(source, samples, policy)
        self.num_classes = num_classes
        self.labels = np.array([sample.label for sample in self.samples], np.int64)


class TrainingViews(LabelledViews):
    """Augmented views, shuffled by (seed, epoch). An image that cannot be decoded is replaced by the next one."""

    def __init__(self, source: ImageSource, samples: Sequence[LabelledSample], policy: Policy, *,
                 num_classes: int, seed: int) -> None:  # fmt: skip
        super().__init__(source, samples, policy, num_classes=num_classes)
        self.seed = seed

    def epoch_order(self, epoch: int) -> Rows:
        return shuffled(len(self), seed=self.seed, epoch=epoch)

    def load(self, rows: Rows, epoch: int) -> Batch:
        """`inputs` uint8 (B, S, S, 3), `targets` float32 (B, C): rows sum to 1, mixed views have two classes."""
        images, skipped = [], []
        targets = np.zeros((len(rows), self.num_classes), np.float32)
        for i, row in enumerate(rows.tolist()):
            image, shown, problems = self.render(row, epoch)
            images.append(image)
            skipped += problems
            self._add_label(targets[i], shown, epoch)
        return Batch(self.stacked(images), torch.from_numpy(targets), tuple(skipped))

    def _add_label(self, target_C: np.ndarray[Any, Any], row: int, view: int) -> None:
        partner, share = self._mixing(row, view)
        target_C[self.labels[row]] += 1.0 - share
        target_C[self.labels[partner]] += share

    def _mixing(self, row: int, view: int) -> tuple[int, float]:
        """The row that is mixed in and its share of the image: MixUp's weight, or the area that CutMix replaces."""
        mix = self.replayer.params(row, view).mix
        if mix is None:
            return row, 0.0
        if mix[0] == "mixup":
            return mix[1], 1 - mix[2] / 256
        return mix[1], mix[2][2] * mix[2][3] / self.size_px**2


@dataclasses.dataclass
class PlainBatch(Batch):
    """`inputs` uint8 (B, S, S, 3) of B images that could be decoded, `targets` one-hot float32 (B, C)."""

    rows: tuple[int, ...] = ()
    """Of these images, in the listing."""


class PlainViews(LabelledViews):
    """Resized and centre-cropped, in listing order. An image that cannot be decoded is left out of its batch."""

    def __init__(self, source: ImageSource, samples: Sequence[LabelledSample], *, num_classes: int,
                 size_px: int) -> None:  # fmt: skip
        super().__init__(source, samples, named_policy("center", size_px=size_px), num_classes=num_classes)

    def epoch_order(self, epoch: int) -> Rows:
        return np.arange(len(self), dtype=np.int64)

    def load(self, rows: Rows, epoch: int) -> PlainBatch:
        images: list[Pixels] = []
        decoded: list[int] = []
        skipped: Problems = []
        for row in rows.tolist():
            try:
                images.append(self.replayer.view(row, 0))
                decoded.append(row)
            except UndecodableImageError as error:
                skipped.append((self.samples[row].key, str(error)))
        targets = np.zeros((len(decoded), self.num_classes), np.float32)
        targets[np.arange(len(decoded)), self.labels[decoded]] = 1.0
        return PlainBatch(self.stacked(images), torch.from_numpy(targets), tuple(skipped), rows=tuple(decoded))
