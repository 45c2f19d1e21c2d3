"""Figures of a classifier: accuracy with its interval, agreement with a teacher.

B batch, C classes, h, w sides of a map, S side of a view in px.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from reinforce.models import upsample
from torch import Tensor

from train.losses import rowwise_kl
from train.slices import images_in_slice
from train.world import World

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


def wilson_interval(num_correct: int, num_images: int, z: float = Z_95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927), 95 % by default; (0, 1) without images.

    (p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), p = num_correct / n.
    """
    if num_images == 0:
        return 0.0, 1.0
    n, p = num_images, num_correct / num_images
    centre = p + z * z / (2 * n)
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n)
    return max(0.0, low), min(1.0, high)


@dataclasses.dataclass
class Tally:
    """Counts over batches: what a labelled evaluation needs."""

    num_images: int = 0
    num_correct: int = 0
    loss_sum: float = 0.0

    def add(self, logits_BC: Tensor, target_BC: Tensor, rows: Sequence[int] = ()) -> None:
        """`target_BC`: one-hot rows (B, C); `rows`: which images they are of, for who keeps the answers."""
        logits_BC = logits_BC.float()
        labels_B = target_BC.argmax(dim=1)
        log_q_BC = torch.log_softmax(logits_BC, dim=1)
        self.loss_sum -= float((target_BC * log_q_BC).sum(dtype=torch.float64))
        self.num_correct += int((logits_BC.argmax(dim=1) == labels_B).sum())
        self.num_images += len(labels_B)

    def sum_over(self, world: World) -> None:
        """From here on the figures of all ranks; every rank must ask."""
        counts = torch.tensor([self.num_images, self.num_correct, self.loss_sum], dtype=torch.float64)
        num_images, num_correct, self.loss_sum = world.sum(counts.to(world.device)).tolist()
        self.num_images, self.num_correct = int(num_images), int(num_correct)

    @property
    def accuracy(self) -> float:
        return self.num_correct / max(self.num_images, 1)

    @property
    def loss(self) -> float:
        return self.loss_sum / max(self.num_images, 1)


@dataclasses.dataclass
class AgreementTally:
    """Counts over batches: how near a student is to its teacher's stored logits, row by row or pixel by pixel."""

    num_compared: int = 0
    """Rows, or valid pixels."""
    num_agreeing: int = 0
    kl_sum: float = 0.0

    def add(self, student_BC: Tensor, teacher_BC: Tensor, temperature: float) -> None:
        """KL(softmax(teacher / T) || softmax(student / T)), without the loss's T^2, and whether top-1 is the same."""
        self.kl_sum += float(rowwise_kl(student_BC, teacher_BC, temperature).sum(dtype=torch.float64))
        self.num_agreeing += int((student_BC.argmax(dim=1) == teacher_BC.argmax(dim=1)).sum())
        self.num_compared += len(teacher_BC)

    def add_maps(self, student_BChw: Tensor, teacher_BChw: Tensor, valid_BSS: Tensor, temperature: float) -> None:
        """The same at every valid pixel of the upsampled maps, a few images at a time as in `train.slices`."""
        size_px = valid_BSS.shape[-1]
        length = images_in_slice(teacher_BChw.shape[1], size_px)
        for start in range(0, len(valid_BSS), length):
            part = slice(start, start + length)
            student, teacher = (upsample(maps[part].float(), size_px) for maps in (student_BChw, teacher_BChw))
            valid = valid_BSS[part]
            kl_BSS = rowwise_kl(student, teacher, temperature)
            self.kl_sum += float((kl_BSS * valid).sum(dtype=torch.float64))
            self.num_agreeing += int(((student.argmax(dim=1) == teacher.argmax(dim=1)) & valid).sum())
            self.num_compared += int(valid.sum())

    @property
    def kl(self) -> float:
        return self.kl_sum / max(self.num_compared, 1)

    @property
    def agreement(self) -> float:
        return self.num_agreeing / max(self.num_compared, 1)
