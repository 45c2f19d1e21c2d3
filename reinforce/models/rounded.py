"""Weights rounded once to what autocast rounds them to for every batch anew."""

from __future__ import annotations

import torch
from torch import nn

ROUNDED = (nn.Linear, nn.Conv2d)
"""Modules whose weights autocast hands to bf16 products, and nothing else reads: subclasses may."""


def round_weights(model: nn.Module) -> None:
    """Keep the weights of linear layers and convolutions in bfloat16, in place.

    For inference under `torch.autocast` in bfloat16, which then gives the same bits sooner and from half the memory.
    Without autocast such a model takes no float32 images.
    """
    for module in model.modules():
        if type(module) in ROUNDED:
            module.to(torch.bfloat16)
