"""Supervised pretraining (paper A.4, IN-Pretrain): finetune's own loop on the labels of another dataset."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from train.options import LabelledOptions
from train.results import LabelledResult, finetune_command

PAPER_LR = 2e-3
PAPER_EPOCHS = 300


@dataclasses.dataclass(frozen=True, kw_only=True)
class SupervisedConfig(LabelledOptions):
    method: Literal["supervised"] = "supervised"
    """This method."""
    model: str
    """A timm name (bare: untrained), a catalog name or a directory."""


def pretrain_supervised(config: SupervisedConfig) -> LabelledResult | dict[str, Any]:
    """Train a whole model on labelled images; the epoch that validates best is kept, with its head."""
    from train.students import default_image_size
    from train.supervised import run_labelled
    from train.trials import FULL, Recipe

    recipe = Recipe(full_lrs=(PAPER_LR,), image_passes=200_000, shortest_epochs=20, longest_epochs=PAPER_EPOCHS)
    image_size = config.image_size or default_image_size(config.model)
    next_command = finetune_command(config.out)
    return run_labelled(config, verb="pretrain", mode=FULL, model_name=config.model, recipe=recipe,
                        image_size=image_size, next_command=next_command)  # fmt: skip
