"""Features of images and patches: the encoder's own, at the widths that are announced, for every kind of encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from reinforce.errors import UsageError
from reinforce.import_model import ImportModelConfig, import_model
from reinforce.models import (
    create_model,
    global_features,
    global_width,
    load_model,
    patch_features,
    patch_shape,
    pooled_features,
    save_model,
    weights_sha256,
)

PX = 64
CNNS = ("fastvit_t8", "mobilevitv2_050", "test_efficientnet", "efficientnet_lite0", "test_resnet")
SHAPES = {
    "fastvit_t8": (768, (768, 2, 2)),
    "mobilevitv2_050": (256, (256, 2, 2)),
    "efficientnet_lite0": (1280, (1280, 2, 2)),
    "mobilenetv3_small_050": (1024, (288, 2, 2)),  # a last convolution sees the pooled map
    "test_vit": (64, (64, 4, 4)),
    "test_vit2": (64, (64, 4, 4)),
    "test_vit4": (96, (96, 4, 4)),
    "swin_tiny_patch4_window7_224": (768, (768, 2, 2)),
}


def make(name: str, num_classes: int = 0) -> nn.Module:
    return create_model(name, num_classes=num_classes, image_size=PX)[0]


def pixels(size: int = PX, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(1))


def dinov2(reg_tokens: int) -> VisionTransformer:
    """The layout of DINOv2: 14 px patches, layer scale, CLS token, registers of which positions know nothing."""
    model = VisionTransformer(img_size=56, patch_size=14, embed_dim=32, depth=2, num_heads=2, num_classes=0,
                              reg_tokens=reg_tokens, init_values=0.5, no_embed_class=reg_tokens > 0)  # fmt: skip
    for parameter in model.parameters():
        nn.init.normal_(parameter, 0, 0.3)
    return model.eval()


@pytest.mark.parametrize("num_classes", [0, 3], ids=["bare", "headed"])
@pytest.mark.parametrize("name", SHAPES)
@torch.inference_mode()
def test_widths_are_those_of_the_features(name: str, num_classes: int) -> None:
    model = make(name, num_classes)
    width, shape = SHAPES[name]
    assert tuple(global_features(model, pixels()).shape) == (2, width)
    assert tuple(patch_features(model, pixels()).shape) == (2, *shape)
    assert (global_width(model), patch_shape(model, PX)) == (width, shape)


@pytest.mark.parametrize("name", CNNS)
@torch.inference_mode()
def test_the_feature_of_a_cnn_is_the_mean_of_its_map(name: str) -> None:
    model = make(name)
    torch.testing.assert_close(patch_features(model, pixels()).mean(dim=(2, 3)), global_features(model, pixels()))


@pytest.mark.parametrize("reg_tokens", [0, 4])
@torch.inference_mode()
def test_a_vit_gives_its_normalised_cls_and_patch_tokens(reg_tokens: int) -> None:
    model = dinov2(reg_tokens)
    (own_map, own_prefix), = model.forward_intermediates(pixels(56), indices=1, norm=True, return_prefix_tokens=True,
                                                         intermediates_only=True)  # fmt: skip
    torch.testing.assert_close(patch_features(model, pixels(56)), own_map)
    torch.testing.assert_close(global_features(model, pixels(56)), own_prefix[:, 0])
    assert patch_shape(model, 56) == (32, 4, 4)


@torch.inference_mode()
def test_a_map_kept_channels_last_is_turned() -> None:
    model: Any = make("swin_tiny_patch4_window7_224")
    assert torch.equal(patch_features(model, pixels()), model.forward_features(pixels()).permute(0, 3, 1, 2))


@torch.inference_mode()
def test_a_segmentation_model_has_the_map_of_its_head_and_no_feature_of_an_image() -> None:
    model: Any = create_model("test_vit", num_classes=3, image_size=PX, task="segmentation", head="linear")[0]
    assert torch.equal(model.head(patch_features(model, pixels())), model(pixels()))
    assert patch_shape(model, PX) == (64, 8, 8)
    for ask in (lambda: global_features(model, pixels()), lambda: global_width(model)):
        with pytest.raises(UsageError, match="test_vit at stride 8 has no feature of a whole image"):
            ask()


def test_an_encoder_without_a_map_is_one_line() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward_features(self, images: torch.Tensor) -> torch.Tensor:
            return self.layer(images.mean(dim=(2, 3)))

    with pytest.raises(UsageError, match="Flat has no map of patch features"):
        patch_features(Flat(), pixels())


@pytest.mark.parametrize("training", [True, False])
def test_asking_for_the_shape_changes_nothing(training: bool) -> None:
    model = make("test_efficientnet").train(training)
    before = weights_sha256(model)
    patch_shape(model, PX)
    assert (model.training, weights_sha256(model)) == (training, before)


@pytest.fixture(scope="module")
def tiny_clip() -> str:
    """A registered open_clip architecture that is small enough for a test: width 64, joint space 16."""
    import open_clip

    name = "reinforce-test-tiny-features"
    vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8}
    text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
    open_clip.factory._MODEL_CONFIGS[name] = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    return f"open_clip:{name}"


class TestOpenClip:
    """A tower keeps its projection into the joint space until it gets a head."""

    @torch.inference_mode()
    def test_features_are_what_open_clip_itself_gives(self, tiny_clip: str) -> None:
        model: Any = create_model(tiny_clip)[0]
        images = pixels(32)
        model.visual.proj = model.joint_projection
        own = model.visual.forward_intermediates(images, indices=1, normalize_intermediates=True)
        joint = model.visual(images)
        model.visual.proj = None
        torch.testing.assert_close(global_features(model, images), joint)
        torch.testing.assert_close(patch_features(model, images), own["image_intermediates"][0])
        assert (global_width(model), patch_shape(model, 32)) == (16, (64, 4, 4))
        assert tuple(pooled_features(model, images).shape) == (2, 64)

    @torch.inference_mode()
    def test_the_projection_survives_saving_and_another_size(self, tiny_clip: str, tmp_path: Path) -> None:
        model, info = create_model(tiny_clip)
        save_model(tmp_path / "m", model, info)
        loaded, _ = load_model(tmp_path / "m")
        assert torch.equal(global_features(loaded, pixels(32)), global_features(model, pixels(32)))
        assert weights_sha256(loaded) == weights_sha256(tmp_path / "m")
        larger, _ = create_model(str(tmp_path / "m"), image_size=48)
        assert tuple(global_features(larger, pixels(48)).shape) == (2, 16)

    @torch.inference_mode()
    def test_an_adapted_tower_has_left_the_joint_space(self, tiny_clip: str, tmp_path: Path) -> None:
        save_model(tmp_path / "m", *create_model(tiny_clip))
        adapted, info = create_model(str(tmp_path / "m"), num_classes=3)
        assert "joint_projection" not in adapted.state_dict()
        assert torch.equal(global_features(adapted, pixels(32)), pooled_features(adapted, pixels(32)))
        save_model(tmp_path / "adapted", adapted, info)
        encoder, encoder_info = create_model(str(tmp_path / "adapted"), num_classes=0)
        save_model(tmp_path / "encoder", encoder, encoder_info)
        assert global_width(load_model(tmp_path / "encoder")[0]) == 64
        assert global_width(create_model(str(tmp_path / "encoder"), image_size=48)[0]) == 64

    def test_a_tower_with_a_projection_segments_too(self, tiny_clip: str, tmp_path: Path) -> None:
        save_model(tmp_path / "m", *create_model(tiny_clip))
        dense, info = create_model(str(tmp_path / "m"), num_classes=2, task="segmentation", head="linear")
        save_model(tmp_path / "dense", dense, info)
        assert global_width(create_model(str(tmp_path / "dense"), num_classes=2)[0]) == 64

    @pytest.mark.parametrize("has_projection", [True, False])
    @torch.inference_mode()
    def test_a_published_pair_is_imported_with_the_projection_that_it_has(self, has_projection: bool, tiny_clip: str,
                                                                         tmp_path: Path) -> None:  # fmt: skip
        import open_clip

        pair = open_clip.create_model(tiny_clip.removeprefix("open_clip:")).eval()
        state = {name: value for name, value in pair.state_dict().items() if has_projection or name != "visual.proj"}
        torch.save(state, tmp_path / "pair.pt")
        import_model(ImportModelConfig(arch=tiny_clip, weights=str(tmp_path / "pair.pt"), out=str(tmp_path / "m")))
        model, _ = load_model(tmp_path / "m")
        if not has_projection:
            pair.visual.proj = None
        torch.testing.assert_close(global_features(model, pixels(32)), pair.visual(pixels(32)))
