"""Pretraining on images with captions: what is learned and kept, exact resume, two processes, what is refused.

What such encoders are worth is not judged here: the pairs are eight kinds of squares.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import tiny_pairs as tiny
import torch
from forked import run_ranks

from reinforce.data import open_captioned
from reinforce.errors import DataError, ModelError, UsageError
from reinforce.models import Preprocess, create_model, load_extra, load_model
from reinforce.models.open_clip_text import Tokenizer, text_config
from train.finetune import FinetuneConfig, finetune
from train.loop import TrainingStoppedError
from train.pretrain.clip import PairResult
from train.pretrain.clip_model import MAX_SCALE, ClipModel
from train.pretrain.clip_pairs import TrainingPairs, clip_policy
from train.pretrain.clip_training import pair_scores
from train.pretrain.pretrain import PretrainConfig, pretrain
from train.pretrain.transfer_images import list_images
from train.results import LabelledResult

TOKENIZER = Tokenizer(8)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    tiny.register_tower()
    return tiny.write_pairs(tmp_path / "pairs")


def run(pairs: Path, out: str | Path = "run", **options: Any) -> PairResult:
    defaults = {"model": "test_efficientnet", "image_size": 32, "text_tower": tiny.TOWER, "steps": 8, "batch_size": 16,
                "log_every": 1, "quiet": True, "device": "cpu", "workers": 0}  # fmt: skip
    result = pretrain(PretrainConfig(method="clip", transfer=str(pairs), out=str(out), **defaults | options))
    assert isinstance(result, PairResult)
    return result


def curve(out: str | Path) -> list[dict[str, Any]]:
    """metrics.jsonl without times."""
    lines = [json.loads(line) for line in Path(out, "metrics.jsonl").read_text().splitlines()]
    return [
        {name: line[name] for name in ("step", "loss", "val_loss", "val_retrieval") if name in line} for line in lines
    ]


def losses(out: str | Path) -> list[float]:
    return [line["loss"] for line in curve(out) if "loss" in line]


@pytest.fixture
def training_pairs(pairs: Path) -> TrainingPairs:
    source = open_captioned(str(pairs))
    return TrainingPairs(source, list_images(source.images, None), clip_policy(24, 0, (0.9, 1.0)), TOKENIZER, seed=5)


def test_what_is_kept_tells_colours_by_their_words(pairs: Path) -> None:
    """Encoder, projection and text tower, read from the files alone."""
    run(pairs, steps=80, lr=3e-3, eval_every=80)
    encoder, info = load_model("run")
    assert info.head == "none"
    model = ClipModel(encoder, text_config(tiny.TOWER), seed=1)
    missing, unexpected = model.load_state_dict(load_extra("run"), strict=False)
    assert not unexpected
    assert all(name.startswith("encoder.") for name in missing)
    source = open_captioned(str(pairs))
    views = TrainingPairs(source, list_images(source.images, None), clip_policy(32, 9, (1.0, 1.0)), TOKENIZER, seed=0)
    batch = views.load(np.arange(len(views)), 0)
    with torch.inference_mode():
        images, texts, _ = model.eval()(Preprocess.from_info(info)(batch.inputs), batch.targets)
        cosines = torch.nn.functional.normalize(images) @ torch.nn.functional.normalize(texts).T
    colours = [tiny.caption(number).split()[2] for number in range(len(views))]
    right = [colours[nearest] == own for nearest, own in zip(cosines.argmax(1).tolist(), colours, strict=True)]
    assert sum(right) > 0.8 * len(right)
    assert losses("run")[-1] < losses("run")[0] - 1


def test_timm_reloads_the_encoder_and_finetune_goes_on(pairs: Path, colours: Path) -> None:
    run(pairs, steps=1)
    timm.create_model("test_efficientnet", num_classes=0, checkpoint_path="run/model.safetensors")
    result = finetune(FinetuneConfig(model="run", data=str(colours), out="ft", steps=2, lr=(1e-3,),
                                     batch_size=8, quiet=True, device="cpu"))  # fmt: skip
    assert isinstance(result, LabelledResult)
    before = load_model("ft")[1].provenance["training"]["before"]
    assert (before["verb"], before["method"], before["text_tower"]) == ("pretrain", "clip", tiny.TOWER)


@pytest.mark.parametrize("stop_at", [3, 6])
def test_stop_and_resume_is_the_uninterrupted_run(stop_at: int, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(pairs, "whole", eval_every=4)
    load, loads = TrainingPairs.load, []

    def load_and_stop(self: TrainingPairs, rows: Any, epoch: int) -> Any:
        loads.append(epoch)
        if len(loads) == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return load(self, rows, epoch)

    monkeypatch.setattr(TrainingPairs, "load", load_and_stop)
    with pytest.raises(TrainingStoppedError, match=f"stopped at step {stop_at} of 8"):
        run(pairs, "stopped", eval_every=4)
    resumed = run(pairs, "stopped", eval_every=4, resume=True)
    assert curve("stopped") == curve("whole")
    assert replace(resumed, out="") == replace(whole, out="")
    for name in ("model.safetensors", "extra.safetensors"):
        assert Path("stopped", name).read_bytes() == Path("whole", name).read_bytes()


PROGRAM = """
import tiny_pairs
tiny_pairs.register_tower()
from train.cli import main
main()
"""


@pytest.mark.slow
def test_two_processes_are_one(pairs: Path, tmp_path: Path) -> None:
    """Steps of 11 or 12 pairs, so that ranks have different numbers; a model without BatchNorm."""
    options = {"model": "test_vit", "batch_size": 12, "steps": 6, "lr": 1e-3, "precision": "fp32", "limit": 47}
    run(pairs, "one", **options)
    words = ["pretrain", "--method", "clip", "--transfer", str(pairs), "--image-size", "32", "--text-tower", tiny.TOWER,
             "--log-every", "1", "--device", "cpu", "--quiet", "--out", "two"]  # fmt: skip
    words += [word for name, value in options.items() for word in ("--" + name.replace("_", "-"), str(value))]
    for rank in run_ranks(PROGRAM, words, folder=tmp_path):
        assert rank.returncode == 0, rank.stderr
    assert losses("two") == pytest.approx(losses("one"), rel=1e-4)
    assert len(losses("one")) == 6


class TestScale:
    @pytest.fixture
    def model(self) -> ClipModel:
        tiny.register_tower()
        encoder, _ = create_model("test_vit", num_classes=0, image_size=32)
        return ClipModel(encoder, text_config(tiny.TOWER), seed=0)

    def test_it_starts_where_clip_starts(self, model: ClipModel) -> None:
        assert model.scale().item() == pytest.approx(1 / 0.07)

    @pytest.mark.parametrize("training", [True, False])
    def test_it_never_exceeds_100(self, model: ClipModel, training: bool) -> None:
        with torch.no_grad():
            model.log_scale.fill_(9.0)
        assert model.train(training).scale().item() == pytest.approx(MAX_SCALE)

    def test_it_can_fall_from_its_limit(self, model: ClipModel) -> None:
        with torch.no_grad():
            model.log_scale.fill_(9.0)
        model.train().scale().backward()
        assert model.log_scale.item() == pytest.approx(math.log(MAX_SCALE))
        assert model.log_scale.grad is not None
        assert model.log_scale.grad.item() == pytest.approx(MAX_SCALE)


class TestTrainingPairs:
    def test_views_and_tokens_are_a_function_of_row_and_epoch(self, training_pairs: TrainingPairs) -> None:
        rows = np.array([7, 3, 7])
        first, copy = training_pairs.load(rows, 2), pickle.loads(pickle.dumps(training_pairs))
        again, other = copy.load(rows[::-1].copy(), 2), copy.load(rows, 3)
        assert torch.equal(first.inputs.flip(0), again.inputs)
        assert torch.equal(first.targets.flip(0), again.targets)
        assert not torch.equal(first.inputs, other.inputs)
        assert tuple(first.inputs.shape) == (3, 24, 24, 3)
        assert torch.equal(first.targets[0], TOKENIZER([tiny.caption(7)])[0])

    def test_captions_of_one_image_take_turns(self, pairs: Path, training_pairs: TrainingPairs) -> None:
        (pairs / "005.txt").unlink()
        texts = [f"caption {number}" for number in range(4)]
        (pairs / "005.json").write_text(json.dumps({"caption": texts}))
        seen = [training_pairs.load(np.array([5]), epoch).targets[0].tolist() for epoch in range(40)]
        expected = TOKENIZER(texts).tolist()
        assert {expected.index(tokens) for tokens in seen} == {0, 1, 2, 3}

    def test_what_cannot_be_read_is_named_and_replaced_by_the_next_pair(
        self, pairs: Path, training_pairs: TrainingPairs
    ) -> None:
        (pairs / "005.txt").write_bytes(b"caf\xe9")
        (pairs / "006.png").write_bytes(b"no image")
        batch = training_pairs.load(np.array([5]), 0)
        assert [key for key, _ in batch.skipped] == ["005.png", "006.png"]
        assert "not UTF-8" in batch.skipped[0][1]
        assert torch.equal(batch.targets[0], TOKENIZER([tiny.caption(7)])[0])

    def test_nothing_readable_is_an_error(self, pairs: Path, training_pairs: TrainingPairs) -> None:
        for path in pairs.glob("*.txt"):
            path.write_text("")
        with pytest.raises(DataError, match=r"none of the 48 training pairs can be read: .* empty caption"):
            training_pairs.load(np.array([0]), 0)

    def test_views_are_not_flipped(self, training_pairs: TrainingPairs) -> None:
        assert not any(training_pairs.replayer.params(row, 0).flip for row in range(48))


class TestHeldOut:
    def test_without_it_the_last_step_is_kept(self, pairs: Path) -> None:
        result = run(pairs, steps=2, val_limit=0)
        assert (result.loss, result.retrieval, result.best_step, result.num_pairs) == (None, None, 2, 48)

    def test_retrieval_is_the_mean_of_both_directions(self) -> None:
        """Two texts point at the first image; each image's nearest text is one of them."""
        images, texts = torch.tensor([[1.0, 0.0], [0.6, 0.8]]), torch.tensor([[5.0, 0.1], [3.0, 0.3]])
        assert pair_scores(images, texts, torch.tensor(1.0))["val_retrieval"] == pytest.approx((0.5 + 1.0) / 2)

    def test_autocast_does_not_count(self) -> None:
        """64 directions within 6 degrees, which bfloat16 cannot tell from each other."""
        angles = torch.linspace(0, 0.1, 64)
        rows, scale = torch.stack([angles.cos(), angles.sin()], dim=1), torch.tensor(10.0)
        plain = pair_scores(rows, rows, scale)
        assert plain["val_retrieval"] == 1.0
        with torch.autocast("cpu", torch.bfloat16):
            assert pair_scores(rows, rows, scale) == plain


class TestRefusals:
    def test_an_image_without_a_caption(self, pairs: Path) -> None:
        (pairs / "017.txt").unlink()
        with pytest.raises(DataError, match=r"image '017\.png' of pairs has no caption: expected .*path,caption"):
            run(pairs)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            pytest.param({"text_tower": "ViT-B-33"}, "unknown text tower 'ViT-B-33', did you mean", id="unknown tower"),
            pytest.param({"text_tower": "ViT-B-16-SigLIP"}, "type ViT-S-32-alt", id="a tokenizer to download"),
            pytest.param({"text_tower": "roberta-ViT-B-32"}, "type ViT-S-32-alt", id="a tower to download"),
            pytest.param({"text_tower": "coca_ViT-B-32"}, "type ViT-S-32-alt", id="a captioning model"),
            pytest.param({"batch_size": 1}, "--batch-size is 1: it must be 2 or more", id="nothing to tell from"),
            pytest.param({"model": "open_clip:ViT-B-32"}, "is the tower of a pair", id="an open_clip tower"),
            pytest.param({"data": "x"}, "--data is no option of --method clip", id="labels"),
        ],
    )
    def test_options(self, pairs: Path, options: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message) as caught:
            run(pairs, **options)
        assert "\n" not in str(caught.value)

    def test_another_set_of_pairs_cannot_be_resumed(self, pairs: Path) -> None:
        run(pairs, steps=2, save_every=1)
        Path("run", "result.json").unlink()
        for path in pairs.glob("003.*"):
            path.unlink()
        with pytest.raises(ModelError, match="was made with another pairs"):
            run(pairs, steps=2, save_every=1, resume=True)

    def test_open_clip_absent(self, pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "open_clip", None)
        with pytest.raises(
            UsageError, match=r"a text tower needs open_clip_torch: pip install 'reinforce-vision\[clip\]'"
        ):
            run(pairs)
