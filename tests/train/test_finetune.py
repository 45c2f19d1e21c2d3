"""finetune and evaluate, whole: from scratch to accuracy, exact resume, several learning rates, refusals."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from other_orders import write_in_other_order
from stopping import stop_at_load

from reinforce.errors import ModelError, OutputExistsError, UnknownNameError, UsageError
from reinforce.models.directory import read_info
from train.evaluate import EvaluateConfig, EvaluateResult, evaluate
from train.finetune import FinetuneConfig, finetune
from train.labelled import TrainingViews
from train.loop import TrainingStoppedError
from train.results import LabelledResult


def config(data: Path, out: Path, **changes: Any) -> FinetuneConfig:
    defaults: dict[str, Any] = {"model": "test_vit", "image_size": 32, "lr": (3e-3,), "steps": 12, "batch_size": 12,
                                "policy": "crops", "precision": "fp32", "log_every": 3, "quiet": True}  # fmt: skip
    return FinetuneConfig(data=str(data), out=str(out), **(defaults | changes))


def run(data: Path, out: Path, **changes: Any) -> LabelledResult:
    result = finetune(config(data, out, **changes))
    assert isinstance(result, LabelledResult)
    return result


def curve(out: Path) -> list[dict[str, Any]]:
    timed = ("images_per_second", "data_wait", "seconds")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in timed} for line in lines]


def test_from_scratch_to_accuracy(colours: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "student"
    result = run(colours, out, steps=40)
    assert result.val_accuracy is not None
    assert result.val_accuracy > 0.9
    assert (result.num_train_images, result.num_val_images, result.num_skipped) == (24, 12, 0)
    assert str(result).endswith(f"next: train evaluate --model {out} --data {colours}")
    assert {p.name for p in out.iterdir()} == {"checkpoints", "config.json", "cost.json", "metrics.jsonl", "model.json",
                                               "model.safetensors", "report.html", "result.json"}  # fmt: skip
    measured = evaluate(EvaluateConfig(model=str(out), data=str(colours), quiet=True))
    assert measured.accuracy > 0.9
    assert measured.to_json().keys() == {"task", "split", "num_images", "accuracy", "confidence_interval"}
    assert (measured.task, measured.split, measured.num_images) == ("classification", "test", 15)


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({"shots": 9}, "--shots 9: class 'blue' has only 8 (3 classes have too few)"),
        ({"num_labelled": 30}, "--num-labelled 30: there are only 24 labelled images"),
        ({"shots": 8}, ""),
        ({"num_labelled": 24}, ""),
    ],
)
def test_fewer_labels_than_asked_for_are_said(
    asked: dict[str, int], line: str, colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finetune(config(colours, tmp_path / "run", dry_run=True, **asked))
    assert capsys.readouterr().err == (f"warning: {line}: all of them are trained on\n" if line else "")


def test_the_written_model_loads_in_timm_alone(colours: Path, tmp_path: Path) -> None:
    run(colours, tmp_path / "run", model="test_efficientnet", steps=2)
    info = json.loads((tmp_path / "run" / "model.json").read_text())
    weights = str(tmp_path / "run" / "model.safetensors")
    model = timm.create_model(info["architecture"], num_classes=3, checkpoint_path=weights)
    assert model.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert info["class_names"] == ["blue", "green", "red"]
    assert info["provenance"]["training"]["verb"] == "finetune"
    assert info["metrics"].keys() == {"val_accuracy", "val_loss"}


@pytest.mark.parametrize("model", ["fastvit_t8", "mobilevitv2_050"])
def test_students_by_name(model: str, colours: Path, tmp_path: Path) -> None:
    result = run(colours, tmp_path / "run", model=model, steps=2, batch_size=4, limit=4, val_limit=3)
    assert result.val_accuracy is not None


@pytest.mark.parametrize("stop_at", [4, 7])
def test_stop_and_resume_is_the_uninterrupted_run(stop_at: int, colours: Path, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    whole = run(colours, tmp_path / "whole")
    stop_at_load(monkeypatch, TrainingViews, stop_at)
    with pytest.raises(TrainingStoppedError, match=f"stopped at step {stop_at} of 12"):
        run(colours, tmp_path / "stopped")
    resumed = run(colours, tmp_path / "stopped", resume=True)
    assert curve(tmp_path / "stopped") == curve(tmp_path / "whole")
    assert resumed.trials == whole.trials
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("stopped", "whole")]
    assert weights[0] == weights[1]


def test_several_learning_rates_keep_the_best(colours: Path, tmp_path: Path) -> None:
    result = run(colours, tmp_path / "run", lr=(1e-7, 3e-3), steps=30)
    assert result.lr == 3e-3
    assert [trial["lr"] for trial in result.trials] == [3e-3, 1e-7]
    assert {line["trial"] for line in curve(tmp_path / "run")} == {"full-lr1e-07", "full-lr0.003"}
    folder = tmp_path / "run" / "checkpoints"
    kept = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.pt"))
    assert kept == ["full-lr0.003/best.pt", "full-lr0.003/last.pt"]


def test_a_diverging_learning_rate_does_not_end_the_others(colours: Path, tmp_path: Path) -> None:
    result = run(colours, tmp_path / "run", lr=(1e30, 1e-3), steps=4, log_every=1, model="test_efficientnet")
    assert result.lr == 1e-3
    assert result.trials[-1]["accuracy"] == -1


def test_resume_of_a_finished_run_returns_its_result(colours: Path, tmp_path: Path) -> None:
    first = run(colours, tmp_path / "run", steps=2)
    before = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    assert run(colours, tmp_path / "run", steps=2, resume=True) == first
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == before


def test_finetuning_goes_on_from_a_run(colours: Path, tmp_path: Path) -> None:
    run(colours, tmp_path / "first", steps=3)
    run(colours, tmp_path / "second", model=str(tmp_path / "first"), image_size=None, steps=1, lr=(1e-9,), ema=0.0)
    first, second = ((tmp_path / name / "checkpoints/full-lr0.003/best.pt") for name in ("first", "second"))
    training = json.loads((tmp_path / "second" / "model.json").read_text())["provenance"]["training"]
    assert training["before"]["lr"] == 3e-3
    assert first.exists()
    assert not second.exists()


def test_dry_run_writes_nothing(colours: Path, tmp_path: Path) -> None:
    plan = finetune(config(colours, tmp_path / "run", dry_run=True, shots=2, mode="best"))
    assert isinstance(plan, dict)
    probes = [f"linear-probe-lr{lr}" for lr in (0.0003, 0.001, 0.003)]
    assert plan["trials"] == [*probes, "full-lr0.003"]
    assert plan["num_train_images"] == 6
    assert not (tmp_path / "run").exists()


def test_bad_images_are_skipped_and_counted(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "val", "test"):
        (colours / split / "blue" / f"{split}-blue-0.png").write_bytes(b"junk")
    result = run(colours, tmp_path / "run", steps=3, quiet=False)
    assert result.num_skipped == 2
    assert capsys.readouterr().err.count("warning: skipped ") == 2
    measured = evaluate(EvaluateConfig(model=str(tmp_path / "run"), data=str(colours)))
    assert (measured.num_images, measured.num_skipped) == (14, 1)
    assert measured.to_json()["num_skipped"] == 1
    assert "warning: skipped test/blue/test-blue-0.png" in capsys.readouterr().err


def test_an_existing_run_is_not_overwritten(colours: Path, tmp_path: Path) -> None:
    run(colours, tmp_path / "run", steps=1)
    with pytest.raises(OutputExistsError):
        run(colours, tmp_path / "run", steps=1)
    run(colours, tmp_path / "run", steps=1, overwrite=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "segmentation"}, "--policy is crops: it must be one of segmentation, segmentation-crops, whole"),
        ({"policy": "whole"}, "--policy is whole: it must be one of classification"),
        ({"head": "linear"}, "--head linear is of segmentation: type --task segmentation"),
        ({"epochs": 1, "steps": 1}, "--epochs and --steps exclude each other"),
        ({"shots": 1, "num_labelled": 1}, "--shots and --num-labelled exclude each other"),
        ({"lr": (0.0,)}, "--lr is"),
        ({"ema": 1.0}, "--ema is 1.0"),
        ({"crop_scale": (0.9, 0.2)}, "--crop-scale is"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"warmup": 1.5}, "--warmup is 1.5"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_wrong_options_are_one_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        config(tmp_path, tmp_path / "run", **changes)


def test_unknown_names_are_one_line(colours: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="fastvit_t8"):
        run(colours, tmp_path / "run", model="fastvit_t88")
    with pytest.raises(UnknownNameError, match="nothere"):
        finetune(FinetuneConfig(data="nothere", out="x", model="fastvit_t8"))
    with pytest.raises(UsageError, match="--device is tpu"):
        run(colours, tmp_path / "run2", device="tpu")


class TestEvaluate:
    @pytest.fixture
    def student(self, colours: Path, tmp_path: Path) -> str:
        run(colours, tmp_path / "student", steps=1)
        return str(tmp_path / "student")

    @pytest.fixture
    def taught(self, colours: Path, tmp_path: Path) -> str:
        """It knows the colours, but not all of them."""
        run(colours, tmp_path / "taught", steps=8)
        return str(tmp_path / "taught")

    def measure(self, model: str, data: Path, **changes: Any) -> EvaluateResult:
        return evaluate(EvaluateConfig(model=model, data=str(data), quiet=True, **changes))

    def test_subsets(self, student: str, colours: Path) -> None:
        assert self.measure(student, colours, split="train", shots=2).num_images == 6
        assert self.measure(student, colours, limit=4).num_images == 4

    def test_batch_size_and_workers_change_nothing(self, student: str, colours: Path) -> None:
        assert self.measure(student, colours, batch_size=4) == self.measure(student, colours, batch_size=15)

    def test_a_folder_of_test_images_alone(self, student: str, colours: Path) -> None:
        whole = self.measure(student, colours)
        for split in ("train", "val"):
            shutil.rmtree(colours / split)
        assert self.measure(student, colours) == whole

    def test_unknown_split(self, student: str, colours: Path) -> None:
        with pytest.raises(UnknownNameError, match="tset"):
            self.measure(student, colours, split="tset")

    def test_other_classes(self, student: str, colours: Path) -> None:
        for split in ("train", "val", "test"):
            (colours / split / "red").rename(colours / split / "yellow")
        with pytest.raises(UsageError, match=r"; only .*student has 'red'; only the data has 'yellow': cho"):
            self.measure(student, colours)

    def test_the_same_classes_in_another_order_are_matched_by_name(
        self, taught: str, colours: Path, tmp_path: Path
    ) -> None:
        """Accuracy, confusions and the kept figures are those of the model with its classes as the data has them."""
        write_in_other_order(Path(taught), tmp_path / "other", [2, 0, 1])
        page, other_page = tmp_path / "a.html", tmp_path / "b.html"
        own = self.measure(taught, colours, html=str(page))
        other = self.measure(str(tmp_path / "other"), colours, html=str(other_page))
        assert own.accuracy > 0.5
        said = "other has its classes in another order than the data: matched by name"
        assert said in str(other).splitlines()
        assert other.to_json() == {**own.to_json(), "html": str(other_page), "matched_by_name": ["other"]}
        table = re.compile(r"<h2 id=.classes.*", re.DOTALL)
        tables = [match[0] for one in (page, other_page) if (match := table.search(one.read_text()))]
        assert tables[1].replace("</span>other.", "</span>taught.") == tables[0]
        assert said in other_page.read_text()
        assert "matched" not in str(own) + page.read_text()

    def test_a_second_model_is_matched_by_name_too(self, taught: str, colours: Path, tmp_path: Path) -> None:
        write_in_other_order(Path(taught), tmp_path / "other", [2, 0, 1])
        page = tmp_path / "page.html"
        measured = self.measure(taught, colours, teacher=str(tmp_path / "other"), html=str(page))
        assert "other has its classes" in str(measured)
        assert re.search(r"100\.0 %</?\w", page.read_text())
        assert "matched by name" in page.read_text()

    def test_finetuning_begins_with_the_head_in_the_order_of_the_data(
        self, taught: str, colours: Path, tmp_path: Path
    ) -> None:
        write_in_other_order(Path(taught), tmp_path / "other", [2, 0, 1])
        run(colours, tmp_path / "again", model=str(tmp_path / "other"), image_size=None, steps=1, lr=(1e-9,), ema=0.0)
        assert read_info(tmp_path / "again").class_names == ("blue", "green", "red")
        assert self.measure(str(tmp_path / "again"), colours).accuracy == self.measure(taught, colours).accuracy

    def test_other_number_of_classes(self, student: str, colours: Path) -> None:
        for split in ("train", "val", "test"):
            (colours / split / "red").rename(colours / split / "green" / "red")
        with pytest.raises(UsageError, match=r"knows 3 classes, the data has 2; only .*student has 'red': cho"):
            self.measure(student, colours)

    def test_a_model_without_a_head(self, colours: Path) -> None:
        with pytest.raises(ModelError, match="no classifier to evaluate"):
            self.measure("test_vit", colours)


def test_a_run_never_writes_over_the_model_it_starts_from(colours: Path, tmp_path: Path) -> None:
    config = {"model": "test_vit", "data": str(colours), "steps": 1, "image_size": 32, "lr": (1e-3,), "quiet": True}
    finetune(FinetuneConfig(**config, out="mine"))  # type: ignore[arg-type]
    before = (tmp_path / "mine" / "model.safetensors").read_bytes()
    with pytest.raises(UsageError, match="starts from"):
        finetune(FinetuneConfig(**(config | {"model": "mine"}), out="mine", overwrite=True))  # type: ignore[arg-type]
    (tmp_path / "mine" / "config.json").unlink()
    with pytest.raises(UsageError, match="no run directory"):
        finetune(FinetuneConfig(**config, out="mine", resume=True))  # type: ignore[arg-type]
    assert (tmp_path / "mine" / "model.safetensors").read_bytes() == before
