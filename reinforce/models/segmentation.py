"""An encoder with a map and a head on it: per-pixel logits before upsampling.

Shapes: B batch, C classes, D channels, P input side in px, h, w = P / output stride, S side of the view in px.
"""

from __future__ import annotations

from typing import Any, Literal, cast

from torch import Tensor, nn
from torch.nn.functional import interpolate

from reinforce.errors import UsageError
from reinforce.models.heads import HEAD_INIT_STD
from reinforce.models.stride import check_size, final_map, map_channels, size_multiple

SegmentationHead = Literal["deeplabv3", "linear", "none"]


class SegmentationModel(nn.Module):
    """`forward` maps normalised pixels (B, 3, P, P) to logits (B, C, h, w), before upsampling.

    `encoder` has timm's own names (or open_clip's) and no classifier; `head(features(x))` equals `forward(x)`. Without
    classes the head is the identity.
    """

    def __init__(self, encoder: nn.Module, *, head: SegmentationHead, num_classes: int, output_stride: int,
                 name: str) -> None:  # fmt: skip
        super().__init__()
        self.encoder = encoder
        self.output_stride = output_stride
        self.num_features = map_channels(encoder, output_stride)
        self.size_multiple = size_multiple(encoder, output_stride)
        self.name = name
        self.head: nn.Module = nn.Identity()
        self.reset_head(head, num_classes)

    def reset_head(self, head: SegmentationHead, num_classes: int) -> None:
        """A new head, random weights, on the encoder's device."""
        device = next(self.encoder.parameters()).device
        self.num_classes = num_classes
        self.head = make_head(head, self.num_features, num_classes).to(device).train(self.training)

    @property
    def classifier(self) -> nn.Conv2d:
        """The head's last layer, weight (C, D, 1, 1); only of a model with classes."""
        return [layer for layer in self.head.modules() if isinstance(layer, nn.Conv2d)][-1]

    def check_size(self, image_size: int) -> None:
        """Raises UsageError, naming the nearest good sizes, for inputs that the map would not cover."""
        check_size(image_size, self.size_multiple, self.name, self.output_stride)

    def no_weight_decay(self) -> set[str]:
        """Names of the parameters that the encoder's authors do not decay: positions and tokens."""
        rule = getattr(self.encoder, "no_weight_decay", set)
        return {f"encoder.{name}" for name in rule()}

    def features(self, images_B3PP: Tensor) -> Tensor:
        """The encoder's final spatial map (B, D, h, w)."""
        for side in images_B3PP.shape[2:]:
            self.check_size(int(side))
        return final_map(self.encoder, images_B3PP, self.output_stride)

    def forward(self, images_B3PP: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.features(images_B3PP))).contiguous()


def make_head(kind: SegmentationHead, num_features: int, num_classes: int) -> nn.Module:
    """(B, D, h, w) -> (B, C, h, w): torchvision's DeepLabV3 head (paper A.3), a 1 x 1 convolution, or the identity."""
    if kind == "none":
        return nn.Identity()
    if kind == "linear":
        return _linear_head(num_features, num_classes)
    from torchvision.models.segmentation.deeplabv3 import DeepLabHead

    head = cast(nn.Module, DeepLabHead(num_features, num_classes))
    head.register_forward_pre_hook(_refuse_batches_of_one)
    return head


def upsample(map_logits_BChw: Tensor, size_px: int) -> Tensor:
    """(B, C, h, w) -> (B, C, S, S): bilinear, align_corners=False; linear in the logits and per class."""
    return interpolate(map_logits_BChw, (size_px, size_px), mode="bilinear", align_corners=False)


def _linear_head(num_features: int, num_classes: int) -> nn.Module:
    head = nn.Conv2d(num_features, num_classes, 1)
    nn.init.trunc_normal_(head.weight, std=HEAD_INIT_STD)
    if head.bias is not None:
        nn.init.zeros_(head.bias)
    return head


def _refuse_batches_of_one(head: nn.Module, inputs: tuple[Any, ...]) -> None:
    alone = any(type(module) is nn.BatchNorm2d for module in head.modules())  # SyncBatchNorm has other ranks' images
    if head.training and alone and inputs[0].shape[0] == 1:
        raise UsageError(
            "a deeplabv3 head normalises its image pooling over the batch and cannot train on one image: "
            "type --batch-size 2 or more, or --head linear"
        )
