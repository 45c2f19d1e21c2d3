"""What every encoder with a map must do, and what create, load and save promise for segmentation."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from dense_models import FAST, SMALL, VIT, make, pixels
from numpy.typing import NDArray
from torch import nn

from reinforce.errors import UsageError
from reinforce.models import (
    ModelInfo,
    change_image_size,
    create_model,
    load_model,
    save_model,
    upsample,
)

DINO = "vit_small_patch14_dinov2"
FAMILIES = [
    pytest.param(DINO, {"img_size": 518, "dynamic_img_size": True}, 384, id="DINOv2"),
    pytest.param("vit_small_patch14_reg4_dinov2", {"img_size": 518, "dynamic_img_size": True}, 384, id="registers"),
    pytest.param("vit_small_patch16_dinov3", {"dynamic_img_size": True}, 384, id="DINOv3, rotary"),
    pytest.param("deit3_small_patch16_224", {"img_size": 224, "dynamic_img_size": True}, 384, id="no CLS position"),
    pytest.param(VIT, {"img_size": 224, "dynamic_img_size": True}, 192, id="ViT"),
    pytest.param(FAST, {}, 768, id=FAST),
    pytest.param("fastvit_sa12", {}, 1024, id="fastvit_sa12, attention"),
    pytest.param(SMALL, {}, 256, id=SMALL),
    pytest.param("resnet18", {}, 512, id="ResNet"),
    pytest.param("efficientnet_lite0", {}, 1280, id="EfficientNet"),
    pytest.param("tf_efficientnet_lite0", {}, 1280, id="TensorFlow's padding"),
]


def settle(model: nn.Module) -> None:
    """Running statistics and affine parameters of batch normalisation that are not those of the first day."""
    generator = torch.Generator().manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in [
                (module.weight, 0.5, 1.5), (module.bias, -0.5, 0.5),
                (module.running_mean, -0.5, 0.5), (module.running_var, 0.5, 1.5),
            ]:  # fmt: skip
                assert tensor is not None
                tensor.data.uniform_(low, high, generator=generator)


@pytest.mark.parametrize(("name", "model_args", "num_features"), FAMILIES)
class TestEveryEncoder:
    @torch.inference_mode()
    def test_the_map_has_an_eighth_of_the_side(self, name: str, model_args: dict[str, Any], num_features: int) -> None:
        model, info = make(name)
        for side in (64, 96):
            features_BDhw = model.features(pixels(side))
            assert features_BDhw.shape == (2, num_features, side // 8, side // 8)
            assert torch.equal(model.head(features_BDhw), model(pixels(side)))
        assert model.num_features == num_features
        assert (info.task, info.head, info.feature, info.output_stride, info.dilated, info.map_size) == (
            "segmentation", "linear", "map", 8, False, 8,
        )  # fmt: skip

    def test_weights_keep_the_names_and_shapes_of_the_classifier(
        self, name: str, model_args: dict[str, Any], num_features: int
    ) -> None:
        dense = make(name)[0].encoder.state_dict()
        native = timm.create_model(name, num_classes=0).state_dict()
        assert {key: value.shape for key, value in dense.items()} == {key: v.shape for key, v in native.items()}

    @torch.inference_mode()
    def test_a_saved_model_gives_equal_logits_and_timm_alone_reloads_its_encoder(
        self, name: str, model_args: dict[str, Any], num_features: int, tmp_path: Path
    ) -> None:
        model, info = make(name)
        save_model(tmp_path / "m", model, info)
        loaded, loaded_info = load_model(tmp_path / "m")
        assert torch.equal(loaded(pixels(64)), model(pixels(64)))
        assert model_args.items() <= loaded_info.model_args.items()
        with_timm = timm.create_model(
            name, num_classes=0, checkpoint_path=tmp_path / "m" / "model.safetensors", **loaded_info.model_args
        )
        state = with_timm.state_dict()
        assert all(torch.equal(state[key], tensor) for key, tensor in model.encoder.state_dict().items())


@torch.inference_mode()
@pytest.mark.parametrize("name", [FAST, "fastvit_sa12", "repvgg_a0"])
def test_reparameterization_stays_exact(name: str) -> None:
    model, _ = make(name)
    settle(model)
    fused = timm.utils.reparameterize_model(model)
    assert sum(1 for _ in fused.modules()) < sum(1 for _ in model.modules())
    torch.testing.assert_close(fused(pixels(64)), model(pixels(64)), rtol=1e-3, atol=1e-4)


class TestStrides:
    def test_fastvit_only_has_its_last_two_downsamplings_at_stride_1(self) -> None:
        assert changed_strides(FAST) == {
            f"stages.{stage}.downsample.proj.0{part}" for stage in (2, 3)
            for part in ("", ".large_conv.conv", ".small_conv.conv")
        }  # fmt: skip

    def test_mobilevitv2_only_has_its_last_two_strided_convolutions_at_stride_1(self) -> None:
        assert changed_strides(SMALL) == {f"stages.{stage}.0.conv2_kxk.conv" for stage in (3, 4)}

    def test_nothing_is_dilated_unless_asked_for(self) -> None:
        assert dilations(make(SMALL)[0].encoder) == {1}
        model, info = make(SMALL, dilated=True)
        assert dilations(model.encoder) == {1, 2, 4}
        assert info.dilated

    @torch.inference_mode()
    @pytest.mark.parametrize("name", [SMALL, "resnet18", "regnety_002"])
    def test_a_dilated_model_comes_back_dilated(self, name: str, tmp_path: Path) -> None:
        model, info = make(name, dilated=True)
        save_model(tmp_path / "m", model, info)
        loaded, loaded_info = load_model(tmp_path / "m")
        assert loaded_info.dilated
        assert loaded(pixels(64)).shape == (2, 3, 8, 8)
        assert torch.equal(loaded(pixels(64)), model(pixels(64)))

    @torch.inference_mode()
    @pytest.mark.parametrize("name", [VIT, FAST, SMALL])
    def test_stride_16(self, name: str) -> None:
        model, info = make(name, output_stride=16)
        assert model(pixels(64)).shape == (2, 3, 4, 4)
        assert info.map_size == 4

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            pytest.param(FAST, {"dilated": True}, "fastvit_t8 cannot be dilated: leave out --dilated", id="FastViT"),
            pytest.param(DINO, {"dilated": True}, "cannot be dilated", id="ViT"),
            pytest.param(
                "swin_tiny_patch4_window7_224", {}, "centred map at output stride 8: ViTs, FastViT", id="Swin"
            ),
            pytest.param("convnext_atto", {}, "centred map at output stride 8", id="kernels as wide as their strides"),
            pytest.param("resnet50d", {"dilated": True}, "centred map at output stride 8", id="even poolings"),
            pytest.param("vit_small_r26_s32_224", {}, "patches of 1 px", id="a ViT on a convolutional network"),
            pytest.param(DINO, {"output_stride": 16}, "patches of 14 px, which output stride 16", id="gaps"),
            pytest.param(SMALL, {"output_stride": 4}, "output stride 4 is not among 8, 16", id="stride 4"),
            pytest.param(SMALL, {"head": "unet"}, "--head deeplabv3 or --head linear", id="head"),
            pytest.param(SMALL, {"task": "detection"}, "--task classification or --task segm", id="task"),
        ],
    )
    def test_what_an_architecture_cannot_is_one_line(self, name: str, options: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message) as caught:
            make(name, **options)
        assert "\n" not in str(caught.value)


def changed_strides(name: str) -> set[str]:
    """Modules whose stride is not that of the classifier."""
    native = dict(timm.create_model(name).named_modules())
    return {
        key for key, module in make(name)[0].encoder.named_modules()
        if getattr(module, "stride", None) != getattr(native[key], "stride", None)
    }  # fmt: skip


def dilations(model: nn.Module) -> set[int]:
    return {module.dilation[0] for module in model.modules() if isinstance(module, nn.Conv2d)}


class TestSizes:
    @pytest.mark.parametrize(
        ("name", "image_size", "message"),
        [
            pytest.param(DINO, 98, "divides by 8, 98 px does not: type --image-size 96 or --image-size 104", id="ViT"),
            pytest.param(FAST, 5, "divides by 8, 5 px does not: type --image-size 8", id="under one cell"),
            pytest.param(SMALL, 72, "divides by 16, 72 px .* --image-size 64 or --image-size 80", id="MobileViTv2"),
        ],
    )
    def test_sizes_that_cut_cells_are_refused_with_the_nearest_good_ones(
        self, name: str, image_size: int, message: str
    ) -> None:
        with pytest.raises(UsageError, match=message):
            make(name, image_size)

    def test_images_of_a_wrong_size_are_refused_by_the_model_too(self) -> None:
        with pytest.raises(UsageError, match="divides by 16, 72 px"):
            make(SMALL)[0](pixels(72))

    def test_the_default_is_the_models_own_size_in_whole_cells(self) -> None:
        assert make(DINO, image_size=None)[1].image_size == 512  # published for 518
        assert make(SMALL, image_size=None)[1].image_size == 256

    @torch.inference_mode()
    @pytest.mark.parametrize("name", [VIT, SMALL])
    def test_another_size_and_back_changes_nothing(self, name: str, tmp_path: Path) -> None:
        model, info = make(name, 64)
        save_model(tmp_path / "m", *change_image_size(model, info, 96))
        larger, larger_info = load_model(tmp_path / "m")
        assert (larger_info.image_size, larger_info.map_size) == (96, 12)
        assert torch.equal(larger(pixels(96)), model(pixels(96)))
        back, back_info = create_model(str(tmp_path / "m"), task="segmentation", image_size=64)
        assert back_info == ModelInfo.from_json({**larger_info.to_json(), "image_size": 64})
        assert torch.equal(back(pixels(64)), model(pixels(64)))

    @torch.inference_mode()
    def test_positions_are_resampled_from_the_pretrained_grid_as_timm_does(self) -> None:
        model, _ = make(VIT, 96)
        encoder: Any = copy.deepcopy(model.encoder)
        small: Any = timm.create_model(VIT, num_classes=0, img_size=12 * 16)
        filtered = timm.models.vision_transformer.checkpoint_filter_fn(dict(encoder.state_dict()), small)
        map_BDhw = encoder.patch_embed.proj(pixels(96))
        tokens_BND = torch.cat([encoder.cls_token.expand(2, 1, -1), map_BDhw.flatten(2).transpose(1, 2)], dim=1)
        tokens_BND = encoder.norm(encoder.blocks(tokens_BND + filtered["pos_embed"]))
        expected = tokens_BND[:, 1:].transpose(1, 2).reshape(2, -1, 12, 12)
        torch.testing.assert_close(model.features(pixels(96)), expected)


class TestHeads:
    @torch.inference_mode()
    def test_a_linear_head_is_one_product_a_cell(self) -> None:
        model, _ = make(SMALL)
        features = model.features(pixels(64)).double()
        head: Any = model.head
        expected = torch.einsum("cd,bdhw->bchw", head.weight[:, :, 0, 0].double(), features)
        torch.testing.assert_close(model(pixels(64)).double(), expected, rtol=1e-4, atol=1e-5)
        assert float(head.weight.std()) == pytest.approx(0.02, rel=0.1)

    def test_deeplabv3_is_torchvisions_head_and_the_default(self) -> None:
        from torchvision.models.segmentation.deeplabv3 import DeepLabHead

        model, info = create_model(SMALL, num_classes=3, image_size=64, task="segmentation")
        assert isinstance(model.head, DeepLabHead)
        assert info.head == "deeplabv3"
        logits = model(pixels(64))
        assert logits.shape == (2, 3, 8, 8)
        assert logits.is_contiguous()

    def test_deeplabv3_cannot_train_on_one_image_and_says_so(self) -> None:
        model, _ = make(SMALL, head="deeplabv3")
        with pytest.raises(UsageError, match="--batch-size 2 or more, or --head linear"):
            model.train()(pixels(64, batch=1))
        model.train()(pixels(64, batch=2)).sum().backward()
        assert model.eval()(pixels(64, batch=1)).shape == (1, 3, 8, 8)

    @pytest.mark.parametrize(
        ("name", "unreached"),
        [
            *((name, set()) for name in (VIT, "vit_small_patch16_dinov3", FAST, SMALL)),
            pytest.param("mobilenetv3_small_100", {"encoder.conv_head.weight", "encoder.conv_head.bias"}, id="pooling"),
        ],
    )
    def test_every_weight_that_asks_for_a_gradient_gets_one(self, name: str, unreached: set[str]) -> None:
        model, _ = make(name, head="deeplabv3")
        model.train()(pixels(64)).square().sum().backward()
        weights = dict(model.named_parameters())
        assert {key for key, weight in weights.items() if weight.grad is None} == unreached
        assert {key for key, weight in weights.items() if not weight.requires_grad} == unreached

    def test_positions_and_tokens_are_not_decayed(self) -> None:
        exempt = make(VIT)[0].no_weight_decay()
        assert {"encoder.pos_embed", "encoder.cls_token"} <= exempt
        assert exempt.isdisjoint(name for name, weight in make(VIT)[0].named_parameters() if name.endswith(".weight"))
        assert make(SMALL)[0].no_weight_decay() == set()

    def test_without_classes_the_logits_are_the_features(self, tmp_path: Path) -> None:
        model, info = create_model(SMALL, image_size=64, task="segmentation")
        assert info.head == "none"
        assert model(pixels(64)).shape == (2, 256, 8, 8)
        save_model(tmp_path / "m", model, info)
        assert torch.equal(load_model(tmp_path / "m")[0](pixels(64)), model(pixels(64)))


def bilinear(map_hw: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """The reference: pixel y lies at (y + 0.5) * h / S - 0.5 cells, clamped to the map."""
    weights = np.zeros((size, len(map_hw)))
    for y in range(size):
        place = np.clip((y + 0.5) * len(map_hw) / size - 0.5, 0, len(map_hw) - 1)
        low = int(place)
        weights[y, low] += 1 - (place - low)
        weights[y, min(low + 1, len(map_hw) - 1)] += place - low
    return weights @ map_hw @ weights.T


@pytest.mark.parametrize("size", [64, 60, 24, 8])
def test_upsampling_is_bilinear_between_the_centres_of_cells(size: int) -> None:
    maps = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    upsampled = upsample(maps, size)
    assert upsampled.shape == (2, 3, size, size)
    np.testing.assert_allclose(upsampled[1, 2].numpy(), bilinear(maps[1, 2].numpy(), size), atol=1e-12)
