"""`--tensorboard`: event files with the very figures of metrics.jsonl, also after a resume; none without it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from stopping import stop_at_load

from reinforce.errors import MissingExtraError
from train.finetune import FinetuneConfig, finetune
from train.labelled import TrainingViews
from train.loop import TrainingStoppedError

Scalars = dict[tuple[str, str], list[tuple[int, float]]]
TIMED = ("images_per_second", "data_wait")


def run(colours: Path, out: str, **options: Any) -> None:
    config = {"model": "test_efficientnet", "data": str(colours), "image_size": 32, "mode": "full", "lr": (1e-3, 2e-3),
              "steps": 6, "log_every": 1, "eval_every": 2, "workers": 0, "batch_size": 8, "precision": "fp32",
              "quiet": True, "tensorboard": True}  # fmt: skip
    finetune(FinetuneConfig(out=out, **config | options))  # type: ignore[arg-type]


def written(out: str) -> Scalars:
    """(trial, figure) -> (step, value), as TensorBoard reads it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for folder in (path for path in Path(out, "tensorboard").iterdir() if path.is_dir()):
        events = EventAccumulator(str(folder)).Reload()
        for name in events.Tags()["scalars"]:
            found[folder.name, name] = [(event.step, event.value) for event in events.Scalars(name)]
    return found


def logged(out: str) -> Scalars:
    found: Scalars = {}
    for line in map(json.loads, Path(out, "metrics.jsonl").read_text().splitlines()):
        for name in line.keys() - {"trial", "step", "epoch", "seconds"}:
            found.setdefault((line["trial"], name), []).append((line["step"], pytest.approx(line[name], rel=1e-6)))
    return found


def test_the_figures_of_metrics_jsonl(colours: Path) -> None:
    run(colours, "run")
    assert written("run") == logged("run")
    assert {trial for trial, _ in written("run")} == {"full-lr0.001", "full-lr0.002"}


def test_a_resumed_run_has_each_step_once(colours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(colours, "whole", lr=(1e-3,))
    with monkeypatch.context() as patch:
        stop_at_load(patch, TrainingViews, 4)
        with pytest.raises(TrainingStoppedError):
            run(colours, "run", lr=(1e-3,))
    run(colours, "run", lr=(1e-3,), resume=True)
    assert written("run") == logged("run")
    assert {key: value for key, value in written("run").items() if key[1] not in TIMED} == {
        key: value for key, value in written("whole").items() if key[1] not in TIMED}  # fmt: skip


def test_a_new_run_begins_without_the_old_ones(colours: Path) -> None:
    run(colours, "run")
    run(colours, "run", overwrite=True, tensorboard=False)
    assert not Path("run", "tensorboard").exists()


def test_without_the_package(colours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if name == "tensorboard" else find(name, *a))
    with pytest.raises(MissingExtraError, match=r"--tensorboard needs tensorboard: pip install '.*\[tensorboard\]'"):
        run(colours, "run")
    assert not Path("run").exists()
