"""Linear probe: the encoder's features computed once, then a linear classifier on them (paper A.3).

N images, V views, D features, C classes. Features are standardised for training, so that one learning rate fits every
encoder; the standardisation is then folded into the head, which works on plain features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from reinforce.errors import DataError
from reinforce.models import Preprocess, get_head, pooled_features
from reinforce.progress import Progress
from torch import Tensor, nn

from train.batches import Batch, Rows, SkippedImages, shuffled
from train.optim import autocast
from train.passes import Pass, readable

COMPUTED_FEATURES = 20_000
"""Images times views that a probe computes, unless there are more images than that."""


def num_probe_views(num_images: int, wanted: int) -> int:
    """Augmented views beside the plain one: as wanted for few images, fewer where features would take long."""
    return max(0, min(wanted, COMPUTED_FEATURES // max(num_images, 1) - 1))


@dataclasses.dataclass(frozen=True)
class FeatureTable:
    """Features (V, N, D) float32 with their targets (V, N, C); view e mod V is what epoch e trains on."""

    features: Tensor
    targets: Tensor
    seed: int = 0

    def epoch_order(self, epoch: int) -> Rows:
        return shuffled(self.features.shape[1], seed=self.seed, epoch=epoch)

    def load(self, rows: Rows, epoch: int) -> Batch:
        view, index = epoch % len(self.features), torch.from_numpy(rows)
        return Batch(self.features[view, index], self.targets[view, index])


@dataclasses.dataclass(frozen=True)
class Standardisation:
    """x -> (x - mean) / std per feature, (D,)."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, features_VND: Tensor) -> Standardisation:
        flat = features_VND.flatten(0, 1).double()
        std = flat.std(dim=0, correction=0)
        # A feature that never varies carries nothing: leave its scale, whatever float noise says.
        return cls(flat.mean(dim=0).float(), torch.where(std > 1e-6, std, torch.ones_like(std)).float())

    def __call__(self, features: Tensor) -> Tensor:
        return (features - self.mean) / self.std

    def fold(self, weight_CD: Tensor, bias_C: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias on plain features that give the logits of these on standardised ones."""
        weight = weight_CD.double() / self.std.double()
        bias = bias_C.double() - weight @ self.mean.double()
        return weight.float(), bias.float()


def extract_features(model: nn.Module, rows: Pass, preprocess: Preprocess, *, dtype: torch.dtype | None, seed: int,
                     skipped: SkippedImages, quiet: bool) -> FeatureTable:  # fmt: skip
    """Features of every row in every epoch of a pass, each a view; the model stays in eval mode."""
    device = rows.world.device
    model.to(device).eval()
    parts: list[tuple[Tensor, Tensor]] = []
    with Progress("features", rows.epochs * rows.num_rows, quiet=quiet) as progress:
        for batch in readable(rows, skipped, progress):
            with torch.inference_mode(), autocast(device, dtype):
                features = pooled_features(model, preprocess(batch.inputs, device))
            parts.append((features.float().cpu(), batch.targets))
    if not parts:
        raise DataError("none of the images to validate on can be decoded")
    features, targets = (_by_view(column, rows.epochs) for column in zip(*parts, strict=True))
    return FeatureTable(features, targets, seed)


def _by_view(parts: Sequence[Tensor], num_views: int) -> Tensor:
    rows = torch.cat(list(parts))
    return rows.reshape(num_views, -1, *rows.shape[1:])


def new_probe(num_features: int, num_classes: int) -> nn.Linear:
    """A linear classifier at zero: the loss is convex, so nothing has to be drawn."""
    probe = nn.Linear(num_features, num_classes)
    nn.init.zeros_(probe.weight)
    nn.init.zeros_(probe.bias)
    return probe


@torch.no_grad()
def set_head(model: nn.Module, weight_CD: Tensor, bias_C: Tensor) -> None:
    """Put a probe's folded weights into the model's head."""
    head = get_head(model)
    head.weight.copy_(weight_CD)
    head.bias.copy_(bias_C)
