"""adapt, finetune and evaluate for masks, whole: from scratch to mean IoU, frozen encoders, exact resume, refusals."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from other_orders import write_in_other_order
from PIL import Image
from stopping import stop_at_load

from reinforce import catalog
from reinforce.errors import DataError, ModelError, UnknownNameError, UsageError
from reinforce.models import SegmentationModel, create_model, load_model, save_model
from train import map_probe
from train.adapt import AdaptConfig, adapt
from train.batches import SkippedImages
from train.evaluate import EvaluateConfig, SegmentationResult, evaluate
from train.finetune import FinetuneConfig, finetune
from train.loop import TrainingStoppedError
from train.masked import MaskedTrainingViews
from train.results import LabelledResult
from train.segmentation import Segmentation
from train.students import make_model
from train.tasks import Bench
from train.world import World

NAMES = ("ground", "red", "blue")


def config(data: Path, out: Path, **changes: Any) -> FinetuneConfig:
    defaults: dict[str, Any] = {"model": "test_vit", "image_size": 32, "lr": (3e-3,), "steps": 12, "batch_size": 6,
                                "task": "segmentation", "head": "linear", "policy": "segmentation-crops",
                                "precision": "fp32", "log_every": 3, "quiet": True}  # fmt: skip
    return FinetuneConfig(data=str(data), out=str(out), **(defaults | changes))


def run(data: Path, out: Path, **changes: Any) -> LabelledResult:
    result = finetune(config(data, out, **changes))
    assert isinstance(result, LabelledResult)
    return result


def adapted(data: Path, out: Path, **changes: Any) -> LabelledResult:
    given = {name: value for name, value in vars(config(data, out)).items() if name not in ("mode", "lr", "steps")}
    result = adapt(AdaptConfig(**(given | {"mode": "linear-probe", "probe_views": 2} | changes)))
    assert isinstance(result, LabelledResult)
    return result


def measure(model: Path | str, data: Path, **changes: Any) -> SegmentationResult:
    result = evaluate(EvaluateConfig(model=str(model), data=str(data), quiet=True, **changes))
    assert isinstance(result, SegmentationResult)
    return result


def curve(out: Path) -> list[dict[str, Any]]:
    timed = ("images_per_second", "data_wait", "seconds")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in timed} for line in lines]


def same_model(a: Path, b: Path) -> bool:
    names = ("model.safetensors", "extra.safetensors")
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in names)


class TestFinetune:
    def test_from_scratch_to_mean_iou(self, scenes: Path, tmp_path: Path) -> None:
        out = tmp_path / "runs" / "student"
        result = run(scenes, out, steps=60)
        assert (result.num_train_images, result.num_val_images, result.num_skipped) == (12, 4, 0)
        assert result.val_mean_iou is not None
        assert result.val_mean_iou > 0.6
        assert f"validation mean IoU {result.val_mean_iou:.2%} on 4 images" in str(result)
        assert result.to_json()["val_mean_iou"] == result.val_mean_iou
        assert "val_accuracy" not in result.to_json()
        assert result.trials[0].keys() == {"mode", "lr", "step", "num_trained", "mean_iou", "loss"}
        _, info = load_model(out)
        assert (info.task, info.head, info.class_names) == ("segmentation", "linear", NAMES)
        assert info.metrics == {"val_mean_iou": result.val_mean_iou, "val_loss": result.trials[0]["loss"]}
        assert info.provenance["training"]["data"] == "scenes"
        best = max((line for line in curve(out) if "val_mean_iou" in line), key=lambda line: line["val_mean_iou"])
        assert best["val_mean_iou"] == result.val_mean_iou
        measured = measure(out, scenes, split="val", precision="fp32")
        assert measured.mean_iou == pytest.approx(result.val_mean_iou)

    def test_the_written_encoder_loads_in_timm_alone(self, scenes: Path, tmp_path: Path) -> None:
        run(scenes, tmp_path / "run", model="test_efficientnet", steps=2)
        weights = str(tmp_path / "run" / "model.safetensors")
        encoder = timm.create_model("test_efficientnet", num_classes=0, checkpoint_path=weights)
        ours = load_model(tmp_path / "run")[0]
        assert isinstance(ours, SegmentationModel)
        assert all(torch.equal(value, encoder.state_dict()[name]) for name, value in ours.encoder.state_dict().items())

    @pytest.mark.parametrize("head", ["deeplabv3", "linear"])
    @pytest.mark.parametrize("model", ["fastvit_t8", "mobilevitv2_050"])
    def test_students_by_name(self, model: str, head: str, scenes: Path, tmp_path: Path) -> None:
        result = run(scenes, tmp_path / "run", model=model, head=head, steps=1, batch_size=2, limit=2, val_limit=1)
        assert result.val_mean_iou is not None
        assert load_model(tmp_path / "run")[1].head == head

    @pytest.mark.parametrize("stop_at", [5, 7])
    def test_stop_and_resume_is_the_uninterrupted_run(self, stop_at: int, scenes: Path, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
        changes: dict[str, Any] = {"model": "test_efficientnet", "head": "deeplabv3", "policy": "segmentation"}
        whole = run(scenes, tmp_path / "whole", **changes)
        stop_at_load(monkeypatch, MaskedTrainingViews, stop_at)
        with pytest.raises(TrainingStoppedError, match=f"stopped at step {stop_at} of 12"):
            run(scenes, tmp_path / "stopped", **changes)
        resumed = run(scenes, tmp_path / "stopped", resume=True, **changes)
        assert curve(tmp_path / "stopped") == curve(tmp_path / "whole")
        assert resumed.trials == whole.trials
        assert same_model(tmp_path / "stopped", tmp_path / "whole")

    def test_few_labels(self, scenes: Path, tmp_path: Path) -> None:
        assert run(scenes, tmp_path / "run", num_labelled=4, steps=1).num_train_images == 4

    def test_finetuning_goes_on_from_a_run_with_its_head(self, scenes: Path, tmp_path: Path) -> None:
        run(scenes, tmp_path / "first", steps=3)
        run(scenes, tmp_path / "second", model=str(tmp_path / "first"), image_size=None, head=None, steps=1,
            lr=(1e-12,), ema=0.0)  # fmt: skip
        first, second = (load_model(tmp_path / name)[0].state_dict() for name in ("first", "second"))
        assert all(torch.allclose(second[name], value, atol=1e-6) for name, value in first.items())

    def test_a_bad_image_is_passed_over_and_counted(self, scenes: Path, tmp_path: Path) -> None:
        for split in ("train", "val", "test"):
            path = scenes / split / "images" / f"{split}-1.png"
            path.write_bytes(path.read_bytes()[:200])
        result = run(scenes, tmp_path / "run", steps=3)
        assert result.num_skipped == 2
        measured = measure(tmp_path / "run", scenes)
        assert (measured.num_images, measured.to_json()["num_skipped"]) == (4, 1)


class TestFrozenEncoder:
    @pytest.mark.parametrize("stored_bytes", [1 << 30, 0], ids=["stored maps", "encoder in each step"])
    def test_a_probe_changes_the_head_alone(self, stored_bytes: int, scenes: Path, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
        monkeypatch.setattr(map_probe, "STORED_BYTES", stored_bytes)
        run(scenes, tmp_path / "start", steps=1, lr=(1e-12,), ema=0.0)
        result = adapted(scenes, tmp_path / "probe", model=str(tmp_path / "start"), image_size=None, head=None,
                         steps=40, lr=(1e-2,))  # fmt: skip
        start, probe = (load_model(tmp_path / name)[0].state_dict() for name in ("start", "probe"))
        assert {name for name, value in probe.items() if not torch.equal(value, start[name])} == {
            "head.weight",
            "head.bias",
        }
        assert result.trials[0]["num_trained"] == probe["head.weight"].numel() + 3
        evaluations = [line["val_mean_iou"] for line in curve(tmp_path / "probe") if "val_mean_iou" in line]
        assert result.val_mean_iou == max(evaluations)
        assert max(evaluations) > evaluations[0]
        # the stored maps are rounded to float16: a pixel between two classes may change sides
        measured = measure(tmp_path / "probe", scenes, split="val", precision="fp32")
        assert measured.mean_iou == pytest.approx(result.val_mean_iou, abs=2e-3)

    def test_a_probe_of_deeplabv3(self, scenes: Path, tmp_path: Path) -> None:
        """Its batch statistics move, those of the encoder do not."""
        run(scenes, tmp_path / "start", model="test_efficientnet", head="deeplabv3", steps=1, lr=(1e-12,), ema=0.0)
        adapted(scenes, tmp_path / "probe", model=str(tmp_path / "start"), image_size=None, head=None, steps=2,
                lr=(1e-2,))  # fmt: skip
        start, probe = (load_model(tmp_path / name)[0].state_dict() for name in ("start", "probe"))
        changed = {name for name, value in probe.items() if not torch.equal(value, start[name])}
        assert {name.partition(".")[0] for name in changed} == {"head"}
        assert any("running_mean" in name for name in changed)

    @pytest.mark.parametrize(("room", "views"), [(100.0, 3), (2.2, 2), (1.1, 1), (0.9, 0)])
    def test_as_many_views_are_stored_as_memory_allows(self, room: float, views: int, scenes: Path, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
        """`room` in views of all training images."""
        options = config(scenes, tmp_path / "run", probe_views=2)
        task = Segmentation.open(options)
        model, info = make_model("test_vit", class_names=NAMES, image_size=32, seed=0, task="segmentation")
        assert isinstance(model, SegmentationModel)
        image_bytes = 2 * model.num_features * 4 * 4 + 32 * 32
        monkeypatch.setattr(map_probe, "STORED_BYTES", int((4 + 12 * room) * image_bytes))
        probe = task.probe(Bench(config=options, model=model, info=info, world=World(torch.device("cpu")), dtype=None,
                                 skipped=SkippedImages(), start=model.state_dict()))  # fmt: skip
        assert probe.num_views == views
        assert probe.reads_images == (views == 0)
        batch = probe.data.load(np.array([3, 1]), 5)
        expected = (2, 32, 32, 3) if views == 0 else (2, model.num_features, 4, 4)
        assert (tuple(batch.inputs.shape), tuple(batch.targets.shape)) == (expected, (2, 32, 32))

    def test_stored_maps_are_those_of_the_encoder(self, scenes: Path, tmp_path: Path) -> None:
        options = config(scenes, tmp_path / "run", probe_views=1)
        task = Segmentation.open(options)
        model, info = make_model("test_vit", class_names=NAMES, image_size=32, seed=0, task="segmentation")
        bench = Bench(config=options, model=model, info=info, world=World(torch.device("cpu")), dtype=None,
                      skipped=SkippedImages(), start=model.state_dict())  # fmt: skip
        probe = task.probe(bench)
        for epoch, policy, view in [(0, "whole", 0), (1, "segmentation-crops", 0), (2, "whole", 0)]:
            rows = np.array([7, 2])
            batch, shown = probe.data.load(rows, epoch), task.augmented(bench, policy).load(rows, view)
            assert torch.equal(batch.targets, shown.targets)
            assert probe.objective(model.head, batch).item() == pytest.approx(  # type: ignore[arg-type]
                task.objective(bench, model, shown).item(), rel=1e-3)  # fmt: skip

    def test_best_tries_both_ways_and_registers_the_name(self, scenes: Path, tmp_path: Path) -> None:
        result = adapted(scenes, tmp_path / "runs" / "dinov2-ft", mode="best", steps=4, lr=(1e-3,))
        assert {trial["mode"] for trial in result.trials} == {"linear-probe", "full"}
        assert catalog.resolve_model("dinov2-ft").path == str(tmp_path / "runs" / "dinov2-ft")
        assert str(result).endswith("next: reinforce build --teacher dinov2-ft --transfer IMAGES")
        assert measure("dinov2-ft", scenes).num_images == 5

    def test_resume_of_best_is_the_uninterrupted_run(self, scenes: Path, tmp_path: Path,
                                                     monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
        """Killed while the second kind of trial was being prepared."""
        changes: dict[str, Any] = {"mode": "best", "steps": 4, "lr": (1e-3,)}
        whole = adapted(scenes, tmp_path / "whole", **changes)

        def kill(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("train.supervised.Supervised._full_loop", kill)
            with pytest.raises(KeyboardInterrupt):
                adapted(scenes, tmp_path / "killed", **changes)
        resumed = adapted(scenes, tmp_path / "killed", resume=True, **changes)
        assert resumed.trials == whole.trials
        assert same_model(tmp_path / "killed", tmp_path / "whole")


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"shots": 2}, "--shots 2 counts images per class.*: type --num-labelled N"),
            ({"policy": "classification"}, "--policy is classification: it must be one of segmentation"),
            ({"crop_scale": (1.5, 0.5)}, "--crop-scale is"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_wrong_options_are_one_line(self, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=message):
            config(tmp_path, tmp_path / "run", **changes)

    def test_data_of_the_other_task(self, scenes: Path, colours: Path, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="type --task segmentation"):
            run(scenes, tmp_path / "run", task="classification", policy=None, head=None)
        with pytest.raises(DataError, match="images/ and masks/"):
            run(colours, tmp_path / "run")

    def test_a_batch_of_one_image_where_statistics_need_two(self, scenes: Path, tmp_path: Path) -> None:
        changes: dict[str, Any] = {"model": "test_efficientnet", "head": "deeplabv3", "batch_size": 1, "steps": 1}
        with pytest.raises(DataError, match=r"fewer than two images.*larger --batch-size"):
            run(scenes, tmp_path / "run", **changes)
        with pytest.raises(DataError, match="fewer than two images"):
            run(scenes, tmp_path / "run3", **changes | {"batch_size": 2, "num_labelled": 3})
        run(scenes, tmp_path / "vit", **changes | {"model": "test_vit", "head": "linear"})

    def test_a_size_that_has_no_map(self, scenes: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="--image-size"):
            run(scenes, tmp_path / "run", image_size=30)

    @pytest.mark.parametrize("split", ["train", "val"])
    def test_a_wrong_mask_is_named(self, split: str, scenes: Path, tmp_path: Path) -> None:
        Image.fromarray(np.full((30, 40), 3, np.uint8)).save(scenes / split / "masks" / f"{split}-2.png")
        with pytest.raises(DataError, match=rf"{split}-2\.png holds the value 3"):
            run(scenes, tmp_path / "run")


class TestEvaluate:
    @pytest.fixture
    def student(self, scenes: Path, tmp_path: Path) -> Path:
        run(scenes, tmp_path / "student", steps=1)
        return tmp_path / "student"

    def test_json(self, student: Path, scenes: Path) -> None:
        result = measure(student, scenes)
        found = json.loads(json.dumps(result.to_json()))
        assert found.keys() == {"task", "split", "num_images", "mean_iou", "iou", "confidence_interval",
                                "pixel_accuracy"}  # fmt: skip
        assert (found["task"], found["split"], found["num_images"]) == ("segmentation", "test", 5)
        assert tuple(found["iou"]) == NAMES
        present = [value for value in found["iou"].values() if value is not None]
        assert found["mean_iou"] == pytest.approx(sum(present) / len(present))
        low, high = found["confidence_interval"]
        assert 0 <= low <= high <= 1

    def test_a_model_that_is_always_right(self, scenes: Path, tmp_path: Path) -> None:
        """Masks of one class: a head of zeros with one bias answers them without an error, whatever the size."""
        for path in scenes.rglob("masks/*.png"):
            Image.fromarray(np.where(np.array(Image.open(path)) == 255, 255, 1).astype(np.uint8)).save(path)
        model, info = create_model("test_vit", class_names=NAMES, image_size=64, task="segmentation", head="linear")
        with torch.no_grad():
            for weights in model.head.parameters():  # type: ignore[union-attr]
                weights.zero_()
            model.head.bias[1] = 1  # type: ignore[union-attr, index, operator]
        save_model(tmp_path / "sure", model, info)
        result = measure(tmp_path / "sure", scenes)
        assert (result.mean_iou, result.pixel_accuracy) == (1, 1)
        assert result.iou == {"ground": None, "red": 1.0, "blue": None}
        assert "ground absent, red 100.0%, blue absent" in str(result)

    def test_batch_size_and_workers_change_nothing(self, student: Path, scenes: Path) -> None:
        assert measure(student, scenes, batch_size=2) == measure(student, scenes, batch_size=5)

    def test_subsets(self, student: Path, scenes: Path) -> None:
        assert measure(student, scenes, split="train", num_labelled=3).num_images == 3
        assert measure(student, scenes, limit=2).num_images == 2

    def test_a_folder_of_test_images_alone(self, student: Path, scenes: Path) -> None:
        whole = measure(student, scenes)
        for split in ("train", "val"):
            shutil.rmtree(scenes / split)
        assert measure(student, scenes) == whole

    def test_other_classes(self, student: Path, scenes: Path) -> None:
        (scenes / "classes.txt").write_text("ground\nred\nyellow\n")
        with pytest.raises(UsageError, match=r"; only .* has 'blue'; only the data has 'yellow': choose the data"):
            measure(student, scenes)
        (scenes / "classes.txt").write_text("ground\nred\nblue\nyellow\n")
        with pytest.raises(UsageError, match="knows 3 classes, the data has 4; only the data has 'yellow': choose"):
            measure(student, scenes)

    @pytest.mark.parametrize("head", ["linear", "deeplabv3"])
    def test_the_same_classes_in_another_order_are_matched_by_name(
        self, head: str, scenes: Path, tmp_path: Path
    ) -> None:
        """Some pixels are ignored in both."""
        run(scenes, tmp_path / "own", head=head, steps=20)
        write_in_other_order(tmp_path / "own", tmp_path / "other", [1, 2, 0])
        page, other_page = tmp_path / "a.html", tmp_path / "b.html"
        own = measure(tmp_path / "own", scenes, html=str(page))
        other = measure(tmp_path / "other", scenes, html=str(other_page))
        assert len({value for value in own.iou.values() if value}) > 1
        said = "other has its classes in another order than the data: matched by name"
        assert said in str(other).splitlines()
        assert said in other_page.read_text()
        assert other.to_json() == {**own.to_json(), "html": str(other_page), "matched_by_name": ["other"]}
        assert list(other.iou) == list(NAMES)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"shots": 1}, "--shots 1 counts images per class"),
            ({"task": "classification"}, "is a model of segmentation, not of classification: leave --task out"),
            ({"html": "student"}, "is a folder"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_wrong_options_are_one_line(self, changes: dict[str, Any], message: str, student: Path,
                                        scenes: Path) -> None:  # fmt: skip
        with pytest.raises(UsageError, match=message):
            measure(student, scenes, **changes)

    def test_a_model_of_the_other_task(self, scenes: Path, student: Path) -> None:
        with pytest.raises(UsageError, match="not of segmentation: leave --task out"):
            evaluate(EvaluateConfig(model="test_vit", data=str(scenes), task="segmentation"))
        with pytest.raises(UsageError, match="is shown on a page: type --html"):
            evaluate(EvaluateConfig(model="test_vit", data=str(scenes), teacher="test_vit"))
        with pytest.raises(UsageError, match="is a model of classification"):
            measure(student, scenes, teacher="test_vit", html="page.html")

    def test_a_model_without_a_head(self, scenes: Path, tmp_path: Path) -> None:
        model, info = create_model("test_vit", image_size=32, task="segmentation")
        save_model(tmp_path / "bare", model, info)
        with pytest.raises(ModelError, match="no classifier to evaluate"):
            measure(tmp_path / "bare", scenes)

    def test_unknown_split(self, student: Path, scenes: Path) -> None:
        with pytest.raises(UnknownNameError, match="tset"):
            measure(student, scenes, split="tset")
