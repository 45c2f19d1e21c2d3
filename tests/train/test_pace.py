"""A distillation of many hours says so once, and what to type for less; a short one says nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import tiny_reinforced as tiny
from stopping import stop_at_load

from reinforce.models import create_model, side_multiple
from train import pace
from train.cached import CachedViews
from train.distill import DistillConfig, distill
from train.loop import TrainingStoppedError
from train.pace import SMALL_STUDENTS, Pace, PaceWatch, shorter_distillation, shorter_side, smaller_student

HOURS = 3600.0


def watched(*seconds: float, num_steps: int, waited: float = 0.0) -> list[str | None]:
    """What is said after each step."""
    watch = PaceWatch(lambda pace: f"{pace.seconds:g} s, {pace.wait:.0%}, {pace.seconds_left / HOURS:g} h")
    passed, said = 0.0, []
    for number, one in enumerate(seconds, 1):
        passed += one
        said.append(watch.after_step(passed, waited * one, num_steps - number))
    return said


@pytest.mark.parametrize(
    ("seconds", "num_steps", "said"),
    [
        pytest.param((9, 4, 4, 4, 4), 9004, [None, None, None, "4 s, 0%, 10 h", None], id="without the first step"),
        pytest.param((72, 90), 1001, ["72 s, 0%, 20 h", None], id="a slow first step says enough"),
        pytest.param((9, 4, 4, 4, 4), 2000, [None] * 5, id="two hours are not long"),
        pytest.param((0.01,) * 50, 10**9, [None] * 50, id="not yet measured"),
    ],
)
def test_it_is_said_once_of_what_was_measured(seconds: tuple[float, ...], num_steps: int, said: list[Any]) -> None:
    assert watched(*seconds, num_steps=num_steps) == said


def test_waiting_for_images_is_measured() -> None:
    assert watched(5, 10, num_steps=9002, waited=0.25)[-1] == "10 s, 25%, 25 h"


def line(of: Pace, **changes: Any) -> str:
    config = DistillConfig(cache="a.zarr", **changes)
    _, info = create_model("test_vit", num_classes=3, image_size=64)
    return shorter_distillation(of, config, info, 8_500_000, side_px=32)


SLOW = Pace(seconds=36.0, wait=0.0, num_left=10_000)


@pytest.mark.parametrize(
    ("of", "changes", "said"),
    [
        pytest.param(
            SLOW,
            {},
            "at 36.0 s a step this takes some 100 hours; for less, stop it and type the command with --overwrite and "
            "--steps 100 (an hour), --image-size 32 (some 25 hours) or a smaller --student fastvit_t8",
            id="three ways",
        ),
        pytest.param(SLOW, {"epochs": 100}, "--steps 100 instead of --epochs (an hour)", id="epochs exclude steps"),
        pytest.param(SLOW, {"init_from": "runs/a"}, "25 hours)", id="other weights would not fit"),
        pytest.param(SLOW, {"online_teacher": "t"}, "(an hour)", id="the teacher takes as long"),
        pytest.param(
            Pace(36.0, 0.75, 10_000), {}, "100 hours, 75% of them for images; for less, stop it and type the command "
            "with --overwrite and --steps 100 (an hour)", id="images are what takes long",
        ),
    ],
)  # fmt: skip
def test_what_to_type_is_computed(of: Pace, changes: dict[str, Any], said: str) -> None:
    assert line(of, **changes).endswith(said) or said in line(of, **changes)
    assert ("--student" in line(of, **changes)) == ("--student" in said or "epochs" in changes)
    assert "\n" not in line(of, **changes)


def test_smaller_students_are_what_they_are_said_to_be() -> None:
    for name, few in SMALL_STUDENTS.items():
        model = timm.create_model(name, num_classes=0)
        assert sum(weights.numel() for weights in model.parameters()) == pytest.approx(few, rel=0.02)
    assert [smaller_student(number) for number in (8_500_000, 3_300_000, 1_200_000)] == [*SMALL_STUDENTS, None]


@pytest.mark.parametrize(
    ("side", "multiple", "shorter"),
    [
        pytest.param(224, 1, 128, id="cnn"),
        pytest.param(224, 16, 128, id="vit of 16 px"),
        pytest.param(224, 14, 112, id="vit of 14 px"),
        pytest.param(64, 1, None, id="small already"),
    ],
)
def test_a_shorter_side_is_one_that_the_student_takes(side: int, multiple: int, shorter: int | None) -> None:
    assert shorter_side(side, multiple) == shorter


@pytest.mark.parametrize(
    ("name", "options", "multiple"),
    [
        pytest.param("test_efficientnet", {}, 1, id="any"),
        pytest.param("test_vit", {"image_size": 64}, 16, id="patches"),
        pytest.param("test_vit", {"image_size": 64, "task": "segmentation"}, 8, id="cells"),
        pytest.param("volo_d1_224", {}, None, id="one size"),
    ],
)
def test_sizes_that_a_model_takes(name: str, options: dict[str, Any], multiple: int | None) -> None:
    assert side_multiple(*create_model(name, num_classes=2, **options)) == multiple


class TestDistill:
    @pytest.fixture(autouse=True)
    def every_training_is_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("LONG_SECONDS", "MEASURED_SECONDS", "SLOW_STEP_SECONDS"):
            monkeypatch.setattr(pace, name, 0.0)

    def config(self, tmp_path: Path, **changes: Any) -> DistillConfig:
        images, cache = tmp_path / "images", tmp_path / "a.zarr"
        if not cache.exists():
            tiny.build_store(cache, tiny.write_images(images))
        return DistillConfig(cache=str(cache), transfer=str(images), student="test_vit", image_size=64, workers=0,
                             out=str(tmp_path / "run"), **{"steps": 3, "batch_size": 16} | changes)  # fmt: skip

    @pytest.mark.parametrize(
        ("changes", "times"),
        [pytest.param({}, 1, id="said once"), pytest.param({"quiet": True}, 0, id="quiet"),
         pytest.param({"json": True}, 0, id="json")],
    )  # fmt: skip
    def test_it_is_one_line(self, changes: dict[str, Any], times: int, tmp_path: Path,
                            capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
        distill(self.config(tmp_path, **changes))
        written = capsys.readouterr()
        assert written.err.count("stop it and type the command with --overwrite and --steps ") == times
        assert written.out == ""

    def test_who_resumes_has_decided(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stop_at_load(monkeypatch, CachedViews, 1)
        with pytest.raises(TrainingStoppedError):
            distill(self.config(tmp_path))
        capsys.readouterr()
        distill(self.config(tmp_path, resume=True))
        assert "stop it" not in capsys.readouterr().err
