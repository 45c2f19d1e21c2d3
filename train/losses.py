"""Losses of the paper (section 3.1, A.4). B batch, C classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def kl_divergence(student_BC: Tensor, teacher_BC: Tensor, temperature: float = 1.0) -> Tensor:
    """Scalar: T^2 * mean over B of KL(softmax(teacher / T) || softmax(student / T)), in nats.

    T^2 keeps the gradient's size independent of T (Hinton et al. 2015, arXiv:1503.02531, section 2). The paper matches
    task predictions by KL divergence (section 3.1). Both inputs are logits (B, C); the sum runs in float32.
    """
    log_p_BC = functional.log_softmax(teacher_BC.float() / temperature, dim=1)
    log_q_BC = functional.log_softmax(student_BC.float() / temperature, dim=1)
    kl_B = (log_p_BC.exp() * (log_p_BC - log_q_BC)).sum(dim=1)
    return temperature**2 * kl_B.mean()


def cross_entropy(logits_BC: Tensor, target_BC: Tensor) -> Tensor:
    """Scalar: mean over B of -sum_c target * log softmax(logits), in nats.

    `target_BC` (B, C) float: one-hot rows, or the mixture that MixUp or CutMix made of two of them.
    """
    log_q_BC = torch.log_softmax(logits_BC.float(), dim=1)
    return -(target_BC * log_q_BC).sum(dim=1).mean()
