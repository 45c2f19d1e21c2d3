"""A model as a device runs it: branches fused, positions fixed, normalisation and upsampling inside.

Shapes: B batch, C classes, P side of the input in px.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, Literal

import torch
from reinforce.models import ModelInfo, Preprocess, SegmentationModel, upsample
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from timm.utils.model import reparameterize_model
from torch import Tensor, nn

InputKind = Literal["pixels", "normalized"]
PIXELS, LOGITS = "pixels", "logits"
"""Names of the input and of the output, in every format."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Signature:
    """What goes in: RGB, planar, square."""

    image_size: int
    """P."""
    kind: InputKind
    """Pixels of 0..255, or with mean and std applied by the caller."""
    batch_size: int
    is_dynamic: bool
    """Whether any other number of images may come."""


class DeployedModel(nn.Module):
    """float32 (B, 3, P, P) -> logits (B, C), or (B, C, P, P) of a segmentation model; in eval mode, on the CPU."""

    def __init__(self, model: nn.Module, info: ModelInfo, kind: InputKind) -> None:
        """`model` stays as it is."""
        super().__init__()
        self.model = inference_copy(model, info.image_size)
        self.takes_pixels, self.upsamples = kind == "pixels", info.task == "segmentation"
        self.mean: Tensor
        self.std: Tensor
        for name in ("mean", "std"):
            self.register_buffer(name, torch.tensor(getattr(info, name)).mul(255).view(1, 3, 1, 1))
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        normalized_B3PP = (pixels - self.mean) / self.std if self.takes_pixels else pixels
        logits: Tensor = self.model(normalized_B3PP)
        return upsample(logits, pixels.shape[-1]) if self.upsamples else logits


def inference_copy(model: nn.Module, image_size: int) -> nn.Module:
    """Equal but for rounding: FastViT's branches are fused, a ViT's positions are those of inputs of `image_size`."""
    fused: nn.Module = reparameterize_model(copy.deepcopy(model).eval(), inplace=True)
    encoder = fused.encoder if isinstance(fused, SegmentationModel) else fused
    if isinstance(encoder, VisionTransformer) and encoder.dynamic_img_size and encoder.pos_embed is not None:
        _fix_positions(encoder, image_size)
    return fused


def reference_logits(model: nn.Module, info: ModelInfo, views_BPP3: Tensor) -> Tensor:
    """What training and evaluation compute of uint8 views (B, P, P, 3): the answer that a file must give, too."""
    with torch.inference_mode():
        logits: Tensor = model.eval()(Preprocess.from_info(info)(views_BPP3))
        return upsample(logits, info.image_size) if info.task == "segmentation" else logits


def _fix_positions(encoder: Any, image_size: int) -> None:
    """Resample position embeddings once: Core ML has no antialiased resampling, and a device needs none."""
    size = encoder.patch_embed.dynamic_feat_size((image_size, image_size))
    num_prefix = 0 if encoder.no_embed_class else encoder.num_prefix_tokens
    with torch.no_grad():
        positions = resample_abs_pos_embed(encoder.pos_embed, new_size=size, old_size=encoder.patch_embed.grid_size,
                                           num_prefix_tokens=num_prefix)  # fmt: skip
    encoder.pos_embed = nn.Parameter(positions, requires_grad=False)
    encoder.dynamic_img_size, encoder.patch_embed.flatten = False, True
