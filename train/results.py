"""What adapt and finetune hand back: data for --json, two lines for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class LabelledResult:
    """What adapt and finetune return. `accuracy` in 0..1 on the validation images, None where there are none."""

    out: str
    model: str
    mode: str
    lr: float
    val_accuracy: float | None
    num_val_images: int
    num_train_images: int
    num_skipped: int
    trials: tuple[Mapping[str, Any], ...]
    next_command: str
    name: str | None = None
    """The catalog name that the model was registered under."""

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "trials": [dict(trial) for trial in self.trials]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> LabelledResult:
        return cls(**{**data, "trials": tuple(data["trials"])})

    def __str__(self) -> str:
        measured = "" if self.val_accuracy is None else (
            f", validation accuracy {self.val_accuracy:.2%} on {self.num_val_images} images")  # fmt: skip
        skipped = f", {self.num_skipped} images skipped" if self.num_skipped else ""
        registered = f", registered as '{self.name}'" if self.name else ""
        return (f"wrote {self.out} ({self.mode}, lr {self.lr:g}{measured}{skipped}{registered})\n"
                f"next: {self.next_command}")  # fmt: skip
