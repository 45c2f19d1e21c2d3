"""An encoder with DINO's projection head, which is dropped after pretraining (Caron et al. 2021, section 3.2).

B crops of one size, D features, N bottleneck, K prototypes, P a crop's side in px.
"""

from __future__ import annotations

import math

import torch
from reinforce.errors import ModelError, UsageError
from reinforce.models import ModelInfo, feature_dim, timm_encoder
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from train.pretrain.dino_config import LOCAL_SHARE

BOTTLENECK = 256
HEAD_INIT_STD = 0.02
WHOLE_PX = 16
"""Sizes of small crops are multiples of it, for encoders without patches."""


class DinoHead(nn.Module):
    """Three linear layers with GELU between them, then cosines to K prototypes: a weight-normalised layer without gain.

    logits = W z / |z|, rows of W of norm 1, z = the bottleneck (B, N).
    """

    def __init__(self, num_features: int, width: int, num_prototypes: int, bottleneck: int = BOTTLENECK) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(num_features, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
                                    nn.Linear(width, bottleneck))  # fmt: skip
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=HEAD_INIT_STD)
                nn.init.zeros_(layer.bias)
        self.prototypes_KN = nn.Parameter(torch.empty(num_prototypes, bottleneck))
        nn.init.kaiming_uniform_(self.prototypes_KN, a=math.sqrt(5))

    def forward(self, features_BD: Tensor) -> Tensor:
        """(B, K)."""
        z_BN = normalize(self.layers(features_BD), dim=-1)
        return linear(z_BN, normalize(self.prototypes_KN, dim=-1))


class DinoModel(nn.Module):
    """Student or teacher."""

    def __init__(self, encoder: nn.Module, head: DinoHead) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, *crops_B3PP: Tensor) -> Tensor:
        """Logits (B1 + B2 + ..., K) of crops of several sizes, one after the other; of no crops none."""
        features = [self.encoder(crops) for crops in crops_B3PP if len(crops)]
        logits: Tensor = self.head(torch.cat(features))
        return logits

    def no_weight_decay(self) -> set[str]:
        """The encoder's own exceptions."""
        own_rule = getattr(self.encoder, "no_weight_decay", None)
        return {f"encoder.{name}" for name in own_rule()} if callable(own_rule) else set()


def add_head(encoder: nn.Module, *, width: int, num_prototypes: int) -> DinoModel:
    return DinoModel(encoder, DinoHead(feature_dim(encoder), width, num_prototypes))


def flexible(encoder: nn.Module, info: ModelInfo) -> nn.Module:
    """The same weights, in a module that takes crops of several sizes. Raises UsageError where there is none.

    ViTs resample their positions for every size, under the same names: what is saved is the encoder of `info`.
    """
    refused = UsageError(f"{info.architecture} takes images of one size: type --num-local 0 for large crops alone, or "
                         "another --model")  # fmt: skip
    if info.architecture.startswith("open_clip:"):
        raise refused
    if not timm_encoder.has_fixed_size(info.architecture):
        return encoder
    try:
        other = timm_encoder.build(info.architecture, num_classes=0,
                                   model_args={**info.model_args, "dynamic_img_size": True})  # fmt: skip
    except ModelError:
        raise refused from None
    other.load_state_dict(encoder.state_dict())
    return other


def small_size(encoder: nn.Module, image_size: int, wanted: int | None) -> int:
    """Side of the small crops: as wanted, or what DINO's 96 px are to 224 px, in whole patches. Raises UsageError."""
    patch = timm_encoder.patch_px(encoder)
    if wanted is not None and wanted % patch:
        low = wanted // patch * patch
        raise UsageError(f"--local-size is {wanted}: patches of {patch} px do not cover it, type {low or patch}")
    multiple = patch if patch > 1 else WHOLE_PX
    return wanted or min(image_size, max(multiple, round(image_size * LOCAL_SHARE / multiple) * multiple))
