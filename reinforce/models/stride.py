"""Encoders at output stride 8 (paper A.3): the names and shapes of all weights stay those of the pretrained model.

- ViTs: the patch embedding's stride becomes 8, its kernel stays. Position embeddings stay at the pretrained grid and
  are resampled to the map's grid in each forward (bicubic, antialiased), so another image size costs nothing.
- Convolutional networks (FastViT, MobileViTv2, ResNet, ...): the stride-2 convolutions behind stride 8 get stride 1.
  `dilated` builds them with timm's `output_stride` instead, which also dilates what follows.

Shapes: B batch, D channels, P input side in px, h, w = P / output stride.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from timm.models.eva import Eva
from timm.models.mobilevit import MobileVitV2Block
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from reinforce.errors import ModelError, UsageError
from reinforce.models import timm_encoder
from reinforce.models.alignment import called_modules, centre_cells, halvings, run_probe

CAN = "ViTs, FastViT, MobileViTv2 and most convolutional networks can"


def build(architecture: str, *, model_args: Mapping[str, Any], output_stride: int, dilated: bool) -> nn.Module:
    """The encoder without classifier, random weights, whose map has 1 / `output_stride` of the input's side.

    Weights that only pooling leads to (MobileNetV3's last convolution) stay as they are and ask for no gradient.
    Raises UsageError for architectures that have no such map.
    """
    timm_encoder.check_name(architecture)
    if dilated:
        encoder = _build_dilated(architecture, model_args, output_stride)
    else:
        encoder = timm_encoder.build(architecture, num_classes=0, model_args=model_args)
    try:
        if isinstance(encoder, VisionTransformer | Eva):
            _set_patch_stride(encoder, architecture, output_stride)
        else:
            _set_strides(encoder, output_stride)
            centre_cells(encoder, output_stride)
        _check_map(encoder, architecture, output_stride)
        _freeze_unreached(encoder)
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise _no_map(architecture, output_stride) from error
    return encoder


def dense_args(model: nn.Module, model_args: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `timm.create_model` for the same encoder at inputs of any size; `model` has the classifier's."""
    dynamic = {"dynamic_img_size": True} if isinstance(model, VisionTransformer | Eva) else {}
    return {**model_args, **dynamic}


def classifier_args(model_args: Mapping[str, Any]) -> dict[str, Any]:
    """The reverse of `dense_args`."""
    return {key: value for key, value in model_args.items() if key != "dynamic_img_size"}


def final_map(encoder: nn.Module, images_B3PP: Tensor, output_stride: int) -> Tensor:
    """The encoder's final spatial features (B, D, h, w); of a ViT its normalised patch tokens."""
    features = cast(Tensor, cast(Any, encoder).forward_features(images_B3PP))
    return features if features.ndim == 4 else _tokens_to_map(encoder, features, images_B3PP, output_stride)


def map_channels(encoder: nn.Module, output_stride: int) -> int:
    """D of `final_map`."""
    features = cast(Tensor, run_probe(encoder, 4 * output_stride))
    return int(features.shape[1] if features.ndim == 4 else features.shape[2])


def size_multiple(encoder: nn.Module, output_stride: int) -> int:
    """What the input's side must be a multiple of, in px: MobileViTv2 cuts its map into patches of 2 x 2 cells."""
    patches = [max(m.patch_size) for m in encoder.modules() if isinstance(m, MobileVitV2Block)]
    return output_stride * max(patches, default=1)


def check_size(image_size: int, multiple: int, name: str, output_stride: int) -> None:
    """Raises UsageError, naming the nearest good sizes, when the map would not cover the image."""
    if image_size > 0 and image_size % multiple == 0:
        return
    low = max(image_size, 0) // multiple * multiple
    good = " or ".join(f"--image-size {size}" for size in (low, low + multiple) if size > 0)
    raise UsageError(f"{name} at output stride {output_stride} takes images whose side divides by {multiple}, "
                     f"{image_size} px does not: type {good}")  # fmt: skip


def patch_padding(kernel_px: int, stride_px: int, name: str) -> int:
    """Padding that centres patch i on stride * i + (stride - 1) / 2, as bilinear upsampling has it.

    Raises UsageError where no whole number of pixels does.
    """
    padding, odd = divmod(kernel_px - stride_px, 2)
    if odd or padding < 0:
        raise UsageError(f"{name} cuts patches of {kernel_px} px, which output stride {stride_px} cannot centre")
    return padding


def _set_patch_stride(encoder: Any, architecture: str, output_stride: int) -> None:
    """timm resamples positions from `grid_size`, which therefore stays; `patch_size` is what it divides sizes by."""
    projection = encoder.patch_embed.proj
    padding = patch_padding(projection.kernel_size[0], output_stride, architecture)
    projection.stride, projection.padding = (output_stride,) * 2, (padding,) * 2
    encoder.patch_embed.patch_size = (output_stride,) * 2


def _set_strides(encoder: nn.Module, output_stride: int) -> None:
    for stride, modules in halvings(encoder).items():
        if stride >= output_stride:
            for part in _strided(modules):
                part.stride = (1, 1) if isinstance(part.stride, tuple) else 1


def _strided(modules: list[nn.Module]) -> Iterator[Any]:
    parts: Iterator[Any] = (part for module in modules for part in module.modules())
    return (part for part in parts if getattr(part, "stride", None) in (2, (2, 2)))


def _build_dilated(architecture: str, model_args: Mapping[str, Any], output_stride: int) -> nn.Module:
    try:
        return timm_encoder.build(architecture, num_classes=0,
                                  model_args={**model_args, "output_stride": output_stride})  # fmt: skip
    except ModelError as error:
        raise UsageError(f"{architecture} cannot be dilated: leave out --dilated") from error


def _check_map(encoder: nn.Module, architecture: str, output_stride: int) -> None:
    side = 8 * output_stride
    features = run_probe(encoder, side)
    prefix = getattr(encoder, "num_prefix_tokens", 0)
    is_map = features.ndim == 4 and tuple(features.shape[2:]) == (8, 8)
    is_tokens = features.ndim == 3 and features.shape[1] == 64 + prefix
    if not (is_map or is_tokens):
        raise _no_map(architecture, output_stride)


def _freeze_unreached(encoder: nn.Module) -> None:
    """A parameter without gradient would stop DistributedDataParallel, and weight decay would wear it away."""
    reached = called_modules(encoder)
    for child in encoder.children():
        if reached.isdisjoint(child.modules()):
            child.requires_grad_(False)


def _no_map(architecture: str, output_stride: int) -> UsageError:
    return UsageError(f"{architecture} cannot give a centred map at output stride {output_stride}: {CAN}")


def _tokens_to_map(encoder: nn.Module, tokens_BND: Tensor, images_B3PP: Tensor, output_stride: int) -> Tensor:
    patches_BND = tokens_BND[:, int(getattr(encoder, "num_prefix_tokens", 0)) :]
    height, width = (side // output_stride for side in images_B3PP.shape[2:])
    return patches_BND.transpose(1, 2).reshape(patches_BND.shape[0], -1, height, width)
