"""The online control: what a live teacher says now is what its lossless store says, and a student cannot tell them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_reinforced as tiny
import torch
from stopping import stop_at_load

from reinforce.build import BuildConfig, build
from reinforce.dataset import open_dataset
from reinforce.errors import UsageError
from reinforce.models import create_model, load_model, save_model
from train.cached import CachedViews
from train.distill import DistillConfig, DistillResult, distill
from train.loop import TrainingStoppedError
from train.online import LiveTeacher

CPU = torch.device("cpu")
DTYPES = {"classification": "bfloat16", "segmentation": "float32"}
"""Task of the teacher -> its arithmetic."""


def write_teacher(folder: Path, task: Any, seed: int = 3) -> str:
    """Untrained, its head turned up, for 32 px: the views are of another size."""
    torch.manual_seed(seed)
    head: Any = "linear" if task == "segmentation" else None
    model, info = create_model("test_vit", class_names=tiny.CLASS_NAMES, image_size=32, task=task, head=head)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if name.startswith("head"):
                weights.normal_(0, 0.7)
    save_model(folder, model, info)
    return str(folder)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_images(tmp_path_factory.mktemp("transfer") / "coloured")


@pytest.fixture(scope="module", params=DTYPES)
def built(request: pytest.FixtureRequest, images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(fp16 store of 24 px views, its teacher)."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REINFORCE_HOME", str(folder / "home"))
        teacher = write_teacher(folder / "teacher", request.param)
        build(BuildConfig(teacher=teacher, transfer=str(images), out=str(folder / "x.zarr"), views=2, codec="fp16",
                          image_size=24, dtype=DTYPES[request.param], workers=0, batch_size=16,
                          quiet=True))  # fmt: skip
    return folder / "x.zarr", teacher


def run(built: tuple[Path, str], images: Path, out: Path, **changes: Any) -> DistillResult:
    defaults: dict[str, Any] = {"student": "test_vit", "image_size": 32, "lr": 3e-3, "steps": 6, "batch_size": 16,
                                "precision": "fp32", "log_every": 1, "eval_every": 3, "quiet": True}  # fmt: skip
    result = distill(DistillConfig(cache=str(built[0]), transfer=str(images), out=str(out), **(defaults | changes)))
    assert isinstance(result, DistillResult)
    return result


def curve(out: Path) -> list[dict[str, Any]]:
    timed = ("images_per_second", "data_wait", "seconds")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in timed} for line in lines]


def losses(out: Path) -> list[float]:
    return [line["loss"] for line in curve(out) if "loss" in line]


def centred(targets: torch.Tensor) -> torch.Tensor:
    """Stores keep logits up to a constant per row, or cell."""
    return targets - targets.mean(dim=-1, keepdim=True)


def test_online_targets_are_those_of_a_lossless_store(built: tuple[Path, str], images: Path) -> None:
    dataset = open_dataset(str(built[0]), str(images))
    teacher = LiveTeacher.open(built[1], dataset.store, CPU)
    batch = CachedViews(dataset, seed=0).load(np.arange(21), 1)
    again = teacher.relabelled(batch)
    assert teacher.dtype == (torch.bfloat16 if dataset.store.map_size is None else None)
    assert again.targets.shape == batch.targets.shape
    torch.testing.assert_close(
        centred(again.targets), centred(batch.targets), atol=0.06 if teacher.dtype else 0.01, rtol=1e-2
    )
    assert (again.inputs is batch.inputs, again.valid is batch.valid) == (True, True)
    assert not torch.equal(again.targets, batch.targets)


def test_the_teacher_keeps_its_arithmetic_inside_the_students(built: tuple[Path, str], images: Path) -> None:
    dataset = open_dataset(str(built[0]), str(images))
    teacher = LiveTeacher.open(built[1], dataset.store, CPU)
    batch = CachedViews(dataset, seed=0).load(np.arange(16), 0)
    outside = teacher.relabelled(batch).targets
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            assert torch.equal(teacher.relabelled(batch).targets, outside)


def test_online_and_cached_runs_see_the_same_views_in_the_same_order(built: tuple[Path, str], images: Path,
                                                                    tmp_path: Path) -> None:  # fmt: skip
    run(built, images, tmp_path / "cached")
    result = run(built, images, tmp_path / "online", online_teacher=built[1])
    assert losses(tmp_path / "online") == pytest.approx(losses(tmp_path / "cached"), rel=0.03, abs=1e-3)
    assert losses(tmp_path / "online") != losses(tmp_path / "cached")
    trainings = [load_model(tmp_path / name)[1].provenance["training"] for name in ("online", "cached")]
    assert [training["targets"] for training in trainings] == ["online", "stored"]
    assert trainings[0]["online"]["weights_sha256"] == trainings[0]["store"]["teacher"]["weights_sha256"]
    assert trainings[0]["online"]["teacher"] == "teacher"
    assert "online" not in trainings[1]
    assert result.store_digest == trainings[0]["store"]["manifest_digest"]


def test_stop_and_resume_is_the_uninterrupted_run(built: tuple[Path, str], images: Path, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    run(built, images, tmp_path / "whole", online_teacher=built[1])
    stop_at_load(monkeypatch, CachedViews, 4)
    with pytest.raises(TrainingStoppedError, match="stopped at step 4 of 6"):
        run(built, images, tmp_path / "stopped", online_teacher=built[1])
    with pytest.raises(UsageError, match="was started with --online-teacher"):
        run(built, images, tmp_path / "stopped", resume=True)
    run(built, images, tmp_path / "stopped", online_teacher=built[1], resume=True)
    assert curve(tmp_path / "stopped") == curve(tmp_path / "whole")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("stopped", "whole")]
    assert weights[0] == weights[1]


def test_another_teacher_is_refused_and_leaves_nothing(built: tuple[Path, str], images: Path, tmp_path: Path) -> None:
    task = load_model(built[1])[1].task
    other = write_teacher(tmp_path / "other", task, seed=4)
    with pytest.raises(UsageError, match=r"other is not the teacher of .*x\.zarr, which is teacher .*built from"):
        run(built, images, tmp_path / "run", online_teacher=other)
    assert not (tmp_path / "run").exists()
