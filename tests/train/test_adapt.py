"""adapt: linear probe, full finetuning, the better of both; what it registers; the probe's arithmetic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from reinforce import catalog
from reinforce.data import open_labelled
from reinforce.models import create_model, get_head, load_model, pooled_features, save_model
from train.adapt import AdaptConfig, adapt
from train.evaluate import EvaluateConfig, evaluate
from train.probe import Standardisation, num_probe_views, set_head
from train.results import LabelledResult
from train.students import default_image_size
from train.tasks import open_task
from train.trials import TrialResult


def run(data: Path, out: Path, **changes: Any) -> LabelledResult:
    defaults: dict[str, Any] = {"model": "test_vit", "image_size": 32, "mode": "linear-probe", "steps": 60,
                                "probe_views": 2, "batch_size": 12, "precision": "fp32", "quiet": True}  # fmt: skip
    result = adapt(AdaptConfig(data=str(data), out=str(out), **(defaults | changes)))
    assert isinstance(result, LabelledResult)
    return result


def test_a_linear_probe_changes_the_head_alone(colours: Path, tmp_path: Path) -> None:
    run(colours, tmp_path / "start", mode="full", steps=1, lr=(1e-12,), ema=0.0)
    start, _ = load_model(tmp_path / "start")
    result = run(colours, tmp_path / "probe", model=str(tmp_path / "start"), image_size=None)
    probe, _ = load_model(tmp_path / "probe")
    changed = {name for name, value in probe.state_dict().items() if not torch.equal(value, start.state_dict()[name])}
    assert changed == {"head.weight", "head.bias"}
    assert result.trials[0]["num_trained"] == get_head(probe).weight.numel() + 3
    assert evaluate(EvaluateConfig(model=str(tmp_path / "probe"), data=str(colours), split="val")).accuracy == (
        result.val_accuracy)  # fmt: skip


def test_best_tries_both_ways_and_registers_the_name(colours: Path, tmp_path: Path) -> None:
    result = run(colours, tmp_path / "runs" / "dinov2-ft", mode="best", steps=10, lr=(1e-3,))
    assert {trial["mode"] for trial in result.trials} == {"linear-probe", "full"}
    assert catalog.resolve_model("dinov2-ft").path == str(tmp_path / "runs" / "dinov2-ft")
    assert "registered as 'dinov2-ft'" in str(result)
    assert str(result).endswith("next: reinforce build --teacher dinov2-ft --transfer IMAGES")
    assert result.to_json() == json.loads(json.dumps(result.to_json()))
    assert evaluate(EvaluateConfig(model="dinov2-ft", data=str(colours), quiet=True)).num_images == 15


def test_resume_of_best_is_the_uninterrupted_run(colours: Path, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Killed while the second trial was being prepared."""
    whole = run(colours, tmp_path / "whole", mode="best", steps=4, lr=(1e-3,))

    def kill(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("train.supervised.Supervised._full_loop", kill)
        with pytest.raises(KeyboardInterrupt):
            run(colours, tmp_path / "killed", mode="best", steps=4, lr=(1e-3,))
    resumed = run(colours, tmp_path / "killed", mode="best", steps=4, lr=(1e-3,), resume=True)
    assert resumed.trials == whole.trials
    assert (tmp_path / "killed/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def trial(accuracy: float, num_trained: int, loss: float) -> TrialResult:
    return TrialResult("full", 1e-3, 1, num_trained, accuracy, loss)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        pytest.param(trial(0.9, 100, 1.0), trial(0.8, 1, 0.1), id="accuracy first"),
        pytest.param(trial(0.9, 10, 1.0), trial(0.9, 100, 0.1), id="ties: fewer trained parameters"),
        pytest.param(trial(0.9, 10, 0.1), trial(0.9, 10, 0.2), id="then loss"),
    ],
)
def test_which_trial_is_kept(better: TrialResult, worse: TrialResult) -> None:
    assert max([worse, better], key=lambda result: result.order) is better


def test_validation_images_are_never_training_images(colours: Path) -> None:
    for split in ("val", "test"):
        for path in (colours / split).rglob("*.png"):
            path.rename(colours / "train" / path.parent.name / path.name)
    for split in ("val", "test"):
        for folder in (colours / split).iterdir():
            folder.rmdir()
        (colours / split).rmdir()
    sets = open_task(AdaptConfig(data=str(colours), out="x", model="test_vit", shots=3))
    assert len(sets.train) == 9
    assert sets.val
    assert not {s.key for s in sets.train} & {s.key for s in sets.val}
    assert {s.key for s in sets.val} == {s.key for s in open_labelled(str(colours)).split("val")}


def test_folded_standardisation_gives_the_same_logits() -> None:
    torch.manual_seed(0)
    features = torch.randn(2, 9, 5) * torch.tensor([1.0, 100.0, 1e-3, 1.0, 0.0]) + 7
    scale = Standardisation.of(features)
    standard = scale(features)
    torch.testing.assert_close(standard.flatten(0, 1)[:, :4].std(0, correction=0), torch.ones(4), rtol=1e-3, atol=1e-3)
    head = nn.Linear(5, 3)
    weight, bias = scale.fold(head.weight.detach(), head.bias.detach())
    torch.testing.assert_close(features @ weight.T + bias, head(standard), rtol=1e-3, atol=1e-3)


def test_set_head_is_what_the_model_then_answers(colours: Path, tmp_path: Path) -> None:
    run(colours, tmp_path / "run", mode="full", steps=1, lr=(1e-3,))
    model, _ = load_model(tmp_path / "run")
    weight, bias = torch.randn(3, get_head(model).in_features), torch.randn(3)
    set_head(model, weight, bias)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(images), pooled_features(model, images) @ weight.T + bias)


@pytest.mark.parametrize(("images", "wanted", "views"), [(100, 8, 8), (5000, 8, 3), (60_000, 8, 0), (1, 0, 0)])
def test_large_sets_get_fewer_probe_views(images: int, wanted: int, views: int) -> None:
    assert num_probe_views(images, wanted) == views


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vit_small_patch14_dinov2", 224),
        ("vit_small_patch14_dinov2.lvd142m", 224),
        ("fastvit_t8", None),
        ("nothing", None),
    ],
)
def test_default_image_size(name: str, size: int | None) -> None:
    assert default_image_size(name) == size


@pytest.mark.parametrize(
    ("class_names", "provenance", "size"),
    [((), {}, 224), (("a", "b"), {}, None), ((), {"training": {"verb": "distill"}}, None)],
    ids=["published encoder", "with a head", "trained encoder"],
)
def test_default_image_size_of_a_directory(class_names: tuple[str, ...], provenance: dict[str, Any], size: int | None,
                                           tmp_path: Path) -> None:  # fmt: skip
    model, info = create_model("test_vit", class_names=class_names, image_size=512)
    save_model(tmp_path / "model", model, info.with_provenance(**provenance))
    assert default_image_size(str(tmp_path / "model")) == size
