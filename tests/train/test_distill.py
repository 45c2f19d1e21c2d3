"""distill on a real, tiny store: it learns its teacher, resumes to the last digit, and refuses what cannot be right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import tiny_reinforced as tiny
import torch
from stopping import stop_at_load

from reinforce.dataset import open_dataset
from reinforce.errors import MissingStoreError, ReplayDriftError, TransferMismatchError, UsageError
from reinforce.models import load_model
from reinforce.views import ops
from train.cached import CachedViews, HeldOutViews
from train.checkpoint import read_checkpoint
from train.distill import DistillConfig, DistillResult, distill
from train.loop import TrainingStoppedError


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_images(tmp_path_factory.mktemp("transfer") / "coloured")


@pytest.fixture(scope="module")
def cache(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_store(tmp_path_factory.mktemp("store") / "coloured.zarr", images)


def run(cache: Path, images: Path, out: Path, **changes: Any) -> DistillResult:
    defaults: dict[str, Any] = {"student": "test_vit", "image_size": 32, "lr": 3e-3, "steps": 12, "batch_size": 16,
                                "precision": "fp32", "log_every": 3, "eval_every": 6, "quiet": True}  # fmt: skip
    config = DistillConfig(cache=str(cache), transfer=str(images), out=str(out), **(defaults | changes))
    result = distill(config)
    assert isinstance(result, DistillResult)
    return result


def curve(out: Path) -> list[dict[str, Any]]:
    timed = ("images_per_second", "data_wait", "seconds")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in timed} for line in lines]


def test_a_student_learns_its_teacher(cache: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "student"
    result = run(cache, images, out, steps=80, eval_every=20)
    evaluations = [line for line in curve(out) if "agreement" in line]
    assert [line["step"] for line in evaluations] == [20, 40, 60, 80]
    assert result.kl == min(line["kl"] for line in evaluations)
    assert result.kl < evaluations[0]["kl"]
    assert str(result).startswith(f"wrote {out} (test_vit, best at step {result.best_step} of 80")
    assert f"next: train finetune --model {out} --data DATA" in str(result)
    model, info = load_model(out)
    assert info.class_names == tiny.CLASS_NAMES
    assert info.provenance["training"]["store"]["manifest_digest"] == result.store_digest
    assert info.metrics["held_out_kl"] == result.kl
    plain = timm.create_model("test_vit", num_classes=3, img_size=32, checkpoint_path=str(out / "model.safetensors"))
    pixels = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(plain.eval()(pixels), model(pixels))


@pytest.mark.parametrize("stop_at", [2, 9])
def test_stop_and_resume_is_the_uninterrupted_run(stop_at: int, cache: Path, images: Path, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    whole = run(cache, images, tmp_path / "whole", student="test_efficientnet")
    stop_at_load(monkeypatch, CachedViews, stop_at)
    with pytest.raises(TrainingStoppedError, match=f"stopped at step {stop_at} of 12"):
        run(cache, images, tmp_path / "stopped", student="test_efficientnet")
    resumed = run(cache, images, tmp_path / "stopped", student="test_efficientnet", resume=True)
    assert curve(tmp_path / "stopped") == curve(tmp_path / "whole")
    assert (resumed.kl, resumed.agreement, resumed.best_step) == (whole.kl, whole.agreement, whole.best_step)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("stopped", "whole")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("student", ["fastvit_t8", "mobilevitv2_050"])
def test_students_by_name(student: str, cache: Path, images: Path, tmp_path: Path) -> None:
    result = run(cache, images, tmp_path / "run", student=student, steps=1, batch_size=4)
    assert result.student == student


def test_kept_checkpoints_record_the_store_and_are_models(cache: Path, images: Path, tmp_path: Path) -> None:
    result = run(cache, images, tmp_path / "run", steps=4, save_every=2)
    folder = tmp_path / "run" / "checkpoints"
    assert {p.name for p in folder.glob("*.pt")} == {"best.pt", "last.pt", "step-00000002.pt", "step-00000004.pt"}
    for path in folder.glob("*.pt"):
        assert read_checkpoint(path)["binding"] == {"store_digest": result.store_digest}
    kept = [load_model(folder / name)[1] for name in ("step-00000002", "step-00000004")]
    assert [info.provenance["training"]["store"]["manifest_digest"] for info in kept] == [result.store_digest] * 2
    assert json.loads((folder / "step-00000002" / "cost.json").read_text())["steps"] == 2


def test_training_and_held_out_rows_are_disjoint_and_carry_the_teachers_logits(cache: Path, images: Path) -> None:
    dataset = open_dataset(str(cache), str(images))
    training, held_out = CachedViews(dataset, seed=0), HeldOutViews(dataset)
    assert not set(training.epoch_order(0)) & set(held_out.rows)
    batch = training.load(training.epoch_order(1)[:9], 1)
    expected = torch.stack([torch.from_numpy(tiny.teach(image.numpy())) for image in batch.inputs])
    torch.testing.assert_close(batch.targets - batch.targets.mean(1, keepdim=True), expected, atol=5e-3, rtol=1e-3)


def test_init_from_takes_weights_only(cache: Path, images: Path, tmp_path: Path) -> None:
    run(cache, images, tmp_path / "first", steps=2)
    run(cache, images, tmp_path / "second", steps=1, lr=1e-12, ema=0.0, init_from=str(tmp_path / "first"))
    first, second = (load_model(tmp_path / name)[0].state_dict() for name in ("first", "second"))
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, atol=1e-6, rtol=0)
    with pytest.raises(UsageError, match="type --student test_vit"):
        run(cache, images, tmp_path / "third", student="fastvit_t8", init_from=str(tmp_path / "first"))


def test_only_the_certified_temperature(cache: Path, images: Path, tmp_path: Path) -> None:
    assert run(cache, images, tmp_path / "run", steps=1, temperature=1.0).steps == 1
    with pytest.raises(UsageError, match="certified at temperature 1, not 4: leave --temperature out"):
        run(cache, images, tmp_path / "run4", temperature=4.0)
    assert not (tmp_path / "run4").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "contrastive"}, "holds logits, which --loss contrastive cannot match: type --loss kl, or reinforce "
                                  "build --target global-features"),
        ({"loss": "cosine"}, "type --loss kl, or reinforce build --target patch-features"),
        ({"projection": "both"}, "holds logits, which are matched as they are: leave --projection both out"),
        ({"projection_dim": 8}, "leave --projection-dim 8 out"),
    ],
    ids=lambda value: "-".join(map(str, value.values())) if isinstance(value, dict) else "",
)  # fmt: skip
def test_options_of_features_are_refused_for_logits(options: dict[str, Any], message: str, cache: Path, images: Path,
                                                   tmp_path: Path) -> None:  # fmt: skip
    with pytest.raises(UsageError, match=message):
        run(cache, images, tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


def test_a_changed_transfer_image_is_named(cache: Path, tmp_path: Path) -> None:
    images = tiny.write_images(tmp_path / "again")
    (images / "007.png").write_bytes((images / "008.png").read_bytes())
    with pytest.raises(TransferMismatchError, match=r"007\.png"):
        run(cache, images, tmp_path / "run", steps=8)


def test_a_missing_store_is_one_line(images: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingStoreError):
        run(tmp_path / "no.zarr", images, tmp_path / "run")


def test_out_has_a_default() -> None:
    assert DistillConfig(cache="data/cc3m.zarr").run_directory == "runs/cc3m-fastvit_s12"


def test_dry_run_writes_nothing(cache: Path, images: Path, tmp_path: Path) -> None:
    plan = distill(DistillConfig(cache=str(cache), transfer=str(images), dry_run=True))
    assert isinstance(plan, dict)
    assert (plan["samples"], plan["views"], plan["classes"]) == (60, 3, 3)
    assert not (tmp_path / "runs").exists()


def test_other_pixels_than_the_teacher_saw_are_refused_by_stage(
    cache: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops, "flip", lambda image: image)
    with pytest.raises(ReplayDriftError, match=r"from stage '(partner:)?flip' on.*--accept-drift"):
        run(cache, images, tmp_path / "refused", steps=2)
    run(cache, images, tmp_path / "accepted", steps=2, accept_drift=True)
    _, info = load_model(tmp_path / "accepted")
    assert info.provenance["training"]["replay"]["num_different"] > 0
