"""Losses of image-text pretraining. B pairs of this rank, N pairs of all ranks, E dimensions of the joint space.

Rows need not have length 1: they are normalised here. Similarities are computed in float32 whatever the autocast.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from train.losses import cosines_with_all, two_way_cross_entropy
from train.world import World


def clip_loss(images_BE: Tensor, texts_BE: Tensor, scale: Tensor, world: World) -> Tensor:
    """Scalar, in nats: half of the sum of two cross entropies, of finding the own text among all N and the own image.

        mean over B of (-log softmax_N(scale <I_i, T_j>)[i] - log softmax_N(scale <T_i, I_j>)[i]) / 2

    with I and T of length 1 (Radford et al. 2021, arXiv:2103.00020, section 2.3 and figure 3); `scale` is exp of the
    learned logit scale. Negatives are those of all ranks, see `gather_rows`.
    """
    return two_way_cross_entropy(images_BE, texts_BE, scale, world)


def affinity_loss(
    images_BE: Tensor,
    texts_BE: Tensor,
    scale: Tensor,
    teacher_images_BF: Tensor,
    teacher_texts_BF: Tensor,
    teacher_scale: float,
    world: World,
) -> Tensor:
    """Scalar, in nats: how far the student's affinities between images and texts are from the teacher's.

        mean over B of (KL(t_i || s_i) + KL(t'_i || s'_i)) / 2,
        s_i = softmax_N(scale <I_i, T_j>), s'_i = softmax_N(scale <T_i, I_j>); t, t' of the teacher with its own scale

    Affinity mimicking of TinyCLIP (Wu et al. 2023, arXiv:2309.12314, section 3.1), whose cross entropies H(t, s) have
    the same gradient: KL is 0 where the student is the teacher. E and F may differ, since only affinities are compared.
    The teacher's features carry no gradient.
    """
    with torch.autocast(images_BE.device.type, enabled=False):
        students = cosines_with_all(images_BE, texts_BE, world)[:2]
        with torch.no_grad():
            teachers = cosines_with_all(teacher_images_BF, teacher_texts_BF, world)[:2]
        losses = [
            _mean_kl(scale.float() * student_BN, teacher_scale * teacher_BN)
            for student_BN, teacher_BN in zip(students, teachers, strict=True)
        ]
        return (losses[0] + losses[1]) / 2


def _mean_kl(student_BN: Tensor, teacher_BN: Tensor) -> Tensor:
    log_s_BN, log_t_BN = functional.log_softmax(student_BN, dim=1), functional.log_softmax(teacher_BN, dim=1)
    return functional.kl_div(log_s_BN, log_t_BN, reduction="batchmean", log_target=True)
