"""The method by its commands, as they stand in the README, on small images with real networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import reinforce.cli
import train.cli
from reinforce.command import run_group

COLOURS = {"blue": (30, 40, 200), "green": (40, 180, 50), "red": (200, 50, 40)}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder: labelled images, unlabelled ones, and a reinforce.toml that names them."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        for index in range(20):
            pixels = np.clip(np.array(colour) + rng.normal(0, 30, (40, 40, 3)), 0, 255).astype(np.uint8)
            for folder in ("labelled", "web"):
                path = tmp_path / folder / (name if folder == "labelled" else "") / f"{name}-{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    (tmp_path / "reinforce.toml").write_text('[data]\ncc3m = "web"\ncolours = "labelled"\n')
    monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(line: str) -> dict[str, Any]:
        program, *argv = line.split()
        group = {"reinforce": reinforce.cli.command, "train": train.cli.command}[program]
        capsys.readouterr()
        status = run_group(group, [*argv, "--json", "--quiet"])
        out = capsys.readouterr()
        assert status == 0, out.err
        found: dict[str, Any] = json.loads(out.out)
        return found

    return run


@pytest.mark.slow
def test_adapt_build_distill_finetune_evaluate(place: Path, call: Any) -> None:
    small = "--image-size 32 --workers 0 --val-limit 6"
    adapted = call(
        f"train adapt --model test_vit --data colours --shots 8 --epochs 8 --lr 1e-3 {small} --out runs/dinov2-ft"
    )
    assert adapted["name"] == "dinov2-ft"
    built = call("reinforce build --teacher dinov2-ft --transfer cc3m")
    assert (built["samples"], built["views"], built["status"]) == (60, 10, "complete")
    assert Path("cc3m.zarr/manifest.json").exists()
    steps = "--steps 60 --batch-size 16 --lr 3e-3"
    distilled = call(
        f"train distill --cache cc3m.zarr --student mobilevitv2_050 --image-size 32 {steps} --out runs/student"
    )
    assert distilled["store_digest"] == built["manifest_digest"]
    labels = "--data colours --shots 8 --epochs 4 --lr 1e-4"
    call(f"train finetune --model runs/student {labels} {small} --out runs/student-ft")
    found = call("train evaluate --model runs/student-ft --data colours --split test")
    assert {"task", "split", "num_images", "accuracy"} <= found.keys()
    assert found["num_images"] == 6
    assert found["accuracy"] > 0.5
    names = {entry["name"] for entry in call("reinforce list")["entries"]}
    assert {"dinov2-ft", "cc3m", "colours"} <= names
