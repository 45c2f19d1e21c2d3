"""The linear head and the feature that it sees: final CLS token of a ViT, pooled features of a CNN (paper A.3).

Shapes: B batch, C classes, D feature, P input side in px.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from reinforce.errors import ModelError

HEAD_INIT_STD = 0.02


def get_head(model: nn.Module) -> nn.Linear:
    """The classifier, weight (C, D). Raises ModelError when the model has none or one that is not linear."""
    head = _classifier(model)
    if isinstance(head, nn.Linear):
        return head
    raise ModelError(f"{type(model).__name__} has no linear head but {type(head).__name__}: give it classes first")


def has_head(model: nn.Module) -> bool:
    return not isinstance(_classifier(model), nn.Identity)


def reset_head(model: nn.Module, num_classes: int) -> None:
    """Replace the classifier in place: weights normal with std 0.02 truncated, bias 0; 0 classes remove it."""
    device = next(model.parameters()).device
    cast(Any, model).reset_classifier(num_classes)
    if num_classes == 0:
        return
    head = get_head(model).to(device)
    nn.init.trunc_normal_(head.weight, std=HEAD_INIT_STD)
    if head.bias is not None:
        nn.init.zeros_(head.bias)


def reorder_classes(layer: nn.Linear | nn.Conv2d, order: Sequence[int]) -> None:
    """Put a classifier's classes in another order, in place: class i becomes what class `order[i]` was."""
    rows = torch.tensor(order, device=layer.weight.device)
    with torch.no_grad():
        for weights in layer.parameters():
            weights.copy_(weights[rows])


def pooled_features(model: nn.Module, images_B3PP: Tensor) -> Tensor:
    """What the head sees, (B, D): `get_head(model)(pooled_features(model, x))` equals `model(x)` in eval mode."""
    encoder = cast(Any, model)
    if hasattr(model, "forward_features_pooled"):
        return cast(Tensor, encoder.forward_features_pooled(images_B3PP))
    return cast(Tensor, encoder.forward_head(encoder.forward_features(images_B3PP), pre_logits=True))


def feature_dim(model: nn.Module) -> int:
    """D of `pooled_features`."""
    head = _classifier(model)
    if isinstance(head, nn.Linear):
        return head.in_features
    return int(getattr(model, "head_hidden_size", None) or cast(Any, model).num_features)


def feature_name(model: nn.Module) -> str:
    """The feature that the head sees: "cls" for the CLS token, else the encoder's pooling ("avg" for CNNs)."""
    pool = getattr(model, "global_pool", None)
    if not isinstance(pool, str):  # many CNNs keep a pooling layer under this name, or have it in their head
        pool = getattr(pool, "pool_type", None) or "avg"
    return "cls" if pool == "token" else pool


def _classifier(model: nn.Module) -> nn.Module:
    if not hasattr(model, "get_classifier"):
        raise ModelError(f"{type(model).__name__} has no classifier that can be replaced: choose another architecture")
    head = cast(Any, model).get_classifier()
    if not isinstance(head, nn.Module):
        raise ModelError(f"{type(model).__name__} has several heads: choose an architecture with one")
    return head
