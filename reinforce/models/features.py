"""What is matched where no task is: an encoder's feature of a whole image, and the features of its patches.

Shapes: B batch, D channels, P input side in px, h, w sides of the final map, in cells.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from reinforce.errors import UsageError
from reinforce.models import open_clip_dense
from reinforce.models.heads import feature_dim, pooled_features
from reinforce.models.open_clip_encoder import OpenClipClassifier
from reinforce.models.segmentation import SegmentationModel


def global_features(model: nn.Module, images_B3PP: Tensor) -> Tensor:
    """One feature an image, (B, D), not normalised: final CLS token of a ViT, pooled features of a CNN (paper A.3).

    An open_clip tower that was not adapted gives the image's embedding in the space that it shares with text
    (paper A.4). Raises UsageError for segmentation models.
    """
    _check_classifies(model)
    pooled_BD, projection = pooled_features(model, images_B3PP), _joint_projection(model)
    return pooled_BD if projection is None else pooled_BD @ projection


def global_width(model: nn.Module) -> int:
    """D of `global_features`. Raises UsageError for segmentation models."""
    _check_classifies(model)
    projection = _joint_projection(model)
    return feature_dim(model) if projection is None else int(projection.shape[1])


def patch_features(model: nn.Module, images_B3PP: Tensor) -> Tensor:
    """The final spatial map (B, D, h, w) at the encoder's own stride; of a ViT its patch tokens after the last norm.

    A segmentation model gives the map that its head sees. Raises UsageError for encoders without a map.
    """
    if isinstance(model, SegmentationModel):
        return model.features(images_B3PP)
    if isinstance(model, OpenClipClassifier):
        return open_clip_dense.patch_map(model.visual, images_B3PP)
    features = cast(Any, model).forward_features(images_B3PP)
    if not isinstance(features, Tensor) or features.ndim not in (3, 4):
        raise _no_map(model)
    if features.ndim == 3:
        return _tokens_to_map(model, features)
    return features.movedim(-1, 1) if getattr(model, "output_fmt", "NCHW") == "NHWC" else features


def patch_shape(model: nn.Module, image_size: int) -> tuple[int, int, int]:
    """(D, h, w) of `patch_features` for square inputs of `image_size` px; runs one grey image."""
    was_training = model.training
    parameter = next(model.parameters())
    grey = torch.zeros(1, 3, image_size, image_size, device=parameter.device, dtype=parameter.dtype)
    with torch.no_grad():
        _, channels, height, width = patch_features(model.eval(), grey).shape
    model.train(was_training)
    return channels, height, width


def _tokens_to_map(model: nn.Module, tokens_BND: Tensor) -> Tensor:
    """Of square inputs; class and register tokens come first."""
    patches_BND = tokens_BND[:, int(getattr(model, "num_prefix_tokens", 0)) :]
    side = math.isqrt(patches_BND.shape[1])
    if side * side != patches_BND.shape[1]:
        raise _no_map(model)
    return patches_BND.transpose(1, 2).reshape(len(patches_BND), -1, side, side)


def _joint_projection(model: nn.Module) -> Tensor | None:
    return cast(Tensor | None, getattr(model, "joint_projection", None))


def _check_classifies(model: nn.Module) -> None:
    if isinstance(model, SegmentationModel):
        raise UsageError(f"{model.name} at stride {model.output_stride} has no feature of a whole image: type another "
                         "model, or patch-features")  # fmt: skip


def _no_map(model: nn.Module) -> UsageError:
    return UsageError(f"{type(model).__name__} has no map of patch features: ViTs and convolutional networks have one")
