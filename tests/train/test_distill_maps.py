"""Segmentation students from a real, tiny store of maps: adapted teacher, build, distill, finetune, evaluate."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_reinforced as tiny
import torch
from stopping import stop_at_load
from tiny_scenes import write_scene

from reinforce.build import BuildConfig, build
from reinforce.dataset import open_dataset
from reinforce.errors import UsageError
from reinforce.models import Preprocess, create_model, load_model, save_model, upsample
from train.adapt import AdaptConfig, adapt
from train.batches import Batch
from train.cached import CachedViews, HeldOutViews, row_bytes
from train.distill import DistillConfig, DistillResult, distill
from train.evaluate import EvaluateConfig, SegmentationResult, evaluate
from train.finetune import FinetuneConfig, finetune
from train.loop import TrainingStoppedError
from train.losses import pixel_kl
from train.matching import add_agreement, as_maps, matching
from train.metrics import AgreementTally

NAMES = ("ground", "red", "blue")
TEACHER_PX, VIEWS = 32, 2


def write_scenes(folder: Path) -> Path:
    rng = np.random.default_rng(2)
    for index in range(44):
        write_scene(folder, f"{index:02d}", rng)
    return folder / "images"


def write_teacher(folder: Path) -> str:
    """Untrained, its head turned up: its maps differ from view to view."""
    torch.manual_seed(7)
    model, info = create_model("test_vit", class_names=NAMES, image_size=TEACHER_PX, task="segmentation",
                               head="linear")  # fmt: skip
    with torch.no_grad():
        for weights in model.head.parameters():  # type: ignore[union-attr]
            weights.normal_(0, 0.7)
    save_model(folder, model, info)
    return str(folder)


def build_store(teacher: str, images: Path, out: Path, **changes: Any) -> Path:
    options: dict[str, Any] = {"views": VIEWS, "workers": 0, "quiet": True, "batch_size": 16, "max_kl": 1e-3}
    build(BuildConfig(teacher=teacher, transfer=str(images), out=str(out), **(options | changes)))
    return out


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("transfer") / "rectangles")


@pytest.fixture(scope="module")
def built(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(store, teacher)."""
    folder = tmp_path_factory.mktemp("store")
    before = {name: os.environ.get(name) for name in ("REINFORCE_HOME",)}
    os.environ["REINFORCE_HOME"] = str(folder / "home")
    try:
        teacher = write_teacher(folder / "teacher")
        return build_store(teacher, images, folder / "rectangles.zarr"), teacher
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def run(built: tuple[Path, str], images: Path, out: Path, **changes: Any) -> DistillResult:
    defaults: dict[str, Any] = {"student": "test_vit", "head": "linear", "lr": 3e-3, "steps": 12, "batch_size": 16,
                                "precision": "fp32", "log_every": 3, "eval_every": 6, "quiet": True}  # fmt: skip
    result = distill(DistillConfig(cache=str(built[0]), transfer=str(images), out=str(out), **(defaults | changes)))
    assert isinstance(result, DistillResult)
    return result


def curve(out: Path) -> list[dict[str, Any]]:
    timed = ("images_per_second", "data_wait", "seconds")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in timed} for line in lines]


def test_batches_hold_the_teachers_maps_of_just_these_views(built: tuple[Path, str], images: Path) -> None:
    dataset = open_dataset(str(built[0]), str(images))
    batch = CachedViews(dataset, seed=0).load(np.array([3, 0, 20]), 1)
    model, info = load_model(built[1])
    with torch.inference_mode():
        maps = model(Preprocess.from_info(info)(batch.inputs))
    assert tuple(batch.targets.shape) == (3, 4, 4, 3)
    assert batch.valid is not None
    assert (batch.valid.dtype, tuple(batch.valid.shape)) == (torch.bool, (3, TEACHER_PX, TEACHER_PX))
    assert batch.num_counted == int(batch.valid.sum()) < batch.valid.numel()
    assert pixel_kl(maps, as_maps(batch.targets), batch.valid) < 5e-3
    assert row_bytes(dataset) == 4 * TEACHER_PX**2 + 4 * 4 * 4 * 3


def test_a_student_learns_its_teacher(built: tuple[Path, str], images: Path, tmp_path: Path) -> None:
    result = run(built, images, tmp_path / "student", steps=80, eval_every=20)
    evaluations = [line for line in curve(tmp_path / "student") if "agreement" in line]
    assert [line["step"] for line in evaluations] == [20, 40, 60, 80]
    assert result.kl == min(line["kl"] for line in evaluations)
    assert result.kl < evaluations[0]["kl"]
    assert result.to_json()["task"] == "segmentation"
    assert f"agrees with the teacher on {result.agreement:.1%} of held-out pixels" in str(result)
    _, info = load_model(tmp_path / "student")
    assert (info.task, info.head, info.class_names, info.image_size) == ("segmentation", "linear", NAMES, TEACHER_PX)
    assert info.metrics == {"held_out_kl": result.kl, "held_out_agreement": result.agreement}


def test_held_out_figures_are_those_of_all_their_pixels_at_once(built: tuple[Path, str], images: Path,
                                                                tmp_path: Path) -> None:  # fmt: skip
    result = run(built, images, tmp_path / "student", steps=2, batch_size=5)
    views = HeldOutViews(open_dataset(str(built[0]), str(images)))
    batch = views.load(views.rows, 0)
    model, info = load_model(tmp_path / "student")
    with torch.inference_mode():
        student = upsample(model(Preprocess.from_info(info)(batch.inputs)), TEACHER_PX)
    teacher = upsample(as_maps(batch.targets), TEACHER_PX)
    log_p, log_q = (maps.double().log_softmax(dim=1) for maps in (teacher, student))
    kl = (log_p.exp() * (log_p - log_q)).sum(dim=1)[batch.valid]
    agrees = (teacher.argmax(dim=1) == student.argmax(dim=1))[batch.valid]
    assert result.kl == pytest.approx(kl.mean().item(), rel=1e-4)
    assert result.agreement == pytest.approx(agrees.double().mean().item(), abs=1e-3)


@pytest.mark.parametrize("stop_at", [3, 9])
def test_stop_and_resume_is_the_uninterrupted_run(stop_at: int, built: tuple[Path, str], images: Path, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    changes: dict[str, Any] = {"student": "test_efficientnet", "head": "deeplabv3", "batch_size": 8}
    whole = run(built, images, tmp_path / "whole", **changes)
    stop_at_load(monkeypatch, CachedViews, stop_at)
    with pytest.raises(TrainingStoppedError, match=f"stopped at step {stop_at} of 12"):
        run(built, images, tmp_path / "stopped", **changes)
    resumed = run(built, images, tmp_path / "stopped", resume=True, **changes)
    assert curve(tmp_path / "stopped") == curve(tmp_path / "whole")
    assert (resumed.kl, resumed.agreement, resumed.best_step) == (whole.kl, whole.agreement, whole.best_step)
    for name in ("model.safetensors", "extra.safetensors"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("student", ["fastvit_t8", "mobilevitv2_050"])
def test_students_by_name(student: str, built: tuple[Path, str], images: Path, tmp_path: Path) -> None:
    """A student's map may be of another size than the teacher's: both are compared at the pixels."""
    result = run(built, images, tmp_path / "run", student=student, head=None, image_size=64, steps=1, batch_size=4)
    assert result.student == student
    assert load_model(tmp_path / "run")[1].head == "deeplabv3"


def test_init_from_keeps_the_head_that_fits(built: tuple[Path, str], images: Path, tmp_path: Path) -> None:
    run(built, images, tmp_path / "second", steps=1, lr=1e-12, ema=0.0, init_from=built[1], head=None)
    first, second = (load_model(path)[0].state_dict() for path in (built[1], tmp_path / "second"))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "classification"}, "holds dense-logits of a segmentation teacher: leave --task out"),
        ({"temperature": 4.0}, "certified at temperature 1, not 4"),
        ({"image_size": 36}, "--image-size"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_the_store_is_one_line(changes: dict[str, Any], message: str, built: tuple[Path, str],
                                                 images: Path, tmp_path: Path) -> None:  # fmt: skip
    with pytest.raises(UsageError, match=message):
        run(built, images, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_a_store_of_rows_makes_no_segmentation_student(tmp_path: Path) -> None:
    images = tiny.write_images(tmp_path / "coloured", count=24)
    store = tiny.build_store(tmp_path / "coloured.zarr", images)
    for changes, message in (({"task": "segmentation"}, "logits of a classification teacher"),
                             ({"head": "linear"}, "--head linear is of segmentation")):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            distill(DistillConfig(cache=str(store), transfer=str(images), **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("maps", [False, True], ids=["rows", "maps"])
def test_loss_and_figures_agree_on_either_kind(maps: bool, temperature: float) -> None:
    """The loss is T^2 times the KL that a tally of the same batches gives."""
    torch.manual_seed(0)
    shape, layout = ((6, 2, 2, 5), (6, 5, 2, 2)) if maps else ((6, 5), (6, 5))
    valid = torch.rand(6, 8, 8) < 0.6 if maps else None
    batch, answer = Batch(torch.zeros(6), torch.randn(shape), valid=valid), torch.randn(layout)
    tally = AgreementTally()
    for part in (slice(0, 4), slice(4, 6)):
        share = Batch(batch.inputs[part], batch.targets[part], valid=None if valid is None else valid[part])
        add_agreement(tally, answer[part], share, temperature)
    assert matching(answer, batch, temperature).item() == pytest.approx(temperature**2 * tally.kl, rel=1e-5)
    assert tally.num_compared == (6 if valid is None else int(valid.sum()))


PROGRAM = """
import sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('open_clip', 'faiss', 'ray', 'zarr', 'datasets', 'webdataset') or name in (
                'reinforce.teacher', 'reinforce.build', 'reinforce.plan', 'reinforce.planning', 'reinforce.job',
                'reinforce.engine'):
            raise ImportError(f'{name} is behind the wall')

sys.meta_path.insert(0, Wall())
from train.cli import command
from reinforce.command import run_group
sys.exit(run_group(command, sys.argv[1:]))
"""


@pytest.mark.slow
def test_distilling_maps_needs_no_teacher(built: tuple[Path, str], images: Path, tmp_path: Path) -> None:
    argv = ["distill", "--cache", str(built[0]), "--transfer", str(images), "--student", "mobilevitv2_050",
            "--steps", "2", "--batch-size", "8", "--out", "student", "--quiet"]  # fmt: skip
    subprocess.run([sys.executable, "-c", PROGRAM, *argv], cwd=tmp_path, check=True)
    assert (tmp_path / "student" / "extra.safetensors").exists()


@pytest.mark.slow
def test_adapt_build_distill_finetune_evaluate(scenes: Path, images: Path, tmp_path: Path) -> None:
    """The whole method: a student that never saw a mask does better than chance, and few masks make it better yet."""
    common: dict[str, Any] = {"precision": "fp32", "quiet": True, "workers": 0}
    labels: dict[str, Any] = {"task": "segmentation", "data": str(scenes), "batch_size": 6, "num_labelled": 8}
    adapt(AdaptConfig(model="test_vit", image_size=32, head="linear", mode="full", policy="segmentation-crops",
                      lr=(3e-3,), steps=100, out="runs/teacher", **common, **labels))  # fmt: skip
    store = build_store("teacher", images, tmp_path / "cc3m.zarr")
    distill(DistillConfig(cache=str(store), student="test_efficientnet", head="linear", steps=120, lr=1e-2,
                          batch_size=16, out="runs/student", **common))  # fmt: skip
    finetune(FinetuneConfig(model="runs/student", steps=20, lr=(1e-3,), policy="segmentation-crops",
                            out="runs/student-ft", **common, **labels))  # fmt: skip
    figures = {}
    for name in ("teacher", "student", "student-ft"):
        found = evaluate(EvaluateConfig(model=f"runs/{name}", data=str(scenes), **common))
        assert isinstance(found, SegmentationResult)
        figures[name] = found.mean_iou
    assert figures["teacher"] > 0.6
    assert figures["student"] > 0.4, figures
    assert figures["student-ft"] > 0.4, figures
