"""ViT towers of open_clip with a map at stride 8: the names and shapes of their weights stay.

Shapes: B batch, N tokens, D channels, P input side in px, h, w = P / output stride.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor, nn

from reinforce.errors import UsageError
from reinforce.models import open_clip_encoder
from reinforce.models.stride import patch_padding


class OpenClipDense(nn.Module):
    """`forward_features` gives the tower's patch tokens after its last norm as a map (B, D, h, w)."""

    def __init__(self, visual: Any, output_stride: int, name: str) -> None:
        super().__init__()
        _check_tower(visual, name)
        projection = visual.conv1
        padding = patch_padding(projection.kernel_size[0], output_stride, name)
        projection.stride, projection.padding = (output_stride,) * 2, (padding,) * 2
        visual.proj = None
        self.visual = visual
        self.num_features = int(visual.ln_post.normalized_shape[0])

    def forward_features(self, images_B3PP: Tensor) -> Tensor:
        return patch_map(self.visual, images_B3PP)

    def no_weight_decay(self) -> set[str]:
        return {"visual.positional_embedding", "visual.class_embedding"}


def patch_map(visual: Any, images_B3PP: Tensor) -> Tensor:
    """A ViT tower's patch tokens after its last norm, as a map (B, D, h, w). Raises UsageError for other towers."""
    _check_tower(visual, type(visual).__name__)
    map_BDhw = visual.conv1(images_B3PP)
    grid = tuple(map_BDhw.shape[2:])
    patches_BND = map_BDhw.flatten(2).transpose(1, 2)
    cls_B1D = visual.class_embedding.to(patches_BND.dtype).expand(len(patches_BND), 1, -1)
    tokens_BND = torch.cat([cls_B1D, patches_BND], dim=1) + _positions(visual, grid).to(patches_BND.dtype)
    tokens_BND = visual.ln_post(visual.transformer(visual.ln_pre(tokens_BND)))
    patches: Tensor = tokens_BND[:, 1:].transpose(1, 2).reshape(map_BDhw.shape)
    return patches


def build(name: str, *, native_size: int, output_stride: int, dilated: bool) -> nn.Module:
    """The tower without head, random weights. Raises UsageError for towers that are no built-in ViT."""
    if dilated:
        raise UsageError(f"{name} cannot be dilated: leave out --dilated")
    classifier = open_clip_encoder.build(name, num_classes=0, image_size=native_size)
    return OpenClipDense(classifier.visual, output_stride, name)


def _check_tower(visual: Any, name: str) -> None:
    is_vit = isinstance(getattr(visual, "conv1", None), nn.Conv2d) and hasattr(visual, "positional_embedding")
    if not is_vit or getattr(visual, "attn_pool", None) is not None:
        raise UsageError(f"{name} has no map: of open_clip's towers the ViTs have one, "
                         f"without attention pooling")  # fmt: skip


def _positions(visual: Any, grid: tuple[int, ...]) -> Tensor:
    positions: Tensor = resample_abs_pos_embed(
        visual.positional_embedding[None], new_size=list(grid), old_size=list(visual.grid_size), num_prefix_tokens=1
    )
    return positions
