"""Small segmentation models and images for tests."""

from __future__ import annotations

from typing import Any

import torch

from reinforce.models import ModelInfo, SegmentationModel, create_model

VIT = "vit_tiny_patch16_224"
FAST = "fastvit_t8"
SMALL = "mobilevitv2_050"
NAMES = ("a", "b", "c")


def make(name: str = SMALL, image_size: int = 64, **options: Any) -> tuple[SegmentationModel, ModelInfo]:
    asked = {"class_names": NAMES, "task": "segmentation", "head": "linear", "image_size": image_size}
    model, info = create_model(name, **{**asked, **options})
    assert isinstance(model, SegmentationModel)
    return model, info


def pixels(image_size: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, image_size, image_size, generator=torch.Generator().manual_seed(1))
