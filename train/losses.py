"""Losses of the paper (section 3.1, A.4). B batch, C classes, h, w sides of a map, S side of a view in px."""

from __future__ import annotations

import torch
from reinforce.data import IGNORE
from reinforce.models import upsample
from torch import Tensor
from torch.nn import functional

from train.slices import sum_over_slices


def kl_divergence(student_BC: Tensor, teacher_BC: Tensor, temperature: float = 1.0) -> Tensor:
    """Scalar: T^2 * mean over B of KL(softmax(teacher / T) || softmax(student / T)), in nats.

    T^2 keeps the gradient's size independent of T (Hinton et al. 2015, arXiv:1503.02531, section 2). The paper matches
    task predictions by KL divergence (section 3.1). Both inputs are logits (B, C); the sum runs in float32.
    """
    return temperature**2 * rowwise_kl(student_BC, teacher_BC, temperature).mean()


def rowwise_kl(student_BC: Tensor, teacher_BC: Tensor, temperature: float) -> Tensor:
    """KL(softmax(teacher / T) || softmax(student / T)) over dimension 1, in nats, without T^2: (B,) of (B, C) logits,
    (B, S, S) of (B, C, S, S)."""
    log_p_BC = functional.log_softmax(teacher_BC.float() / temperature, dim=1)
    log_q_BC = functional.log_softmax(student_BC.float() / temperature, dim=1)
    return (log_p_BC.exp() * (log_p_BC - log_q_BC)).sum(dim=1)


def cross_entropy(logits_BC: Tensor, target_BC: Tensor) -> Tensor:
    """Scalar: mean over B of -sum_c target * log softmax(logits), in nats.

    `target_BC` (B, C) float: one-hot rows, or the mixture that MixUp or CutMix made of two of them.
    """
    log_q_BC = torch.log_softmax(logits_BC.float(), dim=1)
    return -(target_BC * log_q_BC).sum(dim=1).mean()


def pixel_kl(student_BChw: Tensor, teacher_BChw: Tensor, valid_BSS: Tensor, temperature: float = 1.0) -> Tensor:
    """Scalar: T^2 * mean over valid pixels of KL(teacher || student), both maps upsampled to the view, in nats.

    The maps are logits of any sides, their own each; `valid_BSS` bool. Without a valid pixel the loss and its gradient
    are 0. Runs in float32 in slices of 64 MiB of upsampled logits, or of one image, see `train.slices`.
    """
    size_px = valid_BSS.shape[-1]

    def kl_sum(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
        kl_BSS = rowwise_kl(upsample(student.float(), size_px), upsample(teacher.float(), size_px), temperature)
        return (kl_BSS * valid).sum()

    total = sum_over_slices(kl_sum, size_px, student_BChw, teacher_BChw, valid_BSS)
    return temperature**2 * total / valid_BSS.sum().clamp(min=1)


def pixel_cross_entropy(map_BChw: Tensor, labels_BSS: Tensor) -> Tensor:
    """Scalar: mean over labelled pixels of -log softmax(map upsampled to the view)[label], in nats.

    `labels_BSS`: class ids; IGNORE where no label is. Without a labelled pixel the loss and its gradient are 0. Memory
    as `pixel_kl`.
    """
    size_px = labels_BSS.shape[-1]

    def nll_sum(logits: Tensor, labels: Tensor) -> Tensor:
        upsampled = upsample(logits.float(), size_px)
        return functional.cross_entropy(upsampled, labels.long(), ignore_index=IGNORE, reduction="sum")

    total = sum_over_slices(nll_sum, size_px, map_BChw, labels_BSS)
    return total / (labels_BSS != IGNORE).sum().clamp(min=1)
