"""How a student is compared with a store's targets while it trains, and on held-out rows.

B batch, P the student's input side in px, C classes, h, w sides of a map.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from train.batches import Batch
from train.losses import kl_divergence, pixel_kl
from train.metrics import AgreementTally


class HeldOutTally(ABC):
    """Counts over the batches of an evaluation."""

    @abstractmethod
    def add(self, student: nn.Module, images_B3PP: Tensor, batch: Batch) -> None: ...

    @abstractmethod
    def figures(self) -> dict[str, float]:
        """By the names that `Matching.figures` lists."""


class Matching(ABC):
    """A loss of distillation."""

    figures: ClassVar[tuple[str, ...]]
    """What is measured on held-out rows; the student with the smallest first figure is best, without any label."""

    @abstractmethod
    def loss(self, student: nn.Module, images_B3PP: Tensor, batch: Batch) -> Tensor:
        """Mean over the batch's rows, or valid pixels; `images_B3PP` are its inputs, as the student takes them."""

    @abstractmethod
    def tally(self) -> HeldOutTally: ...

    def rank(self, scores: Mapping[str, float]) -> tuple[float, ...]:
        """Best is largest."""
        return (-scores[self.figures[0]],)


class LogitMatching(Matching):
    """--loss kl: of logits, row by row or pixel by pixel."""

    figures = ("kl", "agreement")

    def __init__(self, temperature: float) -> None:
        self.temperature = temperature

    def loss(self, student: nn.Module, images_B3PP: Tensor, batch: Batch) -> Tensor:
        return matching(student(images_B3PP), batch, self.temperature)

    def tally(self) -> HeldOutTally:
        return _LogitTally(self.temperature)


class _LogitTally(HeldOutTally):
    def __init__(self, temperature: float) -> None:
        self.temperature, self.counts = temperature, AgreementTally()

    def add(self, student: nn.Module, images_B3PP: Tensor, batch: Batch) -> None:
        add_agreement(self.counts, student(images_B3PP), batch, self.temperature)

    def figures(self) -> dict[str, float]:
        return {"kl": self.counts.kl, "agreement": self.counts.agreement}


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
