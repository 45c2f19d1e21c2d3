"""What every encoder with a map must do, and what create, load and save promise for segmentation."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from reinforce.errors import ModelError, ReinforceError, UsageError
from reinforce.models import (
    ModelInfo,
    SegmentationModel,
    change_classes,
    change_image_size,
    create_model,
    get_head,
    load_extra,
    load_model,
    save_model,
    upsample,
    weights_sha256,
)

VIT = "vit_tiny_patch16_224"
DINO = "vit_small_patch14_dinov2"
SMALL = "mobilevitv2_050"
FAST = "fastvit_t8"
NAMES = ("a", "b", "c")
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


def make(name: str = SMALL, image_size: int = 64, **options: Any) -> tuple[SegmentationModel, ModelInfo]:
    asked = {"class_names": NAMES, "task": "segmentation", "head": "linear", "image_size": image_size}
    model, info = create_model(name, **{**asked, **options})
    assert isinstance(model, SegmentationModel)
    return model, info


def pixels(image_size: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, image_size, image_size, generator=torch.Generator().manual_seed(1))


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


class TestClasses:
    @pytest.mark.parametrize("head", ["linear", "deeplabv3"])
    def test_equal_names_keep_the_head_of_its_own_kind(self, head: str, tmp_path: Path) -> None:
        model, info = make(SMALL, head=head)
        save_model(tmp_path / "m", model, info)
        again, again_info = create_model(str(tmp_path / "m"), task="segmentation", class_names=NAMES)
        assert again_info.head == head
        assert torch.equal(again(pixels(64)), model(pixels(64)))

    @pytest.mark.parametrize(
        ("options", "head", "names"),
        [
            pytest.param({"class_names": ("b", "a", "c")}, "linear", ("b", "a", "c"), id="another order"),
            pytest.param({"class_names": ("a", "b")}, "linear", ("a", "b"), id="fewer"),
            pytest.param({"class_names": NAMES, "head": "deeplabv3"}, "deeplabv3", NAMES, id="another kind"),
            pytest.param({"class_names": ()}, "none", (), id="none"),
        ],
    )
    def test_another_head_is_new_on_the_same_encoder(
        self, options: dict[str, Any], head: str, names: tuple[str, ...], tmp_path: Path
    ) -> None:
        model, info = make(SMALL)
        save_model(tmp_path / "m", model, ModelInfo.from_json({**info.to_json(), "metrics": {"mean_iou": 0.5}}))
        again, again_info = create_model(str(tmp_path / "m"), task="segmentation", **options)
        assert (again_info.head, again_info.class_names, again_info.metrics) == (head, names, {})
        assert_equal_states(again.encoder, model.encoder)
        assert again(pixels(64)).shape[1] == len(names or range(256))

    def test_a_count_alone_keeps_a_head_of_that_count_with_its_names(self) -> None:
        model, info = make(SMALL)
        assert change_classes(model, info, ("c0", "c1", "c2")) == info


class TestTasks:
    @pytest.mark.parametrize("name", [VIT, FAST, SMALL])
    def test_a_classifiers_encoder_gets_a_map(self, name: str, tmp_path: Path) -> None:
        classifier, info = create_model(name, class_names=NAMES, image_size=64)
        save_model(tmp_path / "m", classifier, info)
        model, dense_info = make(str(tmp_path / "m"), 96)
        state = classifier.state_dict()
        assert all(torch.equal(state[key], tensor) for key, tensor in model.encoder.state_dict().items())
        assert (dense_info.image_size, dense_info.class_names) == (96, NAMES)
        assert not torch.equal(model.head.weight[:, :, 0, 0], get_head(classifier).weight)

    @torch.inference_mode()
    @pytest.mark.parametrize("name", [VIT, FAST, SMALL])
    def test_and_back_the_classifier_has_the_same_encoder(self, name: str, tmp_path: Path) -> None:
        classifier, info = create_model(name, image_size=64)
        save_model(tmp_path / "c", classifier, info)
        save_model(tmp_path / "m", *make(str(tmp_path / "c"), 96))
        again, again_info = create_model(str(tmp_path / "m"), class_names=("x", "y"), image_size=64)
        assert (again_info.task, again_info.head, again_info.output_stride) == ("classification", "linear", None)
        assert again_info.model_args == info.model_args
        assert again_info.feature == info.feature
        again.reset_classifier(0)
        assert torch.equal(again(pixels(64)), classifier(pixels(64)))

    @torch.inference_mode()
    def test_another_stride_keeps_the_encoder(self, tmp_path: Path) -> None:
        model, info = make(SMALL)
        save_model(tmp_path / "m", model, info)
        coarse, coarse_info = create_model(str(tmp_path / "m"), task="segmentation", num_classes=3, output_stride=16)
        assert coarse_info.output_stride == 16
        assert coarse(pixels(64)).shape == (2, 3, 4, 4)
        assert_equal_states(coarse.encoder, model.encoder)


def assert_equal_states(one: nn.Module, other: nn.Module) -> None:
    state = other.state_dict()
    assert one.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in one.state_dict().items())


class TestModelDirectory:
    def test_the_hash_is_that_of_encoder_and_head_for_module_and_directory(self, tmp_path: Path) -> None:
        model, info = make(SMALL)
        written = save_model(tmp_path / "m", model, info)
        before = weights_sha256(model)
        assert before == written.provenance["weights_sha256"] == weights_sha256(tmp_path / "m")
        model.head.bias.data += 1
        after_head = weights_sha256(model)
        next(model.encoder.parameters()).data += 1
        assert len({before, after_head, weights_sha256(model)}) == 3

    def test_the_head_is_beside_the_encoder_with_what_the_user_keeps_there(self, tmp_path: Path) -> None:
        model, info = make(SMALL)
        mine = {"average": torch.arange(3.0)}
        save_model(tmp_path / "m", model, info, extra=mine)
        assert load_extra(tmp_path / "m").keys() == mine.keys()
        assert load_file(tmp_path / "m" / "extra.safetensors").keys() == {
            "average", "segmentation_head.weight", "segmentation_head.bias",
        }  # fmt: skip
        assert load_file(tmp_path / "m" / "model.safetensors").keys() == model.encoder.state_dict().keys()

    @pytest.mark.parametrize("file", ["model.safetensors", "extra.safetensors"])
    def test_weights_of_another_model_are_refused(self, file: str, tmp_path: Path) -> None:
        for name in ("one", "two"):
            save_model(tmp_path / name, *make(SMALL))
        (tmp_path / "one" / file).write_bytes((tmp_path / "two" / file).read_bytes())
        with pytest.raises(ModelError, match=r"not what model\.json describes"):
            load_model(tmp_path / "one")

    def test_a_missing_head_is_one_line(self, tmp_path: Path) -> None:
        save_model(tmp_path / "m", *make(SMALL))
        (tmp_path / "m" / "extra.safetensors").unlink()
        with pytest.raises(ModelError, match="segmentation head is missing"):
            load_model(tmp_path / "m")

    def test_a_classifier_written_over_it_leaves_no_head_behind(self, tmp_path: Path) -> None:
        save_model(tmp_path / "m", *make(SMALL))
        save_model(tmp_path / "m", *create_model(SMALL, num_classes=2))
        assert not (tmp_path / "m" / "extra.safetensors").exists()
        assert load_model(tmp_path / "m")[1].task == "classification"

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param({"num_classes": 4}, r"4 outputs.*3 classes", id="classes"),
            pytest.param({"task": "classification"}, "cannot be written as a model for segmentation", id="task"),
        ],
    )
    def test_a_model_that_contradicts_its_description_is_not_written(
        self, change: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        info = make(SMALL)[1]
        options = {"task": "segmentation", "num_classes": 3, "image_size": 64} | change
        with pytest.raises(ModelError, match=message):
            save_model(tmp_path / "m", create_model(SMALL, **options)[0], info)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param({"output_stride": None}, "output_stride None must be 8 or 16", id="no stride"),
            pytest.param({"output_stride": 4}, "output_stride 4 must be 8 or 16", id="stride 4"),
            pytest.param({"image_size": 60}, "image_size 60 must divide by output_stride 8", id="size"),
            pytest.param({"head": "unet"}, "head 'unet' must be deeplabv3 or linear or none", id="head"),
            pytest.param({"class_names": []}, "linear head needs class_names", id="no names"),
            pytest.param({"task": "depth"}, "task 'depth' must be classification or segmentation", id="task"),
            pytest.param({"task": "classification"}, "belong to segmentation", id="a classifier with a map"),
            pytest.param(
                {"class_names": ["a", "b"]}, "extra.safetensors.* does not fit .*of another shape", id="names"
            ),
            pytest.param({"head": "deeplabv3"}, "extra.safetensors.* does not fit DeepLabHead", id="another head"),
        ],
    )
    def test_a_wrong_model_json_is_one_line(self, tmp_path: Path, change: dict[str, object], message: str) -> None:
        save_model(tmp_path / "m", *make(SMALL))
        path = tmp_path / "m" / "model.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(ReinforceError, match=message) as caught:
            load_model(tmp_path / "m")
        assert "\n" not in str(caught.value)

    def test_info_survives_json(self) -> None:
        _, info = make(SMALL)
        assert ModelInfo.from_json(json.loads(info.dumps())) == info

    def test_a_classifier_has_no_map(self) -> None:
        with pytest.raises(ModelError, match="a classification model has no map"):
            _ = create_model(SMALL)[1].map_size


@pytest.fixture(scope="module")
def tiny_clip() -> str:
    """A registered open_clip architecture that is small enough for a test."""
    import open_clip

    name = "reinforce-test-tiny-map"
    vision = {"image_size": 56, "layers": 2, "width": 64, "patch_size": 14}
    text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
    open_clip.factory._MODEL_CONFIGS[name] = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    return f"open_clip:{name}"


class TestOpenClip:
    @torch.inference_mode()
    def test_at_the_native_stride_the_map_is_what_open_clip_itself_gives(self, tiny_clip: str) -> None:
        model, _ = make(tiny_clip, 56)
        encoder: Any = model.encoder
        encoder.visual.conv1.stride, encoder.visual.conv1.padding = (14, 14), (0, 0)
        own = encoder.visual.forward_intermediates(pixels(56), indices=1, normalize_intermediates=True)
        torch.testing.assert_close(encoder.forward_features(pixels(56)), own["image_intermediates"][0])

    @torch.inference_mode()
    def test_round_trip_another_size_and_back_to_a_classifier(self, tiny_clip: str, tmp_path: Path) -> None:
        classifier, native_info = create_model(tiny_clip, num_classes=3)
        save_model(tmp_path / "c", classifier, native_info)
        model, info = make(str(tmp_path / "c"), 64)
        assert (info.model_args, info.map_size) == ({"img_size": 56}, 8)
        assert model.no_weight_decay() <= dict(model.named_parameters()).keys()
        assert model(pixels(64)).shape == (2, 3, 8, 8)
        save_model(tmp_path / "m", model, info)
        loaded, _ = create_model(str(tmp_path / "m"), task="segmentation", image_size=96)
        assert torch.equal(loaded(pixels(96)), model(pixels(96)))
        again, again_info = create_model(str(tmp_path / "m"), num_classes=2)
        assert (again_info.image_size, again_info.feature, again_info.model_args) == (56, "cls", {})
        again.reset_classifier(0)
        classifier.reset_classifier(0)
        assert torch.equal(again(pixels(56)), classifier(pixels(56)))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            pytest.param({"dilated": True}, "cannot be dilated", id="dilated"),
            pytest.param({"output_stride": 16}, "patches of 14 px", id="gaps"),
            pytest.param({"image_size": 60}, "--image-size 56 or --image-size 64", id="size"),
        ],
    )
    def test_what_it_cannot_is_one_line(self, tiny_clip: str, options: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            make(tiny_clip, **options)
