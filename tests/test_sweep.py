"""The sweep's plan and runner, and the smoke preset by the real commands: every arm, shared stages once, resumed."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

import reinforce.cli
import train.cli
from reinforce.command import run_group

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import main_job
import publish_record
import stages
import sweep
from stages import Runner, Stage, StageFailedError
from sweep_plan import ARMS, Plan, make_plan
from sweep_presets import PRESETS

ARM_NAMES = [arm.name for arm in ARMS]
GROUPS = {"reinforce": reinforce.cli.command, "train": train.cli.command}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))


def call(argv: Sequence[str]) -> dict[str, Any]:
    """A command in this process: importing torch a hundred times would take the test's time."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = run_group(GROUPS[argv[0]], [*argv[1:], "--quiet"])
    if status:
        raise StageFailedError(f"status {status}")
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def plan_of(preset: str, folder: Path, arms: Sequence[str] = ARM_NAMES, experiments: Sequence[str] = ("arms",),
            **changes: Any) -> Plan:  # fmt: skip
    return make_plan(dataclasses.replace(PRESETS[preset](folder), **changes), folder, arms=arms,
                     experiments=experiments)  # fmt: skip


class Killed(BaseException):
    pass


class Writer:
    """Executes ("write", OUT, TEXT) as a command would, and remembers what it was asked."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, argv: Sequence[str]) -> dict[str, Any]:
        self.calls.append(list(argv))
        if argv[2] == "fail":
            raise StageFailedError("status 1")
        if argv[2] == "kill":
            raise Killed
        out = Path(argv[1])
        out.mkdir(exist_ok=True)
        (out / "model.json").write_text(json.dumps({"provenance": {"weights_sha256": argv[2]}}))
        return {"wrote": argv[2]}


def chain(folder: Path, first: str = "a", second: str = "b") -> list[Stage]:
    one, two = folder / "one", folder / "two"
    return [Stage("one", ("write", str(one), first, "--resume"), out=one),
            Stage("two", ("write", str(two), second, "--resume"), ("one",), out=two)]  # fmt: skip


def called(folder: Path, stages: Sequence[Stage], **options: Any) -> list[tuple[str, str]]:
    """(output, --resume or --overwrite) of what a new runner executes."""
    writer = Writer()
    Runner(folder, writer).run(stages, **options)
    return [(Path(argv[1]).name, argv[3]) for argv in writer.calls]


def test_a_finished_stage_is_not_run_again(tmp_path: Path) -> None:
    assert called(tmp_path, chain(tmp_path)) == [("one", "--resume"), ("two", "--resume")]
    assert called(tmp_path, chain(tmp_path)) == []


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"second": "c"}, [("two", "--overwrite")]),
        ({"first": "c"}, [("one", "--overwrite"), ("two", "--overwrite")]),
    ],
    ids=["its command", "its input"],
)
def test_what_changed_is_run_again_from_the_start(
    tmp_path: Path, change: dict[str, str], again: list[tuple[str, str]]
) -> None:
    called(tmp_path, chain(tmp_path))
    assert called(tmp_path, chain(tmp_path, **change)) == again


def test_an_input_that_comes_out_the_same_changes_nothing_after_it(tmp_path: Path) -> None:
    called(tmp_path, chain(tmp_path))
    one, two = chain(tmp_path)
    assert called(tmp_path, [dataclasses.replace(one, argv=(*one.argv, "--workers", "2")), two]) == [
        ("one", "--overwrite")]  # fmt: skip


def test_a_changed_file_is_noticed_where_a_split_is_read(tmp_path: Path) -> None:
    image = tmp_path / "set" / "train" / "a" / "1.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"1")
    before = stages.outside_digest(f"{tmp_path}/set@train")
    image.write_bytes(b"22")
    assert stages.outside_digest(f"{tmp_path}/set@train") != before


def test_a_removed_output_and_a_changed_file_outside_are_noticed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x.png").write_bytes(b"1")
    one = [dataclasses.replace(chain(tmp_path)[0], reads=(str(tmp_path / "data"),))]
    assert [len(called(tmp_path, one)) for _ in range(2)] == [1, 0]
    (tmp_path / "data" / "x.png").write_bytes(b"12")
    assert called(tmp_path, one) == [("one", "--overwrite")]
    (tmp_path / "one" / "model.json").unlink()
    (tmp_path / "one").rmdir()
    assert called(tmp_path, one) == [("one", "--resume")]


def test_what_a_command_without_resume_wrote_is_removed_before_it_starts_again(tmp_path: Path) -> None:
    pull = dataclasses.replace(chain(tmp_path)[0], argv=("write", str(tmp_path / "one"), "a", ""))
    Runner(tmp_path, Writer()).run([pull])
    (tmp_path / "one" / "of the last time").touch()
    Runner(tmp_path, Writer()).run([dataclasses.replace(pull, argv=(*pull.argv[:2], "b", ""))])
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["model.json"]


def test_nothing_is_removed_that_no_stage_wrote(tmp_path: Path) -> None:
    pull = dataclasses.replace(chain(tmp_path)[0], argv=("write", str(tmp_path / "one"), "a", ""))
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "of the user").touch()
    Runner(tmp_path, Writer()).run([pull])
    assert (tmp_path / "one" / "of the user").exists()


def test_a_killed_stage_is_resumed(tmp_path: Path) -> None:
    one = Stage("one", ("write", str(tmp_path / "one"), "kill", "--resume"), out=tmp_path / "one")
    for _ in range(2):
        (tmp_path / "one").mkdir(exist_ok=True)  # what the killed command had left
        writer = Writer()
        with pytest.raises(Killed):
            Runner(tmp_path, writer).run([one])
    assert writer.calls[0][3] == "--resume"


def test_a_failure_stops_what_waits_for_it_alone(tmp_path: Path) -> None:
    three = [*chain(tmp_path, first="fail"), Stage("three", ("write", str(tmp_path / "three"), "c", ""))]
    runner = Runner(tmp_path, Writer())
    runner.run(three, keep_going=True)
    assert runner.failed == {"one": "status 1", "two": "waits for 'one'"}
    assert "result" in runner.record["three"]
    with pytest.raises(SystemExit, match="the stage 'one' failed with status 1"):
        Runner(tmp_path, Writer()).run(three)


def test_what_a_stage_left_in_a_folder_that_was_made_anew_is_made_again(tmp_path: Path) -> None:
    """The input comes out with equal weights, and nothing but the missing file says that more is to do."""
    one = chain(tmp_path)[0]
    measure = Stage("measure one", ("measure", str(tmp_path / "one"), "b", ""), ("one",),
                    leaves=(tmp_path / "one", "evaluation-*.json"))  # fmt: skip
    executed: list[str] = []

    def execute(argv: Sequence[str]) -> dict[str, Any]:
        executed.append(argv[0])
        found = tmp_path / "one" / "evaluation-colours-test.json"
        if argv[0] == "measure":
            found.write_text("{}")
            return {"accuracy": 0.5}
        found.unlink(missing_ok=True)
        return Writer()(argv)

    again = dataclasses.replace(one, argv=(*one.argv, "--save-every", "2"))
    for first in (one, one, again, again):
        Runner(tmp_path, execute).run([first, measure])
    assert executed == ["write", "measure", "write", "measure"]


def test_a_report_that_fails_is_said_and_the_others_are_written(tmp_path: Path) -> None:
    runs = [tmp_path / name for name in ("a", "b")]
    for run in runs:
        run.mkdir()
        (run / "evaluation-colours-test.json").write_text("{}")

    def compare(argv: Sequence[str]) -> dict[str, Any]:
        if str(runs[0]) in argv:
            raise StageFailedError("status 1")
        out = Path(argv[argv.index("--out") + 1])
        out.mkdir(parents=True)
        (out / "comparison.md").write_text("a table")
        return {}

    plan = Plan(tmp_path, PRESETS["small"](tmp_path), reports={"first": runs[:1], "second": runs[1:]})
    assert sweep.run(plan, compare).failed == {"report first": "status 1"}
    assert (tmp_path / "summary.md").read_text() == "# second\n\na table"


def test_every_evaluation_is_looked_for_in_the_run_that_it_is_of(tmp_path: Path) -> None:
    plan = plan_of("smoke", tmp_path)
    measured = [stage for stage in plan.stages.values() if "evaluate" in stage.argv]
    assert measured
    for stage in measured:
        (run,) = stage.inputs
        assert stage.leaves == (plan.stages[run].out, "evaluation-*.json")


def test_the_papers_features_are_of_views_that_patches_cover_and_its_logits_of_256_px(tmp_path: Path) -> None:
    builds = [stage.argv for stage in plan_of("paper", tmp_path, seeds=(0,)).stages.values() if "build" in stage.argv]
    sizes = {(argv[argv.index("--target") + 1], _values(argv, "--image-size")) for argv in builds}
    assert sizes == {("logits", ("256",)), ("global-features", ("252",)), ("patch-features", ("252",))}


def test_the_paper_never_finetunes_all_of_a_vfm_on_a_percent_of_imagenet(tmp_path: Path) -> None:
    adapted = [stage.argv for stage in plan_of("paper", tmp_path, seeds=(0,)).stages.values() if "adapt" in stage.argv]
    modes = {preset: {_values(argv, "--mode") for argv in adapted if preset in argv}
             for preset in ("imagenet-1pct", "imagenet-10pct")}  # fmt: skip
    assert modes == {"imagenet-1pct": {("linear-probe",)}, "imagenet-10pct": {("linear-probe",), ("full",)}}


def _values(argv: Sequence[str], option: str) -> tuple[str, ...]:
    return tuple(value for word, value in itertools.pairwise(argv) if word == option)


def test_a_command_is_a_process_that_hands_back_its_json(tmp_path: Path) -> None:
    script = "import json, sys; print(json.dumps(sys.argv[1:])); sys.exit(len(sys.argv) - 2)"
    assert stages.call([sys.executable, "-c", script, "--json"]) == ["--json"]
    with pytest.raises(StageFailedError, match="status 1"):
        stages.call([sys.executable, "-c", script, "--json", "more"])


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process of its parent's end")
def test_a_killed_sweep_leaves_no_command_behind(tmp_path: Path) -> None:
    child = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(f'{{os.getpid()}}.'); time.sleep(60)"
    folder = str(Path(stages.__file__).parent)
    code = f"import sys; sys.path.insert(0, {folder!r}); import stages; stages.call([sys.executable, '-c', {child!r}])"
    parent = subprocess.Popen([sys.executable, "-c", code])
    wait_until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().endswith("."))
    parent.kill()
    parent.wait()
    pid = int((tmp_path / "pid").read_text()[:-1])
    wait_until(lambda: not is_running(pid))


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    """Not where it ended, be it that nobody has asked for its status yet."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_shared_stages_are_planned_once(tmp_path: Path) -> None:
    plan = plan_of("smoke", tmp_path)
    counted = {
        kind: sum(kind in stage.argv for stage in plan.stages.values()) for kind in ("adapt", "build", "distill")
    }
    seeds, budgets, modes = 2, 2, 2
    assert counted == {"adapt": seeds * budgets * modes, "build": 2 + seeds * budgets * modes,
                       "distill": seeds * (2 + budgets * modes)}  # fmt: skip
    order = list(plan.stages)
    assert all(order.index(name) < order.index(stage.name) for stage in plan.stages.values() for name in stage.inputs)


def test_fewer_views_are_parts_of_one_store(tmp_path: Path) -> None:
    """One pass of the teacher for all numbers of views, and each student from its own number."""
    planned = plan_of("smoke", tmp_path, experiments=["views"], seeds=(0,), view_counts=(1, 2, 4)).stages.values()
    parts = [stage.argv for stage in planned if "pull" in stage.argv]
    (whole,) = (stage.argv for stage in planned if "build" in stage.argv)
    assert _values(whole, "--views") == ("4",)
    assert [(argv[2], _values(argv, "--views")) for argv in parts] == [(whole[-1], ("0:1",)), (whole[-1], ("0:2",))]
    students = [_values(stage.argv, "--cache") for stage in planned if "distill" in stage.argv]
    assert students == [_values(argv, "--out") for argv in (*parts, whole)]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_planned_command_parses(tmp_path: Path, preset: str) -> None:
    import click

    plan = plan_of(preset, tmp_path, experiments=sweep.EXPERIMENTS)
    for line in {tuple(argv) for argv in map(_without_values, plan.stages.values())}:
        program, verb, *argv = line
        command = GROUPS[program].get_command(click.Context(GROUPS[program]), verb)
        assert command is not None
        command.make_context(verb, list(argv))


@pytest.mark.parametrize("preset", PRESETS)
def test_only_sets_that_are_shuffled_are_cut(tmp_path: Path, preset: str) -> None:
    """The first images of a folder are those of its first classes."""
    stages = plan_of(preset, tmp_path, experiments=sweep.EXPERIMENTS).stages.values()
    cut = {stage.argv[stage.argv.index("--transfer") + 1] for stage in stages
           if "--limit" in stage.argv and "--transfer" in stage.argv}  # fmt: skip
    assert cut == ({"fashion-mnist-train"} if preset in ("small", "factors", "results") else set())
    assert not any("--limit" in stage.argv for stage in stages if "supervised" in stage.argv)


def _without_values(stage: Stage) -> list[str]:
    """The command with every seed, budget and path made one, so that each shape is parsed once."""
    return ["0" if before in ("--seed", "--shots") else word.rpartition("/")[2][:12] if "/" in word else word
            for before, word in zip(("", *stage.argv), stage.argv, strict=False)]  # fmt: skip


def test_parts_of_a_preset_are_chosen_by_name(tmp_path: Path) -> None:
    everything = {"tasks": [], "vfms": [], "transfers": [], "budgets": [], "seeds": []}
    preset = sweep.narrowed(PRESETS["results"](tmp_path), **(everything | {"tasks": ["openclipart"], "seeds": ["4"]}))
    assert (list(preset.tasks), preset.seeds, len(preset.vfms)) == (["openclipart"], (4,), 2)
    with pytest.raises(SystemExit, match="this preset has no VFM 'sam': choose from dinov2-vits14, efficientnet-lite0"):
        sweep.narrowed(PRESETS["results"](tmp_path), **(everything | {"vfms": ["sam"]}))


@pytest.mark.parametrize("preset", main_job.PRESETS)
def test_the_main_job_plans_stages_of_the_same_kind(tmp_path: Path, preset: str) -> None:
    planned = main_job.stages(main_job.PRESETS[preset], 0, tmp_path)
    assert [stage.name for stage in planned][:5] == ["adapt", "build", "distill", "finetune", "from scratch"]
    assert all(isinstance(stage, Stage) for stage in planned)


@pytest.mark.slow
def test_the_smoke_preset_trains_every_arm_and_goes_on_where_it_was_killed(tmp_path: Path) -> None:
    task = PRESETS["smoke"](tmp_path).tasks["colours"]
    one_budget = {"colours": dataclasses.replace(task, budgets={"6": task.budgets["6"]})}
    plan = plan_of("smoke", tmp_path, seeds=(0,), tasks=one_budget)
    executed: list[str] = []

    def killed_once(argv: Sequence[str]) -> dict[str, Any]:
        executed.append(argv[argv.index("--out") + 1] if "--out" in argv else f"evaluate {argv[3]}")
        if len(executed) == 7:
            raise Killed
        return call(argv)

    with pytest.raises(Killed):
        sweep.run(plan, killed_once)
    assert sweep.run(plan, killed_once).failed == {}
    assert len(executed) == len(plan.stages) + 1 + len(plan.reports)
    assert executed[6] == executed[7], executed
    found = json.loads((tmp_path / "reports" / "colours-vfm-related" / "comparison.json").read_text())
    assert {arm["arm"] for arm in found["arms"]} == {
        "from scratch", "task-oriented, teacher finetuned", "task-oriented, teacher linear-probed",
        "task-agnostic (global features)", "task-agnostic (patch features)", "supervised pretraining",
        "DINO pretraining", "the teacher itself, vfm finetuned", "the teacher itself, vfm linear-probed"}  # fmt: skip
    students = [arm for arm in found["arms"] if not arm["is_teacher"] and arm["arm"] != "from scratch"]
    assert all([point["step"] for point in arm["curve"]] == [2] for arm in students)
    seconds = [result["seconds"] for arm in found["arms"] for result in (*arm["results"], *arm["curve"])]
    assert None not in seconds
    assert found["total_seconds"] < sum(seconds)
    for arm in students:
        half, whole = (cell["seconds_by_stage"] for cell in (arm["curve"][0], arm["results"][0]))
        stage = "distill" if "distill" in whole else "pretrain"
        assert 0 < half[stage] < whole[stage]
    assert "task-oriented" in (tmp_path / "summary.md").read_text()


@pytest.mark.slow
def test_the_experiment_on_views_reports_each_number_of_them(tmp_path: Path) -> None:
    plan = plan_of("smoke", tmp_path, experiments=["views"], seeds=(0,))
    assert sweep.run(plan, call).failed == {}
    found = json.loads((tmp_path / "reports" / "colours-vfm-related-views" / "comparison.json").read_text())
    assert sorted(arm["arm"] for arm in found["arms"]) == ["task-oriented, 1 view", "task-oriented, 2 views"]
    one, two = (arm["results"][0] for arm in found["arms"])
    assert one["seconds_by_stage"]["build"] == two["seconds_by_stage"]["build"]
    assert found["total_seconds"] < one["seconds"] + two["seconds"]


class TestPublishedRecord:
    RECORD: ClassVar[dict[str, Any]] = {
        "store": {"argv": ["reinforce", "build", "--out", "/home/me/runs/a/runs/store.zarr"], "seconds": 12.7,
                  "result": {"samples": 3, "certificate": {"codec": "klt", "bytes_per_view": 3.5, "kl_p50": 1e-4}}},
        "evaluate student": {"argv": ["train", "evaluate", "--model", "/home/me/runs/a/runs/student"], "seconds": 1.2,
                             "result": {"accuracy": 0.5, "num_images": 10, "mean_iou": None}},
        "begun": {"argv": ["train", "distill"]},
    }  # fmt: skip

    def publish(self, monkeypatch: pytest.MonkeyPatch, *argv: object) -> None:
        monkeypatch.setattr(sys, "argv", ["publish_record.py", *map(str, argv)])
        publish_record.main()

    def recorded(self, folder: Path, old: str = "", new: str = "") -> Path:
        """A folder with the record, in which something was another."""
        folder.mkdir()
        text = json.dumps(self.RECORD).replace("/home/me/runs/a", str(folder)).replace(old, new)
        (folder / "record.json").write_text(text)
        return folder

    def test_has_commands_and_figures_of_finished_stages_and_no_path_of_a_machine(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        into = tmp_path / "all.json"
        into.write_text(json.dumps({"old": {"kept": {}}, "new": {"store": {"seconds": 1}, "other": {}}}))
        self.publish(monkeypatch, "new", self.recorded(tmp_path / "a"), "--into", into)
        assert json.loads(into.read_text()) == {
            "old": {"kept": {}},
            "new": {
                "store": {"command": "reinforce build --out runs/sweep/runs/store.zarr", "seconds": 13,
                          "certificate": {"codec": "klt", "bytes_per_view": 3.5}},
                "other": {},
                "evaluate student": {"command": "train evaluate --model runs/sweep/runs/student", "seconds": 1,
                                     "accuracy": 0.5, "num_images": 10},
            },
        }  # fmt: skip

    def test_what_two_folders_share_is_there_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        one, other = self.recorded(tmp_path / "a"), self.recorded(tmp_path / "b")
        self.publish(monkeypatch, "new", one, other, "--into", tmp_path / "all.json")
        assert len(json.loads((tmp_path / "all.json").read_text())["new"]) == 2

    @pytest.mark.parametrize(
        ("old", "new", "line"),
        [("0.5", "0.75", "'evaluate student' is another stage in .*b: give it a section of its own"),
         ('"--model"', '"--model", "/elsewhere"', "/elsewhere is a path of this machine")],
    )  # fmt: skip
    def test_nothing_is_replaced_or_told_unawares(
        self, old: str, new: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folders = self.recorded(tmp_path / "a"), self.recorded(tmp_path / "b", old, new)
        with pytest.raises(SystemExit, match=line):
            self.publish(monkeypatch, "new", *folders, "--into", tmp_path / "all.json")
        assert not (tmp_path / "all.json").exists()

    def test_of_a_folder_without_one_is_a_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with pytest.raises(SystemExit, match=r"has no record\.json: type the --out of a sweep"):
            self.publish(monkeypatch, "new", tmp_path, "--into", tmp_path / "all.json")
        assert not (tmp_path / "all.json").exists()
