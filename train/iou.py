"""How well masks are predicted: a confusion matrix of pixels, IoU per class, and an interval over images.

C classes, N images, H, W a mask's own size, R resamples.

IoU of class c = pixels that are c in truth and prediction / pixels that are c in either. Pixels whose truth is IGNORE
count nowhere. A class that occurs in neither truth nor prediction has no IoU and is left out of the mean; one that is
predicted but never true has an IoU of 0 and is not.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from reinforce.data import IGNORE
from torch import Tensor

from train.metrics import Z_95
from train.world import World

NUM_RESAMPLES = 1000
RESAMPLED_AT_ONCE = 1 << 22
"""Weights of images in one piece of the bootstrap, 32 MiB."""

Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


def class_iou(sums_3C: NDArray[np.int64] | Floats) -> Floats:
    """IoU of each class, (..., C), of (..., 3, C) pixels: right ones, true ones, predicted ones; NaN: absent class."""
    right, true, predicted = sums_3C[..., 0, :], sums_3C[..., 1, :], sums_3C[..., 2, :]
    union: Floats = (true + predicted - right).astype(np.float64)
    return np.divide(right, union, out=np.full_like(union, np.nan), where=union > 0)


def mean_over_classes(iou_C: Floats) -> Floats:
    """Mean over the classes that have an IoU, (...,) of (..., C); 0 where none has."""
    counted = ~np.isnan(iou_C)
    total: Floats = np.where(counted, iou_C, 0.0).sum(axis=-1)
    return np.asarray(total / np.maximum(counted.sum(axis=-1), 1), np.float64)


@dataclasses.dataclass
class ConfusionMatrix:
    """`counts`: int64 (C, C), pixels by [true class, predicted class]."""

    counts: Counts

    @classmethod
    def empty(cls, num_classes: int) -> ConfusionMatrix:
        return cls(np.zeros((num_classes, num_classes), np.int64))

    def add(self, truth_HW: Tensor, predicted_HW: Tensor) -> None:
        """Class ids of the same shape, on one device; `truth_HW` may hold IGNORE."""
        num_classes = len(self.counts)
        truth, predicted = truth_HW.flatten().long(), predicted_HW.flatten().long()
        labelled = truth != IGNORE
        pairs = truth[labelled] * num_classes + predicted[labelled]
        counts = torch.bincount(pairs, minlength=num_classes**2).cpu().numpy()
        self.counts += counts.reshape(num_classes, num_classes)

    def sum_over(self, world: World) -> None:
        """From here on the pixels of all ranks; every rank must ask."""
        self.counts = world.sum(torch.from_numpy(self.counts).to(world.device)).cpu().numpy()

    @property
    def class_sums(self) -> Counts:
        """Pixels by class: right ones, true ones, predicted ones."""
        counts = self.counts
        return np.stack([counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)])

    @property
    def iou(self) -> tuple[float | None, ...]:
        """Per class, 0..1; None for a class that occurs in neither truth nor prediction."""
        return tuple(None if np.isnan(value) else float(value) for value in class_iou(self.class_sums))

    @property
    def mean_iou(self) -> float:
        return float(mean_over_classes(class_iou(self.class_sums)))

    @property
    def pixel_accuracy(self) -> float:
        """Share of labelled pixels that are right; 0 without any."""
        return float(self.counts.trace() / max(int(self.counts.sum()), 1))


def bootstrap_interval(sums_N3C: Counts, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES) -> tuple[float, float]:
    """95 % interval of mean IoU, 0..1: 1.96 standard errors around it, those of images drawn again with replacement
    (Efron 1979), not their quantiles: a resample lacks images, and of many classes in few images some class's best,
    so that its mean IoU is too low as a rule. (0, 1) without images.

    `sums_N3C`: each image's `ConfusionMatrix.class_sums`. Says what other images of the same kind would give, not what
    another training would.
    """
    num_images = len(sums_N3C)
    if num_images == 0:
        return 0.0, 1.0
    random = np.random.Generator(np.random.Philox(key=[seed, 0x696F75]))
    flat_ND = sums_N3C.reshape(num_images, -1).astype(np.float64)
    at_once = max(1, RESAMPLED_AT_ONCE // num_images)
    figures = []
    for start in range(0, num_resamples, at_once):
        count = min(at_once, num_resamples - start)
        drawn_RN = random.multinomial(num_images, np.full(num_images, 1 / num_images), size=count)
        sums_R3C = (drawn_RN @ flat_ND).reshape(count, *sums_N3C.shape[1:])
        figures.append(mean_over_classes(class_iou(sums_R3C)))
    figure = float(mean_over_classes(class_iou(sums_N3C.sum(axis=0))))
    half_width = Z_95 * float(np.concatenate(figures).std())
    return max(0.0, figure - half_width), min(1.0, figure + half_width)
