"""DINO in NumPy, float64, loop by loop, from the paper's pseudocode (arXiv:2104.14294, Algorithm 1; multi-crop 3.1)."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def softmax(logits_K: Floats) -> Floats:
    exps = np.exp(logits_K - logits_K.max())
    return exps / exps.sum()


def loss(student_VBK: Floats, teacher_GBK: Floats, centre_K: Floats, tps: float, tpt: float) -> float:
    """H(t, s) = - (softmax((t - C) / tpt) * log softmax(s / tps)).sum(), over pairs of different crops."""
    terms = []
    for g, teacher_BK in enumerate(teacher_GBK):
        for v, student_BK in enumerate(student_VBK):
            if v != g:
                for t_K, s_K in zip(teacher_BK, student_BK, strict=True):
                    terms.append(-(softmax((t_K - centre_K) / tpt) * np.log(softmax(s_K / tps))).sum())
    return float(np.mean(terms))


def centre(before_K: Floats, teacher_GBK: Floats, m: float = 0.9) -> Floats:
    """C = m * C + (1 - m) * cat([t1, t2]).mean(dim=0)."""
    return m * before_K + (1 - m) * np.concatenate(list(teacher_GBK)).mean(axis=0)


def head(features_BD: Floats, weights: list[tuple[Floats, Floats]], prototypes_KN: Floats) -> Floats:
    """Linear, GELU, linear, GELU, linear, unit norm, cosines."""
    x = features_BD
    for index, (weight, bias) in enumerate(weights):
        x = x @ weight.T + bias
        if index < len(weights) - 1:
            x = x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    return x @ (prototypes_KN / np.linalg.norm(prototypes_KN, axis=1, keepdims=True)).T
