"""`train pretrain --method dino`, whole: what it writes, exact resume, processes, and what it refuses."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from forked import run_ranks
from stopping import stop_at_load

from reinforce.errors import ModelError, ReinforceError, UsageError
from reinforce.models import load_extra, load_model
from train.checkpoint import read_checkpoint
from train.finetune import FinetuneConfig, finetune
from train.loop import TrainingStoppedError
from train.pretrain.dino import DinoResult
from train.pretrain.dino_loss import DinoObjective
from train.pretrain.dino_views import CropViews
from train.pretrain.pretrain import PretrainConfig, pretrain
from train.results import LabelledResult

SMALL: dict[str, Any] = {
    "method": "dino", "image_size": 32, "batch_size": 16, "steps": 6, "prototypes": 32, "head_width": 24,
    "num_local": 2, "log_every": 1, "quiet": True, "device": "cpu", "workers": 0,
}  # fmt: skip


def run(colours: Path, out: str, **changes: Any) -> DinoResult:
    options: dict[str, Any] = {"model": "test_efficientnet", "transfer": str(colours), "out": out, **SMALL, **changes}
    result = pretrain(PretrainConfig(**options))
    assert isinstance(result, DinoResult)
    return result


def curve(out: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (Path(out) / "metrics.jsonl").read_text().splitlines()]
    timed = ("images_per_second", "data_wait", "seconds")
    return [{name: value for name, value in line.items() if name not in timed} for line in lines]


def losses(out: str) -> list[float]:
    return [line["loss"] for line in curve(out) if "loss" in line]


def test_it_writes_the_teachers_encoder(colours: Path) -> None:
    result = run(colours, "run", save_every=3)
    assert (result.num_images, result.num_held_out) == (49, 2)
    model, info = load_model("run")
    assert (info.head, info.class_names, info.architecture) == ("none", (), "test_efficientnet")
    assert info.provenance["training"] == {"verb": "pretrain", "method": "dino", "model": "test_efficientnet",
                                           "transfer": "colours", "transfer_license": "unknown", "num_images": 49,
                                           "lr": 3e-3 * 16 / 1024, "seed": 0}  # fmt: skip
    assert info.metrics["held_out_feature_std"] == result.feature_std
    state = read_checkpoint(Path("run/checkpoints/last.pt"))
    for name, value in model.state_dict().items():
        assert torch.equal(value, state["average"]["module"][f"encoder.{name}"]), name
    heads = load_extra("run")
    assert torch.equal(heads["dino_head.prototypes_KN"], state["average"]["module"]["head.prototypes_KN"])
    again = timm.create_model("test_efficientnet", num_classes=0, checkpoint_path="run/model.safetensors").eval()
    pixels = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(again(pixels), model(pixels))
    assert load_model("run/checkpoints/step-00000003")[1].head == "none"


def test_without_held_out_images_it_learns_from_all(colours: Path) -> None:
    result = run(colours, "run", steps=2, val_limit=0)
    assert (result.num_images, result.num_held_out, result.feature_std, result.teacher_entropy) == (51, 0, None, None)
    assert load_model("run")[1].metrics == {}


@pytest.mark.parametrize("model", ["test_efficientnet", "test_vit"])
def test_finetune_takes_it_from_there(model: str, colours: Path) -> None:
    run(colours, "run", model=model, steps=2)
    tuned = finetune(FinetuneConfig(model="run", data=str(colours), out="ft", mode="linear-probe", shots=4, lr=(1e-2,),
                                    batch_size=8, steps=20, probe_views=0, quiet=True, device="cpu"))  # fmt: skip
    assert isinstance(tuned, LabelledResult)
    _, info = load_model("ft")
    assert info.class_names == ("blue", "green", "red")
    assert info.provenance["training"]["before"]["method"] == "dino"


@pytest.mark.parametrize("step", [1, 4])
def test_a_killed_run_resumes_to_the_last_digit(colours: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run(colours, "whole")
    with monkeypatch.context() as patch:
        stop_at_load(patch, CropViews, step + 1)
        with pytest.raises(TrainingStoppedError):
            run(colours, "run")
    run(colours, "run", resume=True)
    assert curve("run") == curve("whole")
    first, second = (read_checkpoint(Path(out) / "checkpoints" / "last.pt") for out in ("whole", "run"))
    assert torch.equal(first["objective"]["centre"], second["objective"]["centre"])
    assert first["objective"]["step"] == second["objective"]["step"] == 6
    for name, value in first["average"]["module"].items():
        assert torch.equal(value, second["average"]["module"][name]), name


def test_prototypes_wait_and_the_centre_moves(colours: Path) -> None:
    """49 images in batches of 16 are four steps an epoch."""
    run(colours, "run", save_every=1)
    states = [read_checkpoint(Path(f"run/checkpoints/step-{step:08d}.pt")) for step in range(1, 7)]
    prototypes = [state["model"]["head.prototypes_KN"] for state in states]
    assert all(torch.equal(prototypes[0], one) for one in prototypes[1:4])
    assert not torch.equal(prototypes[3], prototypes[4])
    centres = [state["objective"]["centre"] for state in states]
    assert all(not torch.equal(a, b) for a, b in pairwise(centres))


def test_the_teacher_follows_the_student_by_its_momentum(colours: Path) -> None:
    run(colours, "run", save_every=1, ema=0.9, steps=4)
    states = [read_checkpoint(Path(f"run/checkpoints/step-{step:08d}.pt")) for step in (2, 3)]
    name = "encoder.conv_stem.weight"
    before, after, student = (
        states[0]["average"]["module"][name],
        states[1]["average"]["module"][name],
        states[1]["model"][name],
    )
    momentum = 1 - 0.1 * 0.5  # cosine from 0.9 to 1, half-way
    torch.testing.assert_close(after, momentum * before + (1 - momentum) * student)


def test_the_centre_is_that_of_all_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second rank whose logits are three times as large: the sum over ranks is four times this one's."""
    from train.optim import AveragedModel, rising
    from train.pretrain.dino_config import DinoConfig
    from train.world import World

    monkeypatch.setattr(World, "sum", lambda self, values: 4 * values)
    config = DinoConfig(model="m", transfer="t", out="o", prototypes=4)
    world = World(torch.device("cpu"), 0, 2)
    teacher = AveragedModel(torch.nn.Linear(1, 1), rising(0.9, 1))
    objective = DinoObjective(config, teacher, None, steps_per_epoch=1, total_steps=1, world=world)  # type: ignore[arg-type]
    teacher_GBK = torch.arange(24.0).view(2, 3, 4)
    objective._move_centre(teacher_GBK, num_images=6)
    torch.testing.assert_close(objective.centre_K, 0.1 * 4 * teacher_GBK.sum(dim=(0, 1)) / 12)


@pytest.mark.slow
def test_two_processes_are_one(colours: Path, tmp_path: Path) -> None:
    """A model without BatchNorm, to float noise; 49 images in odd shares."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items() if name != "quiet"]
    argv = ["pretrain", "--model=test_vit", *options, "--precision=fp32", "--lr=1e-3", f"--transfer={colours}",
            "--out=2"]  # fmt: skip
    for rank in run_ranks("from train.cli import main; main()", argv, folder=tmp_path):
        assert rank.returncode == 0, rank.stderr
    run(colours, "1", model="test_vit", precision="fp32", lr=1e-3)
    assert losses("2") == pytest.approx(losses("1"), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        pytest.param(
            {"local_size": 40}, UsageError, "no smaller than large ones of 32 px", id="small crops that are large"
        ),
        pytest.param(
            {"model": "test_vit", "local_size": 20}, UsageError, "--local-size is 20: .*type 16", id="patches"
        ),
        pytest.param(
            {"model": "test_vit", "image_size": 40}, UsageError, "type --image-size 32 or", id="large patches"
        ),
        pytest.param({"model": "resmlp_12_224", "image_size": None}, UsageError, "--num-local 0", id="one size"),
        pytest.param({"crop_scale": (0.0, 1.0)}, UsageError, "the crop scale is 0,1", id="no crop"),
        pytest.param({"model": "nothing_at_all"}, ReinforceError, "nothing_at_all", id="no such model"),
        pytest.param({"transfer": "nowhere/"}, ReinforceError, "nowhere", id="no such images"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    options: dict[str, Any], error: type[Exception], message: str, colours: Path
) -> None:
    with pytest.raises(error, match=message) as caught:
        run(colours, "run", **options)
    assert "\n" not in str(caught.value)


def test_resume_refuses_other_images(colours: Path) -> None:
    run(colours, "run", steps=2)
    (Path("run") / "result.json").unlink()
    next((colours / "train" / "red").iterdir()).unlink()
    with pytest.raises(ModelError, match="another list of images"):
        run(colours, "run", steps=2, resume=True)


def test_dry_run_counts(colours: Path) -> None:
    options: dict[str, Any] = {**SMALL, "steps": None, "epochs": 3, "dry_run": True}
    said = pretrain(PretrainConfig(model="test_vit", transfer=str(colours), out="run", **options))
    assert said == {
        "out": "run",
        "model": "test_vit",
        "method": "dino",
        "num_images": 49,
        "num_held_out": 2,
        "steps": 12,
    }
    assert not Path("run").exists()
