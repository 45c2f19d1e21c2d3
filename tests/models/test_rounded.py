"""Weights rounded to bfloat16 once are those that autocast rounds for every batch: not a bit of an output differs."""

from __future__ import annotations

import copy
from collections.abc import Callable

import dense_models
import pytest
import torch
from test_features import SHAPES, dinov2, make, pixels
from torch import Tensor, nn

from reinforce.models import create_model, global_features, patch_features
from reinforce.models.rounded import round_weights

Forward = Callable[[nn.Module, Tensor], Tensor]
OUTPUTS: dict[str, Forward] = {
    "logits": lambda model, images: model(images),
    "global features": global_features,
    "patch features": patch_features,
}


def check_same_bits(model: nn.Module, images: Tensor, forward: Forward) -> None:
    """Weights are drawn first: some heads and scales begin as zeros."""
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    rounded = copy.deepcopy(model.eval())
    round_weights(rounded)
    assert any(parameter.dtype == torch.bfloat16 for parameter in rounded.parameters())
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        one, other = forward(model, images), forward(rounded, images)
    assert one.dtype == other.dtype
    assert one.float().std() > 0
    assert torch.equal(one, other)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("name", SHAPES)
def test_encoders_with_a_classifier(name: str, output: str) -> None:
    check_same_bits(make(name, num_classes=5), pixels(), OUTPUTS[output])


@pytest.mark.parametrize("reg_tokens", [0, 4])
@pytest.mark.parametrize("output", ["global features", "patch features"])
def test_the_layout_of_dinov2(output: str, reg_tokens: int) -> None:
    check_same_bits(dinov2(reg_tokens), pixels(56), OUTPUTS[output])


@pytest.mark.parametrize(
    ("name", "output"),
    [*(("open_clip:ViT-S-32-alt", output) for output in OUTPUTS), ("open_clip:RN50", "logits")],
)
def test_towers_of_open_clip(name: str, output: str) -> None:
    model, info = create_model(name, num_classes=5)
    check_same_bits(model, pixels(info.image_size), OUTPUTS[output])


@pytest.mark.parametrize("head", ["linear", "deeplabv3"])
@pytest.mark.parametrize("name", [dense_models.VIT, dense_models.FAST, dense_models.SMALL])
def test_segmentation_models(name: str, head: str) -> None:
    model, _ = dense_models.make(name, head=head)
    check_same_bits(model, dense_models.pixels(64), OUTPUTS["logits"])


def test_what_computes_in_float32_stays_exact() -> None:
    model = dinov2(0)
    round_weights(model)
    assert {model.pos_embed.dtype, model.norm.weight.dtype, model.blocks[0].ls1.gamma.dtype} == {torch.float32}
    assert model.blocks[0].attn.qkv.weight.dtype == torch.bfloat16
