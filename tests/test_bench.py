"""The benchmarks of a whole chain, at a size at which their figures mean nothing: what each says, and its bounds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import bench_scale
import bench_suite
from figures import Figure
from suite.build_speed import build_figures
from suite.inputs import Network, StoreRequest, make_photographs, make_tiles
from suite.memory import memory_figures
from suite.online_speed import OnlineCase, online_figures
from suite.pace import Pace
from suite.step_cost import StepCase, step_figures

from reinforce.data import num_images, open_source

TEACHER, STUDENT = (Network(architecture=name, image_size=32) for name in ("test_vit", "test_efficientnet"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))


def by_name(figures: list[Figure], part: str) -> Figure:
    (found,) = [figure for figure in figures if part in figure.name]
    return found


def test_a_build_takes_no_less_than_its_parts_and_decodes_an_image_once(tmp_path):
    request = StoreRequest(teacher=TEACHER, num_images=12, views=3, view_px=32, num_classes=5, batch_size=8)
    figures = list(build_figures(request, tmp_path, device="cpu", workers=0, rounds=1))
    rate, part = by_name(figures, "views/s"), by_name(figures, "part of its limit")
    assert 0 < rate.value <= rate.limit
    assert part.value == pytest.approx(rate.value / rate.limit)
    assert rate.peer > 0
    assert by_name(figures, "views a decoded image").value == request.views
    assert by_name(figures, "off the build's seconds").value >= 0


def test_steps_of_both_ways_take_turns(tmp_path):
    case = StepCase(student=STUDENT, batch_size=8, num_classes=5)
    figures = list(step_figures(case, tmp_path, device="cpu", workers=0, rounds=3))
    assert 0.2 < by_name(figures, "the same step with labels").value < 5
    assert by_name(figures, "images/s").peer > 0
    assert 0 <= by_name(figures, "waiting for data").value <= 1


@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_a_live_teacher_costs_what_it_takes(tmp_path, task):
    teacher, student = (Network(architecture=one.architecture, image_size=32, task=task) for one in (TEACHER, STUDENT))
    case = OnlineCase(teacher=teacher, student=student, view_px=32, batch_size=4, views=2, num_images=12)
    figures = list(online_figures(case, tmp_path, device="cpu", workers=0, rounds=3))
    gain = by_name(figures, "online / cached epoch")
    assert gain.limit > 1
    assert by_name(figures, "part of its bound").value == pytest.approx(gain.value / gain.limit)


@pytest.mark.long
def test_memory_is_that_of_the_command_alone(tmp_path):
    block = bytearray(1 << 30)
    figures = list(memory_figures((30, 60), ("build", "inspect"), tmp_path))
    assert len(block) > 1 << 30 >> 1
    assert 20 < by_name(figures, "memory, inspect").value < 200 < by_name(figures, "memory, build").value < 1000


def test_pictures_are_the_same_every_time(tmp_path):
    first, second = (make_photographs(tmp_path / name, 2) for name in "ab")
    assert [path.read_bytes() for path in sorted(first.iterdir())] == [
        path.read_bytes() for path in sorted(second.iterdir())
    ]
    assert num_images(open_source(str(make_tiles(tmp_path / "tiles", 30)))) == 30


def test_json_is_one_object_and_a_wrong_part_is_named(monkeypatch, capsys):
    def figures(self: bench_suite.Bench, parts: list[str]) -> list[Figure]:
        return [Figure(name=part, value=1.0) for part in parts]

    monkeypatch.setattr(bench_suite.Bench, "figures", figures)
    monkeypatch.setattr(sys, "argv", ["bench", "--quick", "--json", "--only", "step,memory"])
    monkeypatch.setattr(bench_suite, "keep_freed_memory", lambda: True)
    bench_suite.main()
    (first, _) = json.loads(capsys.readouterr().out)["figures"]
    assert first == {"name": "step", "value": 1.0, "limit": None, "peer": None, "goal": None, "lower_is_better": False}
    monkeypatch.setattr(sys, "argv", ["bench", "--only", "speed"])
    with pytest.raises(SystemExit, match="2"):
        bench_suite.main()
    assert "--only takes some of build,step,online,memory, not speed" in capsys.readouterr().err


def test_a_sample_more_is_timed_in_sets_of_several_sizes(tmp_path):
    figures = list(bench_scale.growth_figures((40, 400), tmp_path, ["build"]))
    assert by_name(figures, "build: us a sample more, up to 400").value > 0


def test_work_is_counted_by_the_pace_of_the_machine():
    with Pace() as pace:
        seconds = sum(pace.fixed_work() for _ in range(400))
    assert pace.work == pytest.approx(400, rel=0.3)
    assert pace.seconds == pytest.approx(seconds, rel=0.2)


def test_a_store_of_the_metadata_of_a_large_one(tmp_path):
    figures = list(bench_scale.whole_stores(tmp_path, 400, 3))
    assert [figure.value for figure in figures if figure.name == "... most objects in a folder"] == [8, 6]


@pytest.mark.parametrize("scale", [bench_suite.QUICK, bench_suite.FULL], ids=["quick", "full"])
def test_encoders_at_stride_8_get_images_that_it_divides(scale):
    """Before a bench of an hour comes to them."""
    networks = [case.student for case in scale.students] + [request.teacher for request in scale.builds]
    networks += [network for case in scale.online for network in (case.teacher, case.student)]
    assert all(network.image_size % 8 == 0 for network in networks if network.task == "segmentation")
    assert all(case.view_px <= case.teacher.image_size for case in scale.online)
