"""The ways in which a labelled run trains: a mode and a learning rate each, and how they compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

PROBE, FULL = "linear-probe", "full"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A verb's defaults: learning rates per mode, and how many images a full training shows in all."""

    probe_lrs: tuple[float, ...] = (3e-4, 1e-3, 3e-3)
    full_lrs: tuple[float, ...]
    image_passes: int
    shortest_epochs: int
    longest_epochs: int


@dataclasses.dataclass(frozen=True)
class Trial:
    mode: str
    lr: float

    @property
    def name(self) -> str:
        return f"{self.mode}-lr{self.lr:g}"


@dataclasses.dataclass(frozen=True)
class TrialResult:
    """`score` (0..1, what `metric` says) and `loss` on the validation images; a trial that diverged has score -1."""

    mode: str
    lr: float
    step: int
    num_trained: int
    score: float
    loss: float
    metric: str = "accuracy"

    @property
    def trial(self) -> Trial:
        return Trial(self.mode, self.lr)

    @property
    def order(self) -> tuple[float, ...]:
        """Best is largest: score, then fewer trained parameters, then loss."""
        return (self.score, -self.num_trained, -self.loss)

    def to_json(self) -> dict[str, Any]:
        """The score under its metric's name."""
        return {"mode": self.mode, "lr": self.lr, "step": self.step, "num_trained": self.num_trained,
                self.metric: self.score, "loss": self.loss}  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any], metric: str) -> TrialResult:
        return cls(data["mode"], data["lr"], data["step"], data["num_trained"], data[metric], data["loss"], metric)


def plan_trials(mode: str, lrs: Sequence[float], recipe: Recipe) -> list[Trial]:
    """Probes first: full finetuning starts from the best of their heads.

    With both kinds `lrs` are those of full finetuning: a head alone wants larger ones, and costs next to nothing.
    """
    probe_lrs = lrs if mode == PROBE and lrs else recipe.probe_lrs
    probes = [Trial(PROBE, lr) for lr in probe_lrs] if mode in (PROBE, "best") else []
    full = [Trial(FULL, lr) for lr in lrs or recipe.full_lrs] if mode in (FULL, "best") else []
    return probes + full
