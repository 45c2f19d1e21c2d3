"""What shows without labels whether self-distillation collapses: figures of the teacher on held-out images.

B images, D features, K prototypes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.functional import normalize


class Signs:
    """Tallies batches of teacher probabilities (B, K) and features (B, D), in float64.

    teacher_entropy      mean over images of the entropy of p, in nats: ln K where it says the same of all prototypes
    prototype_entropy    entropy of the mean of p, in nats: 0 where all images fall on one prototype
    feature_std          mean over features of their standard deviation among images, of unit-norm features, times
                         sqrt(D): 0 where all images look alike, 1 where features spread evenly (Chen & He 2021,
                         arXiv:2011.10566, section 4.1)
    """

    def __init__(self) -> None:
        self.num_images = 0
        self.entropy_sum = 0.0
        self.prob_sum_K = self.feature_sum_D = self.square_sum_D = torch.zeros((), dtype=torch.float64)

    def add(self, probs_BK: Tensor, features_BD: Tensor) -> None:
        probs = probs_BK.double().cpu()
        units = normalize(features_BD.double().cpu(), dim=-1)
        self.num_images += len(probs)
        self.entropy_sum += float(_entropy(probs).sum())
        self.prob_sum_K = self.prob_sum_K + probs.sum(dim=0)
        self.feature_sum_D = self.feature_sum_D + units.sum(dim=0)
        self.square_sum_D = self.square_sum_D + units.square().sum(dim=0)

    def figures(self) -> dict[str, float]:
        count = max(1, self.num_images)
        mean_D = self.feature_sum_D / count
        std_D = (self.square_sum_D / count - mean_D.square()).clamp_min(0).sqrt()
        return {
            "teacher_entropy": self.entropy_sum / count,
            "prototype_entropy": float(_entropy(self.prob_sum_K / count)),
            "feature_std": float(std_D.mean()) * math.sqrt(std_D.numel()),
        }


def signs_of(batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Figures of (probs, features) of several batches."""
    signs = Signs()
    for probs_BK, features_BD in batches:
        signs.add(probs_BK, features_BD)
    return signs.figures()


def _entropy(probs: Tensor) -> Tensor:
    """- sum p ln p over the last axis, 0 where p is 0."""
    entropies: Tensor = torch.special.entr(probs)
    return entropies.sum(dim=-1)
