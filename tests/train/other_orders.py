"""A trained model that says the same of every class, with its classes in another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from reinforce.models import SegmentationModel, get_head, load_model, save_model


def write_in_other_order(folder: Path, out: Path, order: Sequence[int]) -> None:
    """Class i of `out` is class `order[i]` of `folder`."""
    model, info = load_model(folder)
    layer: Any = list(model.head.modules())[-1] if isinstance(model, SegmentationModel) else get_head(model)
    rows = torch.tensor(order)
    with torch.no_grad():
        layer.weight.copy_(layer.weight.clone()[rows])
        layer.bias.copy_(layer.bias.clone()[rows])
    save_model(out, model, replace(info, class_names=tuple(info.class_names[row] for row in order)))
