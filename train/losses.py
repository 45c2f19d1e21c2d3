"""Losses of the paper (section 3.1, A.4).

B batch, N rows of all ranks, C classes, D dimensions of a feature, h, w sides of a map, S side of a view in px.
"""

from __future__ import annotations

import torch
from reinforce.data import IGNORE
from reinforce.models import upsample
from torch import Tensor
from torch.nn import functional

from train.gathering import gather_rows
from train.slices import sum_over_slices
from train.world import World

CONTRASTIVE_TEMPERATURE = 0.07
"""Default of `contrastive`: that of Wu et al. 2018 (arXiv:1805.01978), whose estimation Tian et al. build on."""


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


def contrastive(student_BD: Tensor, teacher_BD: Tensor, temperature: float, world: World) -> Tensor:
    """Scalar, in nats: how badly the student's feature of a view finds its teacher's among all, and vice versa.

        mean over B of (-log softmax_N(<s_i, t_j> / T)[i] - log softmax_N(<t_i, s_j> / T)[i]) / 2

    with s and t of length 1. Contrastive representation distillation (Tian et al. 2020, arXiv:1910.10699), anchored
    on student and teacher in turn, as the paper uses it to match features (section 3.1, A.4). The negatives are the
    other views of the step, of all ranks, where Tian et al. keep a memory of earlier features.
    """
    return two_way_cross_entropy(student_BD, teacher_BD, torch.tensor(1 / temperature), world)


def two_way_cross_entropy(left_BD: Tensor, right_BD: Tensor, scale: Tensor, world: World) -> Tensor:
    """Scalar, in nats: the mean of two cross entropies over cosines times `scale`, of finding row i of either side
    among all ranks' rows of the other (N choices). In float32 whatever the autocast; rows need not have length 1."""
    with torch.autocast(left_BD.device.type, enabled=False):
        to_right_BN, to_left_BN, first = cosines_with_all(left_BD, right_BD, world)
        own_B = first + torch.arange(len(left_BD), device=left_BD.device)
        losses = [functional.cross_entropy(scale.float() * x_BN, own_B) for x_BN in (to_right_BN, to_left_BN)]
        return (losses[0] + losses[1]) / 2


def cosines_with_all(left_BD: Tensor, right_BD: Tensor, world: World) -> tuple[Tensor, Tensor, int]:
    """Cosines (B, N) of own left rows with all ranks' right ones, and of own right rows with all left ones; and where
    the own ones begin among them. To be called outside of autocast."""
    left_BD, right_BD = (functional.normalize(rows.float(), dim=1) for rows in (left_BD, right_BD))
    joint_N2D, first = gather_rows(torch.cat([left_BD, right_BD], dim=1), world)
    all_left_ND, all_right_ND = joint_N2D.chunk(2, dim=1)
    return left_BD @ all_right_ND.T, right_BD @ all_left_ND.T, first


def cosine(student_BDhw: Tensor, teacher_BDHW: Tensor) -> Tensor:
    """Scalar, 0..2: mean over batch and positions of 1 - cos(student, teacher), the two maps cell by cell.

    The paper's loss for patch features; the teacher's map is resized to the student's (A.4): bilinearly, with
    align_corners=False. In float32 whatever the autocast.
    """
    return cosine_distances(student_BDhw, teacher_BDHW).mean()


def cosine_distances(student_BDhw: Tensor, teacher_BDHW: Tensor) -> Tensor:
    """(B, h, w): 1 - cos of each of the student's cells with the teacher's map resized to it."""
    teacher_BDhw = functional.interpolate(teacher_BDHW.float(), student_BDhw.shape[2:], mode="bilinear",
                                          align_corners=False)  # fmt: skip
    return 1 - functional.cosine_similarity(student_BDhw.float(), teacher_BDhw, dim=1)
