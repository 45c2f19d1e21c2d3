"""`train compare`: arms, labels, means and costs of runs that anybody made by hand; what is left out, and errors."""

from __future__ import annotations

import json
import shutil
import statistics
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import Runs

import train.cli
from reinforce.command import run_group
from reinforce.errors import DataError, OutputExistsError, ReinforceError, UsageError
from train.compare.compare import CompareConfig, CompareResult, compare, gather
from train.compare.table import Comparison


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs")


def gathered(runs: Runs, **options: Any) -> Comparison:
    names = tuple(str(path) for path in sorted(runs.root.iterdir()))
    return gather(CompareConfig(runs=names, **options))


def quality(comparison: Comparison) -> dict[str, dict[str, list[float]]]:
    return {arm.name: {name: cell.values for name, cell in arm.cells.items()} for arm in comparison.arms}


def oriented(runs: Runs, value: float = 0.7, *, mode: str = "full", seed: int = 0, shots: int = 10,
             name: str = "a", **options: Any) -> Path:  # fmt: skip
    teacher = runs.adapt(f"{name}-teacher", mode=mode, seed=seed, shots=shots)
    store = runs.store(f"{name}.zarr", teacher, **options)
    student = runs.distill(f"{name}-student", store, seed=seed)
    return runs.finetune(f"{name}-ft", student, seed=seed, shots=shots, value=value)


def test_every_arm_has_its_name(runs: Runs) -> None:
    oriented(runs, name="full")
    oriented(runs, name="probe", mode="linear-probe")
    store = runs.store("f.zarr", runs.adapt("vfm"))
    for loss in ("contrastive", "cosine"):
        runs.finetune(f"ft-{loss}", runs.distill(f"d-{loss}", store, loss=loss), value=0.6)
    for method in ("dino", "supervised"):
        runs.finetune(f"ft-{method}", runs.pretrain(f"p-{method}", method=method), value=0.5)
    runs.finetune("scratch", value=0.4)
    runs.measure(runs.root / "full-teacher", 0.9)
    assert sorted(quality(gathered(runs))) == [
        "DINO pretraining",
        "from scratch",
        "supervised pretraining",
        "task-agnostic (global features), teacher finetuned",
        "task-agnostic (patch features), teacher finetuned",
        "task-oriented, teacher finetuned",
        "task-oriented, teacher linear-probed",
        "the teacher itself, dinov2-vits14 finetuned",
    ]


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        ({"views": 1}, {"views": 16}, {"task-oriented, 1 view", "task-oriented, 16 views"}),
        ({"transfer": "web"}, {"transfer": "clips"}, {"task-oriented, on web", "task-oriented, on clips"}),
        ({"mode": "full"}, {"mode": "linear-probe"},
         {"task-oriented, teacher finetuned", "task-oriented, teacher linear-probed"}),
        ({}, {"seed": 1}, {"task-oriented"}),
        ({}, {"shots": 5}, {"task-oriented"}),
    ],
    ids=["views", "transfer sets", "modes", "seeds", "labels"],
)  # fmt: skip
def test_a_name_says_what_differs(runs: Runs, first: dict[str, Any], second: dict[str, Any], names: set[str]) -> None:
    oriented(runs, name="a", **first)
    oriented(runs, name="b", **second)
    assert quality(gathered(runs)).keys() == names


def test_means_and_spreads_are_over_seeds_by_number_of_labels(runs: Runs) -> None:
    figures = {5: [0.5, 0.6, 0.55], 10: [0.7, 0.72]}
    for shots, values in figures.items():
        for seed, value in enumerate(values):
            runs.finetune(f"s-{shots}-{seed}", shots=shots, seed=seed, value=value)
    comparison = gathered(runs)
    (arm,) = comparison.arms
    assert comparison.budgets == ("5 a class", "10 a class")
    for shots, values in figures.items():
        cell = arm.cells[f"{shots} a class"]
        assert (cell.mean, cell.std) == (
            pytest.approx(statistics.mean(values)),
            pytest.approx(statistics.stdev(values)),
        )
        assert cell.num_labels == 3 * shots
    assert [cell["seeds"] for cell in comparison.to_json()["arms"][0]["results"]] == [[0, 1, 2], [0, 1]]


def test_one_seed_has_no_spread(runs: Runs) -> None:
    runs.finetune("s", value=0.5)
    assert gathered(runs).arms[0].cells["10 a class"].std is None


def test_a_student_that_was_not_finetuned_has_its_teachers_labels(runs: Runs) -> None:
    student = runs.distill("student", runs.store("s.zarr", runs.adapt("teacher", shots=7)))
    runs.measure(student, 0.6)
    assert quality(gathered(runs)) == {"task-oriented, not finetuned": {"7 a class": [0.6]}}


def test_a_run_costs_all_that_led_to_it(runs: Runs) -> None:
    oriented(runs)
    cell = gathered(runs).arms[0].cells["10 a class"]
    assert cell.by_stage() == {"adapt": 100, "build": 50, "distill": 200, "finetune": 20}
    assert cell.seconds == 370


def test_shared_stages_are_paid_once_in_all_and_by_each_alone(runs: Runs) -> None:
    student = runs.distill("student", runs.store("s.zarr", runs.adapt("teacher")), loss="contrastive")
    for shots in (5, 10):
        runs.finetune(f"ft-{shots}", student, shots=shots, value=0.6)
    comparison = gathered(runs)
    assert [cell.seconds for cell in comparison.arms[0].cells.values()] == [370, 370]
    assert comparison.total.seconds == 370 + 20


def test_kept_checkpoints_make_a_curve_and_are_parts_of_their_run(runs: Runs) -> None:
    store = runs.store("s.zarr", runs.adapt("teacher"))
    student = runs.distill("student", store, seconds=200)
    runs.finetune("ft", student, value=0.8)
    for step, seconds in ((100, 50), (200, 100)):
        kept = runs.distill("student", store, seconds=seconds, step=step)
        runs.finetune(f"ft-at-{step}", kept, value=0.6 + step / 1000)
    comparison = gathered(runs)
    (arm,) = comparison.arms
    assert [(cell.seconds, cell.mean) for cell in arm.curve_at("10 a class")] == [
        (220, pytest.approx(0.7)), (270, pytest.approx(0.8)), (370, pytest.approx(0.8))]  # fmt: skip
    assert quality(comparison) == {"task-oriented": {"10 a class": [0.8]}}
    assert comparison.total.seconds == 100 + 50 + 200 + 3 * 20


def test_kept_checkpoints_alone_are_compared_by_compute(runs: Runs, tmp_path: Path) -> None:
    start = runs.pretrain("p")
    kept = [runs.write(f"p/checkpoints/step-{step:08d}", {"verb": "pretrain", "method": "dino", "seed": 0}, None, step)
            for step in (200, 400)]  # fmt: skip
    tuned = tuple(str(runs.finetune(f"ft-{path.name}", path, value=0.5)) for path in kept)
    result = compare(CompareConfig(runs=tuned, out=str(tmp_path / "report")))
    (arm,) = result.comparison.arms
    assert (arm.cells, len(arm.curve)) == ({}, 2)
    assert sorted(Path(path).name for path in result.files if path.endswith(".png")) == ["accuracy-by-compute.png"]
    assert start.is_dir()


def test_moved_runs_are_found_by_the_hash_of_their_weights(runs: Runs, tmp_path: Path) -> None:
    oriented(runs)
    shutil.move(runs.root, tmp_path / "elsewhere")
    shutil.move(tmp_path / "elsewhere" / "a-teacher", tmp_path / "elsewhere" / "renamed")
    comparison = gathered(Runs(tmp_path / "elsewhere"))
    assert quality(comparison) == {"task-oriented": {"10 a class": [0.7]}}
    assert comparison.total.seconds == 370


@pytest.mark.parametrize(
    ("lost", "missing"),
    [("a-student", {"a-student"}), ("a-teacher", {"a-teacher"}), ("a.zarr.runs.jsonl", {"a.zarr"}),
     ("a-student/cost.json", {"a-student"})],
)  # fmt: skip
def test_what_is_not_here_makes_the_cost_unknown(runs: Runs, lost: str, missing: set[str]) -> None:
    oriented(runs)
    path = runs.root / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    comparison = gathered(runs)
    cell = comparison.arms[0].cells["10 a class"]
    assert (cell.seconds, cell.spent[0].missing) == (None, missing)
    assert comparison.total.seconds is None


def test_a_run_log_counts_for_the_store_that_lies_there_now(runs: Runs) -> None:
    oriented(runs)
    log = runs.root / "a.zarr.runs.jsonl"
    former = {"verb": "build", "plan_digest": "0" * 64, "seconds": 1000.0, "device": "cpu"}
    log.write_text(f"{json.dumps(former)}\n[1]\n{log.read_text()}{{")
    assert gathered(runs).arms[0].cells["10 a class"].by_stage()["build"] == 50


def test_a_part_of_a_store_costs_what_the_whole_did_and_both_once(runs: Runs) -> None:
    """Copies and parts have the whole's records, but for the plan that those lie beside."""
    teacher = runs.adapt("teacher")
    for name, views in (("whole.zarr", 4), ("part.zarr", 2)):
        runs.finetune(f"{name}-ft", runs.distill(f"{name}-student", runs.store(name, teacher, views=views)),
                      value=0.5)  # fmt: skip
    log, whole = (runs.root / f"{name}.zarr.runs.jsonl" for name in ("part", "whole"))
    own = json.loads(log.read_text().splitlines()[0])["plan_digest"]
    lines = [json.loads(line) | {"plan_digest": own} for line in whole.read_text().splitlines()]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    comparison = gathered(runs)
    assert [arm.cells["10 a class"].seconds for arm in comparison.arms] == [370, 370]
    assert comparison.total.seconds == 370 + 200 + 20


def test_lines_without_a_digest_are_of_former_versions_and_count(runs: Runs) -> None:
    oriented(runs)
    log = runs.root / "a.zarr.runs.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    for line in lines:
        del line["plan_digest"]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert gathered(runs).arms[0].cells["10 a class"].by_stage()["build"] == 50


def test_both_stores_of_a_pair_are_paid(runs: Runs) -> None:
    teacher = runs.adapt("pair")
    images, texts = runs.store("i.zarr", teacher, seconds=50), runs.store("t.zarr", teacher, seconds=7, views=1)
    runs.finetune("ft", runs.clip_affinity("p", images, texts), value=0.5)
    (cell,) = gathered(runs).arms[0].cells.values()
    assert cell.by_stage() == {"adapt": 100, "build": 57, "pretrain": 900, "finetune": 20}
    shutil.rmtree(texts)
    (cell,) = gathered(runs).arms[0].cells.values()
    assert (cell.seconds, cell.spent[0].missing) == (None, {"the store of captions of web"})


def test_all_teachers_and_stores_of_an_ensemble_are_paid(runs: Runs) -> None:
    first, second = (runs.store(f"{name}.zarr", runs.adapt(name)) for name in ("one", "two"))
    student = runs.distill("student", first, others=[second])
    runs.finetune("ft", student, value=0.5)
    (cell,) = gathered(runs).arms[0].cells.values()
    assert cell.by_stage() == {"adapt": 200, "build": 100, "distill": 200, "finetune": 20}
    shutil.rmtree(second)
    (cell,) = gathered(runs).arms[0].cells.values()
    assert (cell.seconds, cell.spent[0].missing) == (None, {"the store of web"})


TIMM, CLIP = "vit_small_patch14_dinov2.lvd142m", "open_clip:ViT-B-16/datacomp_xl_s13b_b90k"


@pytest.mark.parametrize(
    ("name", "architecture", "is_free"),
    [
        (TIMM, "vit_small_patch14_dinov2", True),
        (CLIP, CLIP, True),
        ("vit_small_patch14_dinov2.mine", "vit_small_patch14_dinov2", False),
        (TIMM, "fastvit_t8", False),
        ("open_clip:ViT-B-16", "open_clip:ViT-B-16", False),
        ("lost", "vit_small", False),
    ],
)
def test_published_names_cost_nothing_and_others_are_unknown(
    runs: Runs, name: str, architecture: str, is_free: bool
) -> None:
    store = runs.store("s.zarr", {"name": name, "architecture": architecture, "weights_sha256": "1" * 64})
    runs.finetune("ft", runs.distill("d", store, loss="cosine"), value=0.5)
    (cell,) = gathered(runs).arms[0].cells.values()
    assert cell.seconds == (270 if is_free else None)
    assert cell.spent[0].missing == (set() if is_free else {name})


@pytest.mark.parametrize("kind", ["published", "other weights", "trained"])
def test_a_folder_is_published_where_it_has_these_weights_and_nobody_trained_them(runs: Runs, kind: str) -> None:
    model = runs.published("vfm")
    store = runs.store("s.zarr", model)
    info = json.loads((model / "model.json").read_text())
    if kind == "other weights":
        info["provenance"]["weights_sha256"] = "0" * 64
    if kind == "trained":
        info["provenance"]["training"] = {"verb": "adapt"}
    place = runs.root / "vfm"
    place.mkdir()
    (place / "model.json").write_text(json.dumps(info))
    runs.finetune("ft", runs.distill("d", store, loss="cosine"), value=0.5)
    (cell,) = gathered(runs).arms[0].cells.values()
    assert cell.spent[0].missing == (set() if kind == "published" else {"vfm"})


@pytest.mark.parametrize(
    ("teacher", "student", "num_images", "name"),
    [
        ({"shots": 5}, {"shots": 5}, 15, "5 a class"),
        ({"shots": 100}, {"shots": 5}, 300, "5 a class (teacher 100)"),
        ({"shots": 5}, {"shots": 100}, 300, "100 a class"),
        ({"shots": 100}, {"shots": 5, "data": "flowers"}, 15, "5 a class"),
    ],
    ids=["equal", "more of the teacher", "more of the student", "another task"],
)
def test_labels_are_those_of_all_that_a_run_came_from(
    runs: Runs, teacher: dict[str, Any], student: dict[str, Any], num_images: int, name: str
) -> None:
    distilled = runs.distill("d", runs.store("s.zarr", runs.adapt("t", **teacher)))
    runs.finetune("ft", distilled, value=0.5, **student)
    (arm,) = gathered(runs).arms
    assert [(cell.budget.name, cell.num_labels) for cell in arm.cells.values()] == [(name, num_images)]


def test_only_figures_of_the_same_images_stand_beside_each_other(runs: Runs) -> None:
    for seed, images in enumerate(("a" * 64, "a" * 64, "b" * 64, None)):
        runs.measure(runs.finetune(f"s{seed}", seed=seed), 0.5, num_images=500, images=images)
    runs.measure(runs.finetune("few", seed=9), 0.9, num_images=20)
    comparison = gathered(runs)
    assert comparison.arms[0].cells["10 a class"].seeds == [0, 1, 3]
    assert comparison.to_json()["task"]["num_images"] == 500
    assert dict(comparison.skipped) == {
        "s2": "measured on 500 other images of colours, split test, not on the same 500",
        "few": "measured on 20 other images of colours, split test, not on the same 500",
    }


def test_weights_that_were_trained_anew_are_no_ancestors_and_not_measured(runs: Runs) -> None:
    oriented(runs)
    runs.adapt("a-teacher", shots=11)
    runs.finetune("stale", value=0.3)
    runs.finetune("stale", shots=12)
    comparison = gathered(runs)
    assert comparison.arms[0].cells["10 a class"].spent[0].missing == {"a-teacher"}
    assert [name for name, reason in comparison.skipped if reason.startswith("not measured")] == ["a-teacher", "stale"]


def test_what_cannot_be_compared_is_listed(runs: Runs) -> None:
    runs.finetune("good", value=0.5)
    runs.finetune("other", value=0.5, data="flowers")
    (runs.finetune("stopped", value=0.5) / "result.json").unlink()
    (runs.finetune("torn", value=0.5) / "model.json").write_text("{")
    (runs.root / "photos").mkdir()
    (runs.root / "notes.txt").write_text("mine")
    runs.finetune("unmeasured")
    assert dict(gathered(runs, data="colours").skipped) == {
        "photos": "no run directory",
        "stopped": "not finished: type its command with --resume",
        "torn": "model.json cannot be read",
        "other": "measured on flowers, split test, not on colours, split test",
        "unmeasured": f"not measured: type train evaluate --model {runs.root / 'unmeasured'} --split test "
                      "--data PLACE, where the images of 'colours' lie",
    }


@pytest.mark.parametrize(
    ("known_by", "place"),
    [("evaluation", "other photos/colours"), ("training", "other photos/colours"), ("name", "colours")],
)
@pytest.mark.parametrize(
    ("subset", "options"),
    [("", ""), ("first-100", "--limit 100 "), ("2-a-class-seed-3-48px", "--shots 2 --seed 3 --image-size 48 ")],
)
def test_a_run_that_was_not_measured_comes_with_the_command_that_measures_it(
    runs: Runs, known_by: str, place: str, subset: str, options: str
) -> None:
    """The run as it was typed; the data by what leads there from here."""
    Path(place).mkdir(parents=True)
    trained = {"evaluation": "gone/colours", "training": place, "name": "gone/colours"}[known_by]
    (runs.finetune("good", lr=1) / "config.json").write_text(json.dumps({"verb": "finetune", "data": trained}))
    runs.measure(runs.root / "good", 0.5, subset=subset, location=place if known_by == "evaluation" else None)
    runs.finetune("my run", seed=1)
    comparison = gather(CompareConfig(runs=("runs/good", "runs/my run")))
    quoted = f"'{place}'" if " " in place else place
    said = f"train evaluate --model 'runs/my run' --split test {options}--data {quoted}"
    assert dict(comparison.skipped) == {"my run": f"not measured: type {said}"}


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("model.json", "[]", "model.json has no architecture"),
        ("model.json", '{"architecture": "fastvit_t8"}', "model.json has no image_size"),
        ("cost.json", '{"parts": {}}', "cost.json has no seconds"),
        ("cost.json", "[1]", "cost.json has no seconds"),
        ("evaluation-colours-test.json", '{"data": "colours", "split": "test", "subset": "", "weights_sha256": null, '
         '"result": {"num_images": 3, "accuracy": 1}}', "not measured"),
        ("evaluation-colours-test.json", '{"data": null, "split": "test", "subset": "", "weights_sha256": null, '
         '"result": {"task": "classification", "num_images": 3, "accuracy": 1}}', "not measured"),
        ("evaluation-colours-test.json", "[]", "not measured"),
    ],
)  # fmt: skip
def test_a_file_of_another_shape_is_listed(runs: Runs, file: str, content: str, reason: str) -> None:
    runs.finetune("good", value=0.5)
    (runs.finetune("bad", value=0.5, seed=1) / file).write_text(content)
    comparison = gathered(runs)
    assert comparison.num_runs == 1
    ((name, why),) = comparison.skipped
    assert (name, why[: len(reason)]) == ("bad", reason)


@pytest.mark.parametrize(
    "training", [{"store": "x", "before": [1]}, {"num_images": None, "seed": "one"}, {"store": {"teacher": None}}]
)
def test_a_training_of_another_shape_is_compared_as_far_as_it_goes(runs: Runs, training: dict[str, Any]) -> None:
    path = runs.finetune("odd")
    info = json.loads((path / "model.json").read_text())
    info["provenance"]["training"] |= training
    (path / "model.json").write_text(json.dumps(info))
    runs.measure(path, 0.5)
    assert gathered(runs).num_runs == 1


def test_a_cost_without_devices_is_a_cost(runs: Runs) -> None:
    (runs.finetune("a", value=0.5) / "cost.json").write_text('{"seconds": 3, "parts": {"train": 1}}')
    assert gathered(runs).arms[0].cells["10 a class"].seconds == 3


def test_the_task_is_the_one_of_most_runs(runs: Runs) -> None:
    for name, data in (("a", "colours"), ("b", "flowers"), ("c", "flowers")):
        runs.finetune(name, value=0.5, data=data, seed=ord(name))
    assert gathered(runs).target.data == "flowers"
    assert gathered(runs, data="colours").num_runs == 1


@pytest.mark.parametrize("how", ["group_by", "label"])
def test_runs_that_nothing_tells_apart_are_named_or_grouped(runs: Runs, how: str) -> None:
    for name, lr in (("slow", 1e-4), ("fast", 1e-3)):
        runs.finetune(name, value=0.5, lr=[lr])
    with pytest.raises(DataError, match=r"fast and slow are both 'from scratch' with 10 a class and seed 0: "
                                        r"type --group-by method,lr, or name them by --label 'slow=NAME'"):  # fmt: skip
        gathered(runs)
    options = {"group_by": ("method", "lr")} if how == "group_by" else {"label": ("s*=at 1e-4",)}
    expected = {"group_by": {"from scratch, lr [0.0001]", "from scratch, lr [0.001]"},
                "label": {"from scratch", "at 1e-4"}}  # fmt: skip
    assert quality(gathered(runs, **options)).keys() == expected[how]


def test_arms_may_be_grouped_by_what_they_came_from(runs: Runs) -> None:
    for steps in (100, 400):
        store = runs.store(f"{steps}.zarr", runs.adapt(f"t-{steps}", seed=steps))
        runs.finetune(f"ft-{steps}", runs.distill(f"d-{steps}", store, steps=steps), value=0.5)
    assert quality(gathered(runs, group_by=("distill.steps",))).keys() == {"distill.steps 100", "distill.steps 400"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_by": ("colour",)}, "unknown facet 'colour'"),
        ({"label": ("crops",)}, "--label takes PATTERN=NAME"),
        ({"split": "val"}, "no run was measured on anything, split val, but on colours, split test: type --data"),
        ({"data": "birds"}, "no run was measured on birds, split test, but on colours, split test"),
    ],
)
def test_bad_options_are_one_line(runs: Runs, options: dict[str, Any], message: str) -> None:
    runs.finetune("s", value=0.5)
    with pytest.raises(ReinforceError, match=message) as failure:
        gathered(runs, **options)
    assert "\n" not in str(failure.value)


def test_nothing_comparable_is_one_line(runs: Runs) -> None:
    runs.finetune("s")
    with pytest.raises(DataError, match=r"none of the 1 run was measured: type train evaluate --model .*/s --data D"):
        gathered(runs)
    (runs.root / "s" / "result.json").unlink()
    with pytest.raises(DataError, match=r"none of the 1 folder is a finished run \(s: not finished"):
        gathered(runs)


def report(runs: Runs, **options: Any) -> CompareResult:
    return compare(CompareConfig(runs=tuple(str(path) for path in runs.root.iterdir()), **options))


def test_the_report_is_whole_and_not_replaced_silently(runs: Runs, tmp_path: Path) -> None:
    oriented(runs)
    runs.finetune("scratch", value=0.4)
    out = tmp_path / "out" / "report"
    result = report(runs, out=str(out))
    plots = {"accuracy-by-compute.png", "accuracy-by-labels.png"}
    assert {path.name for path in out.iterdir()} == {"comparison.html", "comparison.json", "comparison.md", *plots}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in out.glob("*.png"))
    assert json.loads((out / "comparison.json").read_text()) == result.comparison.to_json()
    assert "| task-oriented | 70.0 |" in (out / "comparison.md").read_text()
    with pytest.raises(OutputExistsError, match="--overwrite"):
        report(runs, out=str(out))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    report(runs, out=str(out), overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(UsageError, match="is a file"):
        report(runs, out=str(out / "comparison.md"))


def test_masks_are_compared_by_mean_iou(runs: Runs, tmp_path: Path) -> None:
    runs.measure(runs.finetune("a"), 0.3, task="segmentation")
    result = report(runs, out=str(tmp_path / "report"))
    assert (tmp_path / "report" / "mean-iou-by-labels.png").exists()
    assert "mean IoU in % on colours" in str(result)


def test_the_page_loads_nothing_and_escapes_names(runs: Runs, tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>"
    runs.finetune("a", value=0.4)
    report(runs, out=str(tmp_path / "report"), label=(f"a={hostile}",))
    page = (tmp_path / "report" / "comparison.html").read_text()
    assert hostile not in page
    assert "&lt;script&gt;" in page
    for word in ("<script", "<link", "src=", "http://", "https://", "@import"):
        assert word not in page.replace("http://www.w3.org", "")


def test_the_command_prints_tables_or_one_json(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    runs.finetune("a", value=0.4, seed=0)
    runs.finetune("b", value=0.5, seed=1)
    arguments = ["compare", *map(str, runs.root.iterdir())]
    assert run_group(train.cli.command, arguments) == 0
    said = capsys.readouterr().out
    assert "from scratch  45.0 ± 7.1" in said
    assert "report/comparison.html" in said
    assert run_group(train.cli.command, [*arguments, "--json", "--overwrite"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["arms"][0]["results"][0]["mean"] == pytest.approx(0.45)
    assert run_group(train.cli.command, ["compare"]) == 2


def test_wrong_runs_are_named_before_a_report_that_exists(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "comparison.html").write_text("of yesterday")
    with pytest.raises(DataError, match="no run directory"):
        compare(CompareConfig(runs=(str(tmp_path / "runz"),), out=str(tmp_path / "report")))
    assert (tmp_path / "report" / "comparison.html").read_text() == "of yesterday"
