"""`train export --format timm`: timm loads the folder offline, so do we, and its card says where it is from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import yaml
from tiny_exports import NAMES, TRAINING, write_model

from reinforce import catalog
from reinforce.errors import ModelError, OutputExistsError, UsageError
from reinforce.models import create_model, load_model, save_model
from reinforce.models.hub_folder import hub_folder
from reinforce.models.model_card import model_card
from reinforce.models.preprocess import Preprocess
from train.evaluate import EvaluateConfig, evaluate
from train.export.export import ExportConfig, export
from train.finetune import FinetuneConfig, finetune

FINETUNED = {"verb": "finetune", "data": "pets", "num_images": 30, "mode": "full", "lr": 1e-4, "before": TRAINING}


def folder_of(tmp_path: Path, name: str, **made: Any) -> Path:
    model = write_model(tmp_path / "model", name, training=FINETUNED, **made)
    export(ExportConfig(model=str(model), format="timm", out=str(tmp_path / "folder")))
    return tmp_path / "folder"


def card_of(folder: Path) -> tuple[dict[str, Any], str]:
    """Front matter and text."""
    _, matter, text = (folder / "README.md").read_text("utf-8").split("---\n", 2)
    return yaml.safe_load(matter), text


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("fastvit_t8", {"image_size": 64}),
        ("mobilevitv2_050", {"image_size": 64}),
        ("test_vit", {"image_size": 32}),
        ("vit_tiny_patch16_224", {"image_size": 64}),
        ("mobilevitv2_050", {"image_size": 64, "task": "segmentation", "head": "linear"}),
    ],
    ids=["fastvit", "mobile", "dynamic-vit", "fixed-vit", "segmentation"],
)
def test_timm_and_we_load_it(name: str, made: dict[str, Any], tmp_path: Path) -> None:
    folder = folder_of(tmp_path, name, **made)
    ours, info = load_model(folder)
    theirs = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    how = timm.data.resolve_model_data_config(theirs)
    size = made["image_size"]
    assert tuple(how["input_size"]) == (3, size, size)
    assert (tuple(how["mean"]), tuple(how["std"])) == (info.mean, info.std)
    assert (how["crop_pct"], how["crop_mode"], how["interpolation"]) == (1.0, "center", "bilinear")
    images = torch.randn(2, 3, size, size)
    with torch.no_grad():
        if info.task == "segmentation":
            assert theirs(images).shape == (2, theirs.num_features)
            assert json.loads((folder / "config.json").read_text())["num_classes"] == 0
        else:
            assert torch.equal(theirs(images), ours(images))
            assert theirs.pretrained_cfg["label_names"] == list(NAMES)
            assert timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=5)(images).shape == (2, 5)
    again, _ = load_model(tmp_path / "model")
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in ours.state_dict().items())


def test_timm_alone_loads_it_with_no_network(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, "test_efficientnet", image_size=32)
    code = f"""
import sys
sys.modules["reinforce"] = None
import timm, torch
model = timm.create_model("local-dir:{folder}", pretrained=True).eval()
print(model(torch.zeros(1, 3, 32, 32))[0].tolist())
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    model, _ = load_model(tmp_path / "model")
    with torch.no_grad():
        assert json.loads(done.stdout) == pytest.approx(model(torch.zeros(1, 3, 32, 32))[0].tolist())


def test_timms_own_transform_feeds_it_as_we_do(tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    folder = folder_of(tmp_path, "test_efficientnet", image_size=32)
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    _, info = load_model(folder)
    ours = Preprocess.from_info(info)(pixels[None])[0]
    assert torch.allclose(transform(Image.fromarray(pixels)), ours, atol=1e-5)


def test_the_card_says_where_the_model_is_from(tmp_path: Path) -> None:
    matter, text = card_of(folder_of(tmp_path, "test_efficientnet", image_size=32))
    assert matter == {
        "license": "apache-2.0",
        "library_name": "timm",
        "pipeline_tag": "image-classification",
        "tags": ["timm", "image-classification", "distillation"],
        "base_model": ["timm/test_efficientnet.tag"],
    }
    store = TRAINING["store"]
    assert isinstance(store, dict)
    sha256 = json.loads((tmp_path / "folder" / "model.json").read_text())["provenance"]["weights_sha256"]
    for word in (store["manifest_digest"], store["teacher"]["weights_sha256"], sha256, "`big`", "`web`", "`pets`"):
        assert word in text
    assert "| teacher `big` | `cc-by-nc-4.0` |" in text
    assert "| transfer set `web` | `unknown` |" in text
    assert "| labelled images `pets` | `unknown` |" in text
    assert text.index("Distilled") < text.index("Finetuned on `30` labelled images")


def test_datasets_of_the_hub_are_linked_and_others_are_not(tmp_path: Path) -> None:
    training = {"verb": "finetune", "data": "team/pets", "before": {"verb": "pretrain", "transfer": "web"}}
    folder = write_model(tmp_path / "model", "test_efficientnet", image_size=32, training=training)
    (tmp_path / "README.md").write_bytes(model_card(load_model(folder)[1]))
    assert card_of(tmp_path)[0]["datasets"] == ["team/pets"]


class TestLicences:
    """Of everything that a model was made of: recorded where it was made, stated where nobody did."""

    def test_labelled_images_are_called_and_licensed_as_the_catalog_says(self, colours: Path, tmp_path: Path) -> None:
        catalog.register("data", "paints", colours, license="CC0-1.0")
        finetune(FinetuneConfig(model="test_efficientnet", data="paints", out="run", image_size=32, mode="full",
                                lr=(1e-3,), steps=1, batch_size=8, workers=0, quiet=True))  # fmt: skip
        evaluate(EvaluateConfig(model="run", data="paints", workers=0, quiet=True))
        export(ExportConfig(model="run", format="timm", out="folder"))
        text = card_of(tmp_path / "folder")[1]
        assert "| labelled images `paints` | `CC0-1.0` |" in text
        assert "| `paints` | `test` |" in text

    def test_what_nobody_recorded_is_said_and_can_be_stated(self, tmp_path: Path) -> None:
        model = write_model(tmp_path / "model", "test_efficientnet", image_size=32, training=FINETUNED)
        result = export(ExportConfig(model=str(model), format="timm", out="a"))
        assert result.unlicensed == ("transfer set web", "labelled images pets")
        assert "no licence is recorded of transfer set web, labelled images pets: --license states" in str(result)
        result = export(ExportConfig(model=str(model), format="timm", out="b", data_license="CC0-1.0"))
        assert result.unlicensed == ()
        text = card_of(tmp_path / "b")[1]
        for row in ("| transfer set `web` | `CC0-1.0` |", "| labelled images `pets` | `CC0-1.0` |",
                    "| teacher `big` | `cc-by-nc-4.0` |"):  # fmt: skip
            assert row in text

    def test_what_is_recorded_stays(self, tmp_path: Path) -> None:
        model = write_model(tmp_path / "model", "test_efficientnet", image_size=32, training=FINETUNED)
        export(ExportConfig(model=str(model), format="timm", out="a", teacher_license="MIT"))
        assert "| teacher `big` | `cc-by-nc-4.0` |" in card_of(tmp_path / "a")[1]

    @pytest.mark.parametrize(("training", "unknown"), [
        ({"verb": "pretrain", "transfer": "web", "transfer_license": "MIT"}, ()),
        ({"verb": "pretrain", "transfer": "web"}, ("images web",)),
        ({"verb": "pretrain", "transfer": "web", "transfer_license": "MIT", "teacher": {"name": "clip"},
          "stores": {"store_digest": "12" * 32}}, ("teacher clip",)),
    ])  # fmt: skip
    def test_of_pretraining(self, training: dict[str, Any], unknown: tuple[str, ...], tmp_path: Path) -> None:
        model = write_model(tmp_path / "model", "test_efficientnet", image_size=32, training=training)
        assert export(ExportConfig(model=str(model), format="timm", out="a")).unlicensed == unknown
        stated = ExportConfig(model=str(model), format="timm", out="b", teacher_license="MIT", data_license="MIT")
        assert export(stated).unlicensed == ()


def test_every_teacher_of_an_ensemble_is_named(tmp_path: Path) -> None:
    other = {"manifest_digest": "12" * 32, "transfer": "x", "transfer_license": "cc0-1.0",
             "teacher": {"name": "second", "license": "mit"}}  # fmt: skip
    training = {**TRAINING, "other_stores": [other]}
    folder = write_model(tmp_path / "model", "test_efficientnet", image_size=32, training=training)
    text = model_card(load_model(folder)[1]).decode()
    assert "averaged with 1 more teachers' stores" in text
    for row in ("| teacher `big` | `cc-by-nc-4.0` |", "| teacher `second` | `mit` |",
                "| transfer set `x` | `cc0-1.0` |", f"Store `{'12' * 32}`"):  # fmt: skip
        assert row in text


def test_measured_figures_are_on_the_card(colours: Path, tmp_path: Path) -> None:
    model, info = create_model("test_efficientnet", class_names=("blue", "green", "red"), image_size=32)
    save_model(tmp_path / "run", model, info)
    (tmp_path / "run" / "config.json").write_text('{"verb": "finetune"}')
    result = evaluate(EvaluateConfig(model=str(tmp_path / "run"), data=str(colours), workers=0, quiet=True))
    export(ExportConfig(model=str(tmp_path / "run"), format="timm", out="folder", license="MIT"))
    matter, text = card_of(tmp_path / "folder")
    assert matter["license"] == "mit"
    assert f"| `colours` | `test` | 15 | accuracy | {100 * result.accuracy:.2f} % |" in text  # type: ignore[union-attr]
    assert "Started from `random weights`" in text


def test_evaluating_the_folder_leaves_it_as_it_is(colours: Path, tmp_path: Path) -> None:
    model, info = create_model("test_efficientnet", class_names=("blue", "green", "red"), image_size=32)
    save_model(tmp_path / "model", model, info)
    export(ExportConfig(model=str(tmp_path / "model"), format="timm", out="folder"))
    before = {path.name: path.read_bytes() for path in (tmp_path / "folder").iterdir()}
    evaluate(EvaluateConfig(model="folder", data=str(colours), workers=0, quiet=True))
    assert {path.name: path.read_bytes() for path in (tmp_path / "folder").iterdir()} == before


@pytest.mark.parametrize("name", ["`` | x |\n# y", "<script>alert(1)</script>", "![](http://x.example/a)", "---"])
def test_hostile_names_are_text(name: str, tmp_path: Path) -> None:
    store = {"manifest_digest": "ab" * 32, "transfer": name, "teacher": {"name": name, "license": name}}
    training = {"verb": "finetune", "data": name, "num_images": 3, "before": {"verb": "distill", "store": store}}
    folder = write_model(tmp_path / "model", "test_efficientnet", image_size=32, training=training)
    _, info = load_model(folder)
    info = info.with_provenance(license=name)
    (tmp_path / "README.md").write_bytes(model_card(info))
    lines = (tmp_path / "README.md").read_text("utf-8").splitlines()
    end = lines.index("---", 1)
    matter = yaml.safe_load("\n".join(lines[1:end]))
    assert matter["license"] == "other"
    assert matter["license_name"] == name.replace("\n", "\\u000a")
    assert "datasets" not in matter
    rows = [line for line in lines[end:] if line.startswith("|") and "teacher" in line]
    assert [line.replace("\\|", "").count("|") for line in rows] == [3]
    assert sum(line.startswith("# ") for line in lines) == 1


def test_what_cannot_be_such_a_folder(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "test_efficientnet", image_size=32)
    with pytest.raises(ModelError, match="is no model directory"):
        export(ExportConfig(model="test_efficientnet", format="timm", out="folder"))
    data = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**data, "architecture": "open_clip:ViT-B-32/x"}))
    with pytest.raises(UsageError, match="no architecture of timm"):
        hub_folder(folder)


def test_only_a_former_export_is_replaced(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model", "test_efficientnet", image_size=32)
    config = {"model": str(model), "format": "timm", "out": "photos"}
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").write_text("mine")
    with pytest.raises(OutputExistsError):
        export(ExportConfig(**config))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="photos is no export, so --overwrite leaves it"):
        export(ExportConfig(**config, overwrite=True))  # type: ignore[arg-type]
    assert (tmp_path / "photos" / "one.jpg").read_text() == "mine"
    config["out"] = "folder"
    export(ExportConfig(**config))  # type: ignore[arg-type]
    (tmp_path / "folder" / "stale").write_text("x")
    export(ExportConfig(**config, overwrite=True, license="mit"))  # type: ignore[arg-type]
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == [
        "README.md", "config.json", "model.json", "model.safetensors"]  # fmt: skip
    assert json.loads((tmp_path / "folder" / "model.json").read_text())["provenance"]["license"] == "mit"
