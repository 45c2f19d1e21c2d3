"""Who mistypes what is read and names an output that is taken is told of what is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reinforce.cli import command as reinforce
from reinforce.command import run_group
from reinforce.models import create_model, save_model
from train.cli import command as train

TAKEN = "taken"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images, a model, and every kind of output."""
    monkeypatch.chdir(tmp_path)
    for split, name in ((split, name) for split in ("train", "val", "test") for name in ("ant", "bee")):
        place = Path("data", split, name)
        place.mkdir(parents=True)
        Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(place / "a.png")
    save_model("model", *create_model("test_vit", class_names=("ant", "bee"), image_size=32))
    Path(TAKEN).mkdir()
    for name in (f"{TAKEN}/model.json", f"{TAKEN}/mine.txt", "page.html", "file.onnx"):
        Path(name).write_text("mine")
    return tmp_path


@pytest.mark.parametrize(
    "typed",
    [
        "reinforce import-model --arch test_vit --weights nowhere.pt --out taken",
        "reinforce pack --transfer nowhere --out taken",
        "reinforce build --teacher nowhere --transfer data/train --out taken",
        "reinforce build --teacher model --transfer nowhere --out taken",
        "reinforce embed --gallery nowhere --encoder model --out taken",
        "reinforce embed --gallery data/train --encoder model --encoder nowhere --out taken",
        "reinforce curate --query data --gallery nowhere.zarr --size 5 --out taken",
        "reinforce merge nowhere.zarr other.zarr --out taken",
        "reinforce pull nowhere.zarr --out taken",
        "reinforce push nowhere.zarr taken",
        "reinforce inspect nowhere.zarr --html page.html",
        "reinforce review nowhere --html page.html",
        "train adapt --model nowhere --data data --out taken",
        "train adapt --model model --data nowhere --out taken",
        "train distill --cache nowhere.zarr --out taken",
        "train finetune --model nowhere --data data --out taken",
        "train finetune --model model --data nowhere --out taken",
        "train pretrain --method dino --model nowhere --transfer data/train --out taken",
        "train pretrain --method supervised --model test_vit --data nowhere --out taken",
        "train evaluate --model nowhere --data data --html page.html",
        "train evaluate --model model --data nowhere --html page.html",
        "train evaluate --model model --data data --teacher nowhere --html page.html",
        "train export --model nowhere --format onnx --out file.onnx",
        "train export --model nowhere --format timm --out taken",
        "train compare nowhere --out taken",
    ],
)
def test_what_is_read_is_named_first(typed: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program, *argv = typed.split()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert run_group(reinforce if program == "reinforce" else train, argv) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert "nowhere" in line
    assert "exists" not in line
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


@pytest.mark.parametrize(
    "typed",
    [
        "reinforce build --teacher model --transfer data/train --out taken",
        "train evaluate --model model --data data --html page.html",
        "train export --model model --format timm --out taken",
    ],
)
def test_what_is_taken_is_named_where_the_rest_is_right(
    typed: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *argv = typed.split()
    assert run_group(reinforce if program == "reinforce" else train, argv) == 2
    assert "exists: " in capsys.readouterr().err
