"""The same encoder for the other task: its weights stay, the head is new.

Every function takes a module and its ModelInfo and gives new ones; the module that it was given must not be used again.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from torch import nn

from reinforce.models import open_clip_dense, open_clip_encoder, stride, timm_encoder
from reinforce.models.checkpoint import load_strictly
from reinforce.models.heads import feature_name, has_head
from reinforce.models.info import ModelInfo
from reinforce.models.segmentation import SegmentationModel


def to_segmentation(
    model: nn.Module, info: ModelInfo, *, image_size: int | None, output_stride: int, dilated: bool
) -> tuple[SegmentationModel, ModelInfo]:
    """The encoder with a map, without a head. `image_size` None: the model's own, cut to whole cells.

    Raises UsageError for architectures without such a map and for sizes that it would not cover.
    """
    args = _dense_args(model, info)
    dense = build_dense(replace(info, model_args=args), output_stride=output_stride, dilated=dilated)
    load_strictly(dense.encoder, _encoder_state(model), info.architecture)
    size = image_size or info.image_size // dense.size_multiple * dense.size_multiple
    dense.check_size(size)
    segmentation = replace(
        info, task="segmentation", image_size=size, model_args=args, head="none", class_names=(), metrics={},
        feature="map", output_stride=output_stride, dilated=dilated,
    )  # fmt: skip
    return dense.eval(), segmentation


def to_classification(model: SegmentationModel, info: ModelInfo) -> tuple[nn.Module, ModelInfo]:
    """The encoder with its pooling, at its native stride and size, without a head."""
    args = stride.classifier_args(info.model_args)
    size = int(args.get("img_size", info.image_size))
    if _is_open_clip(info):
        args.pop("img_size")
        module: nn.Module = open_clip_encoder.build(info.architecture, num_classes=0, image_size=size, joint=False)
    else:
        module = timm_encoder.build(info.architecture, num_classes=0, model_args=args)
    load_strictly(module, _encoder_state(model), info.architecture)
    classification = replace(
        info, task="classification", image_size=size, model_args=args, head="none", class_names=(), metrics={},
        feature=feature_name(module), output_stride=None, dilated=False,
    )  # fmt: skip
    return module.eval(), classification


def build_dense(info: ModelInfo, *, output_stride: int, dilated: bool) -> SegmentationModel:
    """Random weights, the head that a segmentation model's `info` names or none."""
    if _is_open_clip(info):
        size = int(info.model_args["img_size"])
        encoder = open_clip_dense.build(info.architecture, native_size=size, output_stride=output_stride,
                                        dilated=dilated)  # fmt: skip
    else:
        encoder = stride.build(
            info.architecture, model_args=info.model_args, output_stride=output_stride, dilated=dilated
        )
    is_dense = info.task == "segmentation"
    return SegmentationModel(
        encoder,
        head=info.head if is_dense else "none",
        num_classes=info.num_classes if is_dense else 0,
        output_stride=output_stride,
        name=info.architecture,
    )


def _dense_args(model: nn.Module, info: ModelInfo) -> dict[str, Any]:
    """An open_clip tower keeps its positions' grid, so its own size must be known at any input size."""
    if info.task == "segmentation":
        return dict(info.model_args)
    if _is_open_clip(info):
        return {"img_size": info.image_size}
    return stride.dense_args(model, info.model_args)


def _encoder_state(model: nn.Module) -> dict[str, Any]:
    if isinstance(model, SegmentationModel):
        return model.encoder.state_dict()
    if has_head(model):
        cast(Any, model).reset_classifier(0)
    if isinstance(model, open_clip_encoder.OpenClipClassifier):
        model.joint_projection = None
    return model.state_dict()


def _is_open_clip(info: ModelInfo) -> bool:
    return info.architecture.startswith(open_clip_encoder.PREFIX)
