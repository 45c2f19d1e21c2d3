"""What every encoder must do, by name, and what create, load and save promise."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from reinforce import catalog
from reinforce.errors import ModelError, ReinforceError, UnknownNameError, UsageError
from reinforce.models import (
    ModelInfo,
    change_classes,
    change_image_size,
    create_model,
    feature_dim,
    get_head,
    load_extra,
    load_model,
    numbered_class_names,
    pooled_features,
    reset_head,
    save_model,
    short_name,
    weights_sha256,
)
from reinforce.models.info import comfortable_batch

CNNS = ("fastvit_t8", "fastvit_t12", "fastvit_s12", "mobilevitv2_050", "mobilevitv2_100")
VIT = "vit_small_patch14_dinov2"
SMALL = "mobilevitv2_050"


def pixels(info: ModelInfo, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, info.image_size, info.image_size, generator=torch.Generator().manual_seed(1))


def make(
    name: str, image_size: int = 64, class_names: tuple[str, ...] = ("a", "b", "c")
) -> tuple[nn.Module, ModelInfo]:
    return create_model(name, class_names=class_names, image_size=image_size)


@pytest.mark.parametrize(
    ("name", "image_size", "feature"),
    [*[pytest.param(name, 64, "avg", id=name) for name in CNNS], pytest.param(VIT, 56, "cls", id=VIT)],
)
class TestEveryEncoder:
    @torch.inference_mode()
    def test_the_head_sees_the_pooled_feature(self, name: str, image_size: int, feature: str) -> None:
        model, info = make(name, image_size)
        x = pixels(info)
        features_BD = pooled_features(model, x)
        assert features_BD.shape == (2, feature_dim(model))
        assert info.feature == feature
        torch.testing.assert_close(get_head(model)(features_BD), model(x))
        assert model(x).shape == (2, 3)

    @torch.inference_mode()
    def test_a_saved_model_gives_equal_logits_with_us_and_with_timm_alone(
        self, name: str, image_size: int, feature: str, tmp_path: Path
    ) -> None:
        model, info = make(name, image_size)
        save_model(tmp_path / "m", model, info)
        loaded, loaded_info = load_model(tmp_path / "m")
        with_timm = timm.create_model(
            name, num_classes=3, checkpoint_path=tmp_path / "m" / "model.safetensors", **loaded_info.model_args
        ).eval()
        x = pixels(info)
        assert torch.equal(loaded(x), model(x))
        assert torch.equal(with_timm(x), model(x))
        assert loaded_info.class_names == ("a", "b", "c")
        assert loaded_info.image_size == image_size

    def test_another_number_of_classes_replaces_the_head_alone(self, name: str, image_size: int, feature: str) -> None:
        model, _ = make(name, image_size)
        old = {key: value.clone() for key, value in model.state_dict().items()}
        reset_head(model, 5)
        new = model.state_dict()
        changed = {key for key in old if old[key].shape != new[key].shape or not torch.equal(old[key], new[key])}
        assert {key.rpartition(".")[2] for key in changed} <= {"weight", "bias"}
        assert len(changed) in (1, 2)  # a bias of three zeros became one of five
        assert get_head(model).out_features == 5
        assert float(get_head(model).weight.std().detach()) == pytest.approx(0.02, rel=0.2)
        reset_head(model, 0)
        with pytest.raises(ModelError, match="no linear head"):
            get_head(model)


@torch.inference_mode()
def test_the_feature_of_a_vit_is_its_normalised_cls_token_without_patches() -> None:
    model, info = make(VIT, 28)
    x = pixels(info)
    tokens = model.forward_features(x)  # type: ignore[operator]
    torch.testing.assert_close(pooled_features(model, x), tokens[:, 0])


@torch.inference_mode()
def test_the_feature_of_a_cnn_is_the_mean_of_its_map() -> None:
    model, info = make(SMALL)
    x = pixels(info)
    torch.testing.assert_close(pooled_features(model, x), model.forward_features(x).mean((2, 3)))  # type: ignore[operator]


class TestSizes:
    @pytest.mark.parametrize(
        ("image_size", "good"),
        [
            pytest.param(256, "--image-size 252 or --image-size 266", id="the paper's 256"),
            pytest.param(13, "--image-size 14", id="under one patch"),
            pytest.param(15, "--image-size 14 or --image-size 28", id="one over"),
        ],
    )
    def test_sizes_that_cut_patches_are_refused_with_the_nearest_good_ones(self, image_size: int, good: str) -> None:
        with pytest.raises(UsageError, match=rf"patches of 14 px.*{image_size} px: type {good}$"):
            create_model(VIT, image_size=image_size)

    @torch.inference_mode()
    def test_a_vit_with_weights_works_at_another_size(self, tmp_path: Path) -> None:
        save_model(tmp_path / "m", *make(VIT, 70))
        model, info = create_model(str(tmp_path / "m"), image_size=42)
        assert (info.image_size, info.model_args) == (42, {"img_size": 42})
        assert model(pixels(info)).shape == (2, 3)
        save_model(tmp_path / "again", model, info)
        assert torch.equal(load_model(tmp_path / "again")[0](pixels(info)), model(pixels(info)))

    def test_positions_are_resampled_as_timm_does_when_it_loads_weights(self) -> None:
        model, info = make(VIT, 70)
        source = {key: value.clone() for key, value in model.state_dict().items()}
        resized, _ = change_image_size(model, info, 42)
        target = timm.create_model(VIT, num_classes=3, img_size=42)
        filtered = timm.models.vision_transformer.checkpoint_filter_fn(source, target)  # type: ignore[arg-type]
        torch.testing.assert_close(resized.state_dict()["pos_embed"], filtered["pos_embed"])
        assert torch.equal(resized.state_dict()["pos_embed"][:, 0], source["pos_embed"][:, 0])

    def test_a_bad_size_is_refused_for_weights_too(self, tmp_path: Path) -> None:
        save_model(tmp_path / "m", *make(VIT, 28))
        with pytest.raises(UsageError, match="--image-size 28 or --image-size 42"):
            create_model(str(tmp_path / "m"), image_size=30)

    def test_a_cnn_takes_any_size_without_arguments(self) -> None:
        _, info = make(SMALL, 50)
        assert (info.image_size, info.model_args) == (50, {})

    def test_the_default_is_the_size_that_the_architecture_was_published_with(self) -> None:
        assert create_model(SMALL)[1].image_size == 256


class TestClasses:
    def test_equal_names_keep_the_head(self, tmp_path: Path) -> None:
        model, info = make(SMALL)
        save_model(tmp_path / "m", model, info)
        again, _ = create_model(str(tmp_path / "m"), class_names=("a", "b", "c"))
        assert torch.equal(get_head(again).weight, get_head(model).weight)

    @pytest.mark.parametrize("names", [("a", "b"), ("b", "a", "d"), ("a", "b", "d")])
    def test_other_names_replace_the_head_and_drop_its_metrics(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        model, info = make(SMALL)
        info = ModelInfo.from_json({**info.to_json(), "metrics": {"accuracy": 0.9}})
        save_model(tmp_path / "m", model, info)
        again, again_info = create_model(str(tmp_path / "m"), class_names=names)
        assert (again_info.class_names, again_info.metrics) == (names, {})
        assert get_head(again).out_features == len(names)
        assert not torch.equal(get_head(again).weight, get_head(model).weight[: len(names)])

    def test_a_count_alone_keeps_a_head_of_that_count_with_its_names(self) -> None:
        model, info = make(SMALL)
        before = get_head(model).weight.clone()
        assert change_classes(model, info, numbered_class_names(3)) == info
        assert torch.equal(get_head(model).weight, before)

    def test_without_classes_an_untrained_model_has_no_head(self) -> None:
        _, info = create_model(SMALL)
        assert (info.head, info.num_classes) == ("none", 0)

    def test_names_and_count_must_agree(self) -> None:
        with pytest.raises(UsageError, match="2 class names were given for 3 classes"):
            create_model(SMALL, class_names=("a", "b"), num_classes=3)


class TestNames:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            pytest.param("fastvit_t9", "did you mean 'fastvit_t8'", id="near an architecture"),
            pytest.param("fastvit_t8.apple_in2k", "did you mean 'fastvit_t8.apple_in1k'", id="near a tag"),
            pytest.param("my-techer", "did you mean 'my-teacher'", id="near a catalog name"),
            pytest.param("open_clip:ViT-B-33", "did you mean 'ViT-B-32'", id="near an open_clip model"),
            pytest.param("open_clip:ViT-B-32/openia", "did you mean 'openai'", id="near open_clip weights"),
        ],
    )
    def test_unknown_names_are_one_line_with_the_nearest(self, name: str, message: str, tmp_path: Path) -> None:
        catalog.register("models", "my-teacher", tmp_path)
        with pytest.raises(UnknownNameError, match=message) as caught:
            create_model(name, num_classes=2)
        assert "\n" not in str(caught.value)

    def test_a_catalog_name_has_weights(self, tmp_path: Path) -> None:
        model, info = make(SMALL)
        save_model(tmp_path / "m", model, info)
        catalog.register("models", "mine", tmp_path / "m")
        assert weights_sha256(create_model("mine")[0]) == weights_sha256(model)
        assert weights_sha256(load_model("mine")[0]) == weights_sha256(model)

    def test_a_folder_called_like_an_architecture_does_not_hide_it(self, tmp_path: Path) -> None:
        (tmp_path / SMALL).mkdir()
        assert create_model(SMALL, num_classes=2, image_size=64)[1].architecture == SMALL

    @pytest.mark.parametrize("name", [SMALL, "open_clip:RN50"])
    def test_an_architecture_alone_cannot_be_loaded(self, name: str) -> None:
        with pytest.raises(ModelError, match="architecture without weights"):
            load_model(name)

    def test_weights_that_cannot_be_downloaded_are_one_line(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import huggingface_hub.constants

        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(ModelError, match="reinforce import-model --arch fastvit_t8") as caught:
            create_model("fastvit_t8.apple_in1k", num_classes=2)
        assert "\n" not in str(caught.value)


class TestDirectory:
    def test_extra_tensors_lie_beside_the_model(self, tmp_path: Path) -> None:
        model, info = make(SMALL)
        save_model(tmp_path / "m", model, info)
        assert load_extra(tmp_path / "m") == {}
        save_model(tmp_path / "m", model, info, extra={"projection.weight": torch.eye(2)})
        assert torch.equal(load_extra(tmp_path / "m")["projection.weight"], torch.eye(2))
        assert sorted(p.name for p in (tmp_path / "m").iterdir()) == [
            "extra.safetensors", "model.json", "model.safetensors",
        ]  # fmt: skip

    def test_the_hash_is_of_the_weights_and_not_of_their_file(self, tmp_path: Path) -> None:
        model, info = make(SMALL)
        written = save_model(tmp_path / "m", model, info)
        assert written.provenance["weights_sha256"] == weights_sha256(model) == weights_sha256(tmp_path / "m")
        with torch.no_grad():
            get_head(model).bias[0] += 1
        assert weights_sha256(model) != weights_sha256(tmp_path / "m")

    def test_the_hash_is_the_documented_one(self) -> None:
        import hashlib

        model = nn.Linear(2, 1)
        nn.init.ones_(model.weight)
        nn.init.zeros_(model.bias)
        text = b"bias float32 1\n" + bytes(4) + b"weight float32 1,2\n" + b"\0\0\x80\x3f" * 2
        assert weights_sha256(model) == hashlib.sha256(text).hexdigest()

    def test_weights_of_another_model_are_refused(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            save_model(tmp_path / name, *make(SMALL))
        (tmp_path / "one" / "model.safetensors").write_bytes((tmp_path / "two" / "model.safetensors").read_bytes())
        with pytest.raises(ModelError, match=r"not what model\.json describes"):
            load_model(tmp_path / "one")

    def test_a_head_that_contradicts_the_class_names_is_not_written(self, tmp_path: Path) -> None:
        model, info = make(SMALL)
        reset_head(model, 4)
        with pytest.raises(ModelError, match=r"4 outputs.*3 classes"):
            save_model(tmp_path / "m", model, info)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param({"format": 2}, "upgrade", id="a newer format"),
            pytest.param({"architecture": "nonsense"}, "unknown model 'nonsense'", id="unknown architecture"),
            pytest.param({"class_names": ["a", "b"]}, "of another shape", id="wrong number of classes"),
            pytest.param({"class_names": ["a", "a", "b"]}, "repeat", id="repeated class"),
            pytest.param({"head": "none"}, "no head must have none", id="head and names disagree"),
            pytest.param({"image_size": 0}, "must be positive", id="no size"),
            pytest.param({"std": [1, 0, 1]}, "std above 0", id="zero std"),
            pytest.param({"model_args": {"checkpoint_path": "x"}}, "may not set checkpoint_path", id="names a file"),
        ],
    )
    def test_a_wrong_model_json_is_one_line(self, tmp_path: Path, change: dict[str, object], message: str) -> None:
        save_model(tmp_path / "m", *make(SMALL))
        path = tmp_path / "m" / "model.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        with pytest.raises(ReinforceError, match=message) as caught:
            load_model(tmp_path / "m")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param("{", "not JSON", id="not JSON"),
            pytest.param("[]", "one JSON object", id="a list"),
            pytest.param("{}", "incomplete", id="empty"),
        ],
    )
    def test_a_broken_model_json_is_one_line(self, tmp_path: Path, text: str, message: str) -> None:
        (tmp_path / "model.json").write_text(text)
        with pytest.raises(ModelError, match=message):
            load_model(tmp_path)

    def test_a_weights_file_is_answered_with_the_command_to_type(self, tmp_path: Path) -> None:
        (tmp_path / "my.pt").write_bytes(b"")
        with pytest.raises(ModelError, match="reinforce import-model --arch NAME --weights"):
            load_model(str(tmp_path / "my.pt"))

    def test_info_survives_json(self) -> None:
        _, info = make(VIT, 28)
        assert ModelInfo.from_json(json.loads(info.dumps())) == info


@pytest.fixture(scope="module")
def tiny_clip() -> str:
    """A registered open_clip architecture that is small enough for a test."""
    import open_clip

    name = "reinforce-test-tiny"
    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8}
    text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
    open_clip.factory._MODEL_CONFIGS[name] = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    return f"open_clip:{name}"


class TestOpenClip:
    @torch.inference_mode()
    def test_the_head_sees_the_cls_token_before_the_projection(self, tiny_clip: str) -> None:
        model, info = make(tiny_clip, 32)
        x = pixels(info)
        features_BD = pooled_features(model, x)
        assert tuple(features_BD.shape) == (2, 64)
        assert info.feature == "cls"
        assert info.mean[0] == pytest.approx(0.48145466)
        assert torch.equal(get_head(model)(features_BD), model(x))

    @torch.inference_mode()
    def test_round_trip_and_another_size(self, tiny_clip: str, tmp_path: Path) -> None:
        model, info = make(tiny_clip, 32)
        save_model(tmp_path / "m", model, info)
        assert torch.equal(load_model(tmp_path / "m")[0](pixels(info)), model(pixels(info)))
        larger, larger_info = create_model(str(tmp_path / "m"), image_size=48)
        assert larger(pixels(larger_info)).shape == (2, 3)
        assert torch.equal(get_head(larger).weight, get_head(model).weight)

    def test_sizes_that_cut_patches_are_refused(self, tiny_clip: str) -> None:
        with pytest.raises(UsageError, match="--image-size 32 or --image-size 40"):
            make(tiny_clip, 36)


@pytest.mark.parametrize(
    ("image_size", "of_images", "of_pixels"),
    [(32, 64, 64), (128, 64, 64), (224, 64, 20), (256, 49, 16), (512, 12, 4), (4096, 1, 1)],
)
def test_a_batch_has_fewer_large_images(image_size: int, of_images: int, of_pixels: int) -> None:
    whole = ModelInfo(architecture="fastvit_t8", image_size=image_size, class_names=("a", "b"))
    dense = replace(whole, task="segmentation", feature="map", output_stride=8)
    assert comfortable_batch(whole) == of_images
    assert comfortable_batch(dense) == of_pixels


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("vit_small_patch14_dinov2.lvd142m", "vit_small_patch14_dinov2.lvd142m"),
        ("open_clip:ViT-B-16/datacomp_xl_s13b_b90k", "open_clip:ViT-B-16/datacomp_xl_s13b_b90k"),
        ("test_vit", "test_vit"),
        ("folder/run.v2", "run.v2"),
    ],
)
def test_only_paths_are_cut_from_what_a_model_is_called(
    name: str, short: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder" / "run.v2").mkdir(parents=True)
    assert short_name(name) == short
    assert short_name(str(tmp_path / "folder" / "run.v2")) == "run.v2"
