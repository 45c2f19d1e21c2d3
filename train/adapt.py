"""`train adapt`: a vision foundation model becomes the teacher of a task (paper section 3.1, A.4)."""

from __future__ import annotations

import dataclasses
from shlex import quote
from typing import Any, Literal

from reinforce.command import BEFORE

from train.options import LabelledOptions
from train.presets import accepts_presets
from train.results import LabelledResult


@accepts_presets("adapt")
@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptConfig(LabelledOptions):
    model: str
    """The foundation model: a catalog name, a model directory, a timm name.tag or open_clip:MODEL/PRETRAINED."""
    mode: Literal["linear-probe", "full", "best"] = "best"
    """Train the head alone, everything, or both ways and keep what validates better."""
    batch_norm: Literal["batch", "stored"] = dataclasses.field(default="stored", metadata={BEFORE: "batch"})
    """Batch normalisation in full finetuning: by each batch's statistics, or by those that came with the weights and
    then stay (a layer without any takes the batch's): a low learning rate cannot make up for other ones."""


def adapt(config: AdaptConfig) -> LabelledResult | dict[str, Any]:
    """Adapt a foundation model to labelled images, and register it under the run directory's name."""
    from reinforce import catalog
    from reinforce.models.naming import new_name

    from train.students import default_image_size
    from train.supervised import run_labelled
    from train.trials import Recipe
    from train.world import is_main_process

    name = new_name(config.out)
    recipe = Recipe(full_lrs=(1e-5, 5e-5, 2e-4), image_passes=10_000, shortest_epochs=10, longest_epochs=100)
    image_size = config.image_size or default_image_size(config.model)
    outcome = run_labelled(config, verb="adapt", mode=config.mode, model_name=config.model, recipe=recipe,
                           image_size=image_size,
                           next_command=f"reinforce build --teacher {quote(name)} --transfer IMAGES")  # fmt: skip
    if isinstance(outcome, LabelledResult):
        if is_main_process():
            catalog.register("models", name, config.out)
        return dataclasses.replace(outcome, name=name)
    return outcome
