"""What an evaluation leaves in a run, and what it leaves alone; the models of kept checkpoints."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from reinforce.models import load_model, weights_sha256
from train.evaluate import EvaluateConfig, evaluate
from train.evaluations import options_of, read_evaluations, subset_of
from train.finetune import FinetuneConfig, finetune


def run(data: Path, out: Path, **changes: Any) -> Path:
    defaults: dict[str, Any] = {"model": "test_vit", "image_size": 32, "steps": 4, "lr": (1e-3,), "batch_size": 12,
                                "precision": "fp32", "ema": 0.9, "quiet": True}  # fmt: skip
    finetune(FinetuneConfig(data=str(data), out=str(out), **(defaults | changes)))
    return out


@pytest.mark.parametrize(
    ("options", "subset"),
    [
        ({}, ""),
        ({"limit": 7}, "first-7"),
        ({"shots": 2, "seed": 3, "image_size": 48}, "2-a-class-seed-3-48px"),
        ({"num_labelled": 5}, "5-drawn-seed-0"),
        ({"seed": 3, "batch_size": 2}, ""),
    ],
    ids=str,
)
def test_the_subset_says_what_of_a_split_was_measured(options: dict[str, Any], subset: str) -> None:
    assert subset_of(EvaluateConfig(model="m", data="d", **options)) == subset


@pytest.mark.parametrize("subset", ["", "first-7", "2-a-class-seed-3-48px", "5-drawn-seed-0"])
def test_the_subset_says_what_to_type_for_it(subset: str) -> None:
    words = options_of(subset).split()
    options = {name.removeprefix("--").replace("-", "_"): int(value)
               for name, value in zip(words[::2], words[1::2], strict=True)}  # fmt: skip
    assert subset_of(EvaluateConfig(model="m", data="d", **options)) == subset


def test_a_run_keeps_what_was_measured(colours: Path, tmp_path: Path) -> None:
    folder = run(colours, tmp_path / "run")
    results = {limit: evaluate(EvaluateConfig(model=str(folder), data=str(colours), limit=limit, quiet=True))
               for limit in (None, 4, 4)}  # fmt: skip
    assert sorted(path.name for path in folder.glob("evaluation-*")) == [
        "evaluation-colours-test-first-4.json", "evaluation-colours-test.json"]  # fmt: skip
    part, whole = read_evaluations(folder)
    assert (whole.data, whole.split, whole.subset, whole.metric, whole.num_images) == (
        "colours", "test", "", "accuracy", 15)  # fmt: skip
    assert whole.result == results[None].to_json()
    assert whole.location == str(colours)
    assert (part.num_images, part.value) == (4, results[4].accuracy)
    assert whole.weights_sha256 == weights_sha256(folder)
    (folder / "evaluation-torn.json").write_text("{")
    assert read_evaluations(folder) == [part, whole]


def test_an_evaluation_says_which_images_it_is_of(colours: Path, tmp_path: Path) -> None:
    """Of a folder of the same name with other images it says something else, whatever model is measured."""
    other = shutil.copytree(colours, tmp_path / "copy" / colours.name)
    next(path for path in sorted(other.rglob("test/*/*")) if path.is_file()).unlink()
    found = []
    for name, data in (("a", colours), ("b", colours), ("c", other)):
        folder = run(colours, tmp_path / name, steps=1)
        evaluate(EvaluateConfig(model=str(folder), data=str(data), quiet=True))
        found += read_evaluations(folder)
    assert [one.num_images for one in found] == [15, 15, 14]
    assert found[0].images == found[1].images != found[2].images


def test_images_that_cannot_be_decoded_are_not_among_the_measured(colours: Path, tmp_path: Path) -> None:
    data = {kind: shutil.copytree(colours, tmp_path / kind / colours.name) for kind in ("broken", "less")}
    victim = next(path for path in sorted(colours.rglob("test/*/*")) if path.is_file()).relative_to(colours)
    (data["broken"] / victim).write_bytes(b"")
    (data["less"] / victim).unlink()
    folder, found = run(colours, tmp_path / "run", steps=1), {}
    for kind, place in data.items():
        evaluate(EvaluateConfig(model=str(folder), data=str(place), quiet=True))
        (found[kind],) = read_evaluations(folder)
    assert found["broken"].images == found["less"].images


def test_a_model_that_is_no_run_stays_as_it_is(colours: Path, tmp_path: Path) -> None:
    folder = run(colours, tmp_path / "run")
    for name in ("config.json", "cost.json", "metrics.jsonl", "result.json"):
        (folder / name).unlink()
    before = sorted(folder.iterdir())
    evaluate(EvaluateConfig(model=str(folder), data=str(colours), quiet=True))
    assert sorted(folder.iterdir()) == before


def test_kept_checkpoints_are_models_to_measure_and_to_finetune(colours: Path, tmp_path: Path) -> None:
    folder = run(colours, tmp_path / "run", save_every=2)
    steps = folder / "checkpoints" / "full-lr0.001"
    kept, last = steps / "step-00000002", steps / "step-00000004"
    assert weights_sha256(kept) != weights_sha256(last)
    evaluate(EvaluateConfig(model=str(kept), data=str(colours), quiet=True))
    assert [found.weights_sha256 for found in read_evaluations(kept)] == [weights_sha256(kept)]
    assert json.loads((kept / "cost.json").read_text())["steps"] == 2
    _, info = load_model(run(colours, tmp_path / "on", model=str(kept)))
    training = info.provenance["training"]
    assert (training["from_sha256"], training["before"]["verb"]) == (weights_sha256(kept), "finetune")


def test_beaten_trials_keep_no_models(colours: Path, tmp_path: Path) -> None:
    folder = run(colours, tmp_path / "run", save_every=2, lr=(1e-3, 1e-9))
    found = sorted(path.relative_to(folder / "checkpoints").as_posix() for path in folder.glob("checkpoints/*/step-*"))
    assert {name.split("/")[0] for name in found} == {"full-lr0.001"}
