"""`train finetune`: a model learns a task from labelled images, from scratch or from given weights (paper A.4)."""

from __future__ import annotations

import dataclasses
from shlex import quote
from typing import Any, Literal

from train.options import LabelledOptions
from train.presets import accepts_presets
from train.results import LabelledResult


@accepts_presets("finetune")
@dataclasses.dataclass(frozen=True, kw_only=True)
class FinetuneConfig(LabelledOptions):
    model: str
    """A run or model directory, a catalog name, or a timm name (bare: untrained, so trained from scratch)."""
    mode: Literal["full", "linear-probe", "best"] = "full"
    """Train everything, the head alone, or both ways and keep what validates better."""


def finetune(config: FinetuneConfig) -> LabelledResult | dict[str, Any]:
    """Train a model on labelled images; of several learning rates the best on validation is kept."""
    from train.students import default_image_size
    from train.supervised import run_labelled
    from train.trials import Recipe

    recipe = Recipe(full_lrs=(1e-4, 5e-4, 2e-3), image_passes=20_000, shortest_epochs=20, longest_epochs=200)
    image_size = config.image_size or default_image_size(config.model)
    next_command = f"train evaluate --model {quote(config.out)} --data {quote(config.data)}"
    return run_labelled(config, verb="finetune", mode=config.mode, model_name=config.model, recipe=recipe,
                        image_size=image_size, next_command=next_command)  # fmt: skip
