"""Segmentation models that are saved, loaded and asked for other classes, another task or another size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from dense_models import FAST, NAMES, SMALL, VIT, make, pixels
from safetensors.torch import load_file
from torch import nn

from reinforce.errors import ModelError, ReinforceError, UsageError
from reinforce.models import (
    ModelInfo,
    change_classes,
    create_model,
    get_head,
    load_extra,
    load_model,
    save_model,
    weights_sha256,
)


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

    @pytest.mark.parametrize("head", ["linear", "deeplabv3"])
    def test_equal_names_in_another_order_keep_what_the_head_says_of_each(self, head: str, tmp_path: Path) -> None:
        model, info = make(SMALL, head=head)
        save_model(tmp_path / "m", model, ModelInfo.from_json({**info.to_json(), "metrics": {"mean_iou": 0.5}}))
        again, again_info = create_model(str(tmp_path / "m"), task="segmentation", class_names=("c", "a", "b"))
        assert (again_info.class_names, again_info.metrics) == (("c", "a", "b"), {"mean_iou": 0.5})
        with torch.inference_mode():
            assert torch.equal(again(pixels(64)), model(pixels(64))[:, [2, 0, 1]])

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
