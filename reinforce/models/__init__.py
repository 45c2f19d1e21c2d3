"""Encoders by name with a head on top: create, load, save, and feed them.

A model is a plain `torch.nn.Module` whose `forward` maps normalised pixels (B, 3, P, P) to logits (B, C): timm's own
module, or `OpenClipClassifier`; a `SegmentationModel` maps them to a map of logits (B, C, h, w). `ModelInfo` is what
`model.json` says about it. open_clip is imported only when an "open_clip:..." name is asked for.
"""

from __future__ import annotations

from reinforce.models.create import (
    change_classes,
    change_image_size,
    check_model,
    create_model,
    find_directory,
    is_other_order,
    load_model,
    short_name,
    side_multiple,
)
from reinforce.models.directory import load_extra, save_model, weights_sha256
from reinforce.models.features import global_features, global_width, patch_features, patch_shape
from reinforce.models.heads import feature_dim, get_head, pooled_features, reset_head
from reinforce.models.info import ModelInfo, numbered_class_names
from reinforce.models.preprocess import Preprocess
from reinforce.models.segmentation import SegmentationModel, upsample

__all__ = [
    "ModelInfo",
    "Preprocess",
    "SegmentationModel",
    "change_classes",
    "change_image_size",
    "check_model",
    "create_model",
    "feature_dim",
    "find_directory",
    "get_head",
    "global_features",
    "global_width",
    "is_other_order",
    "load_extra",
    "load_model",
    "numbered_class_names",
    "patch_features",
    "patch_shape",
    "pooled_features",
    "reset_head",
    "save_model",
    "short_name",
    "side_multiple",
    "upsample",
    "weights_sha256",
]
