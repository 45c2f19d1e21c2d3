"""A folder that timm wrote of a user's own model is imported by what its config.json says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import save_for_hf

from reinforce.errors import ModelError
from reinforce.import_model import ImportedModel, ImportModelConfig, import_model
from reinforce.models import load_model
from reinforce.models.directory import read_info

CLASSES = ["apps", "devices", "places"]


def saved(folder: Path, arch: str = "test_vit", *, safe: bool = True, **args: Any) -> torch.nn.Module:
    """What a plain training script leaves behind."""
    model = timm.create_model(arch, num_classes=3, **args).eval()
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, 96, 96), "mean": (0.4, 0.5, 0.6),
                            "license": "mit"}  # fmt: skip
    save_for_hf(model, folder, model_config={"label_names": CLASSES}, model_args=args, safe_serialization=safe)
    return model


def imported(folder: Path, **options: Any) -> ImportedModel:
    return import_model(ImportModelConfig(weights=str(folder), out=str(folder.with_name("mine")), **options))


@pytest.mark.parametrize(
    ("arch", "args"),
    [
        pytest.param("test_vit", {"img_size": 96, "global_pool": "avg"}, id="vit, pooled otherwise"),
        pytest.param("test_efficientnet", {}, id="cnn, whose weights tell no size"),
    ],
)
@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_a_folder_says_all_that_has_to_be_known(tmp_path: Path, arch: str, args: dict[str, Any], safe: bool) -> None:
    theirs = saved(tmp_path / "hf", arch, safe=safe, **args)
    said = imported(tmp_path / "hf")
    ours, info = load_model(tmp_path / "mine")
    pixels = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        assert torch.equal(ours(pixels), theirs(pixels))
    assert (info.image_size, info.class_names, info.mean) == (96, tuple(CLASSES), (0.4, 0.5, 0.6))
    assert info.provenance["license"] == "mit"
    assert "--image-size" not in str(said)


def test_what_is_typed_wins(tmp_path: Path) -> None:
    saved(tmp_path / "hf")
    imported(tmp_path / "hf", class_names="a,b,c", mean=(0.1, 0.2, 0.3), license="CC0-1.0", image_size=64)
    info = read_info(tmp_path / "mine")
    assert (info.class_names, info.mean, info.image_size) == (("a", "b", "c"), (0.1, 0.2, 0.3), 64)
    assert info.provenance["license"] == "CC0-1.0"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        pytest.param({"model_args": {"depth": 5}}, "does not fit test_vit", id="another depth"),
        pytest.param({"model_args": {"pretrained_cfg": "x"}}, "model_args may not set pretrained_cfg", id="an address"),
        pytest.param({"model_args": [6]}, "config.json: model_args must be an object", id="a list of arguments"),
        pytest.param({"model_args": {"in_chans": 1}}, "images of 1 channels", id="grey"),
        pytest.param({"model_args": {"img_size": [96, 64]}}, "not as timm writes it .*96 x 64 px", id="oblong"),
        pytest.param({"pretrained_cfg": {"mean": 0.5}}, "not as timm writes it", id="one mean"),
        pytest.param({"architecture": None}, "without a config.json of timm", id="nothing of timm's"),
        pytest.param({"architecture": "test_vot"}, "did you mean 'test_vit", id="unknown architecture"),
    ],
)
def test_what_cannot_be_used_is_one_line(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    saved(tmp_path / "hf")
    path = tmp_path / "hf" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    with pytest.raises(LookupError if "mean" in message else ModelError, match=message):
        imported(tmp_path / "hf")
    assert not (tmp_path / "mine").exists()


def test_a_folder_without_weights_and_a_model_directory_are_told(tmp_path: Path) -> None:
    saved(tmp_path / "hf")
    imported(tmp_path / "hf")
    with pytest.raises(ModelError, match=r"is a model directory already: .*--teacher"):
        import_model(ImportModelConfig(weights=str(tmp_path / "mine"), out=str(tmp_path / "other")))
    (tmp_path / "hf" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no model.safetensors or pytorch_model.bin"):
        import_model(ImportModelConfig(weights=str(tmp_path / "hf"), out=str(tmp_path / "other")))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        pytest.param({"architecture": "test_vit"}, "import-model --weights .*hf --out DIR", id="timm"),
        pytest.param({"verb": "distill"}, "not ended; wait for it, or type its 'train distill' with", id="a run"),
        pytest.param(None, "write one with reinforce import-model$", id="anything else"),
    ],
)
def test_a_folder_that_is_no_model_directory_says_what_to_type(
    tmp_path: Path, config: dict[str, Any] | None, message: str
) -> None:
    folder = tmp_path / "hf"
    folder.mkdir()
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message):
        read_info(folder)
