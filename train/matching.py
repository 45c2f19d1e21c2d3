"""How a student's answer is compared with a store's targets: rows of logits, or maps pixel by pixel.

B batch, C classes, h, w sides of a map.
"""

from __future__ import annotations

from torch import Tensor

from train.batches import Batch
from train.losses import kl_divergence, pixel_kl
from train.metrics import AgreementTally


def matching(answer: Tensor, batch: Batch, temperature: float) -> Tensor:
    """T^2 KL(teacher || student), mean over rows for logits (B, C), over valid pixels for maps (B, C, h, w)."""
    if batch.valid is None:
        return kl_divergence(answer, batch.targets, temperature)
    return pixel_kl(answer, as_maps(batch.targets), batch.valid, temperature)


def add_agreement(tally: AgreementTally, answer: Tensor, batch: Batch, temperature: float) -> None:
    """Count a batch of held-out views."""
    if batch.valid is None:
        tally.add(answer, batch.targets, temperature)
    else:
        tally.add_maps(answer, as_maps(batch.targets), batch.valid, temperature)


def as_maps(logits_BhwC: Tensor) -> Tensor:
    """(B, C, h, w) of what a store keeps cell by cell."""
    return logits_BhwC.movedim(-1, 1)
