"""A trained model that is measured and shown: opened by its name, for a task, on a device."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import torch
from reinforce.errors import UsageError
from reinforce.models import ModelInfo, change_classes, create_model, is_other_order, short_name
from reinforce.models.info import comfortable_batch
from torch import nn

from train.evaluate import check_class_names
from train.optim import autocast_dtype
from train.students import own_task
from train.world import World

if TYPE_CHECKING:
    from train.evaluate import EvaluateConfig


@dataclasses.dataclass(frozen=True)
class EvaluatedModel:
    task: ClassVar[Literal["classification", "segmentation"]]
    choose: ClassVar[str]
    """What to type instead of a model of another task."""

    name: str
    """What it is called; no path."""
    model: nn.Module
    info: ModelInfo
    dtype: torch.dtype | None
    world: World
    batch_size: int
    """Images of a forward pass."""
    reordered: bool = False
    """Whether its classes were in another order than those of the data, in which it answers here."""

    @classmethod
    def open(cls, name: str, config: EvaluateConfig, class_names: Sequence[str], world: World) -> Self:
        """In eval mode, on the device. Raises UsageError for a model of another task, ModelError without a head."""
        if (task := own_task(name)) != cls.task:
            raise UsageError(f"{name} is a model of {task}: choose one that {cls.choose}")
        size = config.image_size if name == config.model else None
        model, info = create_model(name, image_size=size, task=cls.task)
        check_class_names(name, info, class_names)
        reordered = is_other_order(info, class_names)
        if reordered:
            info = change_classes(model, info, class_names)
        dtype = autocast_dtype(config.precision, model, world.device)
        batch_size = config.batch_size or comfortable_batch(info)
        return cls(short_name(name), model.to(world.device).eval(), info, dtype, world, batch_size, reordered)
