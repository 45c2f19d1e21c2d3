"""What adapt and finetune hand back: data for --json, two lines for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from shlex import quote
from typing import Any

from reinforce.counting import counted

METRIC_NAMES = {"accuracy": "accuracy", "mean_iou": "mean IoU"}


def finetune_command(out: str, options: str = "") -> str:
    """What is trained on labels next, as a shell takes it."""
    return f"train finetune {options}--model {quote(out)} --data DATA --out {quote(f'{out}-ft')}"


@dataclasses.dataclass(frozen=True)
class LabelledResult:
    """What adapt and finetune return. `val_score`: `metric` in 0..1 on the validation images, None without any."""

    out: str
    model: str
    mode: str
    lr: float
    metric: str
    """accuracy or mean_iou."""
    val_score: float | None
    num_val_images: int
    num_train_images: int
    num_skipped: int
    trials: tuple[Mapping[str, Any], ...]
    next_command: str
    name: str | None = None
    """The catalog name that the model was registered under."""

    @property
    def val_accuracy(self) -> float | None:
        return self.val_score if self.metric == "accuracy" else None

    @property
    def val_mean_iou(self) -> float | None:
        return self.val_score if self.metric == "mean_iou" else None

    def to_json(self) -> dict[str, Any]:
        """The score as val_accuracy or val_mean_iou."""
        named = {f"val_{self.metric}" if name == "val_score" else name: value
                 for name, value in dataclasses.asdict(self).items() if name != "metric"}  # fmt: skip
        return {**named, "trials": [dict(trial) for trial in self.trials]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LabelledResult:
        metric = next(metric for metric in METRIC_NAMES if f"val_{metric}" in data)
        fields = {name: value for name, value in data.items() if name != f"val_{metric}"}
        return cls(**{**fields, "metric": metric, "val_score": data[f"val_{metric}"], "trials": tuple(data["trials"])})

    def __str__(self) -> str:
        metric, score = METRIC_NAMES[self.metric], self.val_score
        images = counted(self.num_val_images, "image")
        measured = "" if score is None else f", validation {metric} {score:.2%} on {images}"
        skipped = f", {counted(self.num_skipped, 'image')} skipped" if self.num_skipped else ""
        registered = f", registered as '{self.name}'" if self.name else ""
        return (f"wrote {self.out} ({self.mode}, lr {self.lr:g}{measured}{skipped}{registered})\n"
                f"next: {self.next_command}")  # fmt: skip
