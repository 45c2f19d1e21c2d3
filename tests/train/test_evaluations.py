"""What an evaluation leaves in a run, and what it leaves alone; the models of kept checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reinforce.models import load_model, weights_sha256
from train.evaluate import EvaluateConfig, evaluate
from train.evaluations import read_evaluations, subset_of
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
    assert (part.num_images, part.value) == (4, results[4].accuracy)
    assert whole.weights_sha256 == weights_sha256(folder)
    (folder / "evaluation-torn.json").write_text("{")
    assert read_evaluations(folder) == [part, whole]


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
