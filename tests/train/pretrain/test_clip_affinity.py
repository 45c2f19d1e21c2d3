"""Affinity mimicking from two stores of a pair: rows are joined, affinities are learned, strangers are refused.

The pair is untrained: its affinities are a function of images and words all the same.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_pairs as tiny
import torch

from reinforce.build import BuildConfig, build
from reinforce.dataset import open_dataset
from reinforce.errors import CorruptStoreError, ReinforceError, TransferMismatchError, UsageError
from reinforce.import_model import ImportModelConfig, import_model
from reinforce.models import Preprocess, global_features, load_model
from reinforce.models.open_clip_text import Tokenizer, load_text_tower
from reinforce.store import Store
from train.distill import DistillConfig, distill
from train.loop import TrainingStoppedError
from train.pretrain.affinity_pairs import PairedStores, TrainingAffinities
from train.pretrain.clip import PairResult
from train.pretrain.pretrain import PretrainConfig, pretrain

TEACHER = "reinforce-test-tiny-teacher"
TOKENIZER = Tokenizer(8)


@dataclass(frozen=True)
class Made:
    pairs: Path
    teacher: str
    images: str
    texts: str


def make_pair(folder: Path, seed: int) -> str:
    """An imported, untrained pair with a joint space of 512."""
    import open_clip

    torch.manual_seed(seed)
    torch.save(open_clip.create_model(TEACHER).state_dict(), folder / "pair.pt")
    out = str(folder / f"pair-{seed}")
    import_model(ImportModelConfig(arch=f"open_clip:{TEACHER}", weights=str(folder / "pair.pt"), out=out))
    return out


def make_store(teacher: str, pairs: Path, out: Path, target: str, **options: Any) -> str:
    build(BuildConfig(teacher=teacher, transfer=str(pairs), out=str(out), target=target, dtype="float32", device="cpu",
                      quiet=True, unit_budget_mb=1, max_cosine_distance=1e-5, **options))  # fmt: skip
    return str(out)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """40 views an image and a space of 512: the image store's units are cut finer than the text store's."""
    folder = tmp_path_factory.mktemp("made")
    tiny.register_tower()
    tiny.register_tower(TEACHER, embed_dim=512)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REINFORCE_HOME", str(folder / "home"))
        pairs, teacher = tiny.write_pairs(folder / "pairs"), make_pair(folder, 0)
        (pairs / "009.txt").write_bytes(b"caf\xe9")
        images = make_store(teacher, pairs, folder / "images.zarr", "global-features", views=40, policy="crops")
        texts = make_store(teacher, pairs, folder / "texts.zarr", "text-features")
        yield Made(pairs, teacher, images, texts)


def opened(made: Made) -> PairedStores:
    return PairedStores(open_dataset(made.images, str(made.pairs)), Store.open(made.texts), TOKENIZER)


def run(made: Made, out: str = "run", **options: Any) -> PairResult:
    defaults = {"model": "test_efficientnet", "image_size": 32, "text_tower": tiny.TOWER, "steps": 8, "batch_size": 16,
                "log_every": 1, "quiet": True, "device": "cpu", "workers": 0, "cache": made.images,
                "text_cache": made.texts, "transfer": str(made.pairs)}  # fmt: skip
    result = pretrain(PretrainConfig(method="clip-affinity", out=out, **defaults | options))
    assert isinstance(result, PairResult)
    return result


def losses(out: str) -> list[float]:
    lines = [json.loads(line) for line in Path(out, "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


class TestRows:
    def test_the_stores_are_cut_differently(self, made: Made) -> None:
        assert Store.open(made.images).unit_rows < Store.open(made.texts).unit_rows

    @torch.inference_mode()
    def test_image_words_and_both_features_are_of_one_pair(self, made: Made) -> None:
        data = TrainingAffinities(opened(made), seed=0)
        batch = pickle.loads(pickle.dumps(data)).load(rows := data.epoch_order(1), 1)
        model, info = load_model(made.teacher)
        tower = load_text_tower(made.teacher)
        expected = global_features(model, Preprocess.from_info(info)(batch.inputs)), tower.module(batch.tokens)
        for stored, fresh in zip((batch.targets, batch.teacher_texts), expected, strict=True):
            assert torch.nn.functional.cosine_similarity(stored, fresh).min() > 1 - 1e-3
        numbers = data.stores.samples(rows).tolist()
        assert torch.equal(batch.tokens, TOKENIZER([tiny.caption(number) for number in numbers]))

    def test_what_one_store_skipped_is_left_out(self, made: Made) -> None:
        stores = opened(made)
        order = TrainingAffinities(stores, seed=0).epoch_order(0)
        held_out = stores.dataset.held_out()
        assert 9 not in stores.samples(order)
        assert sorted([*stores.samples(order), *stores.samples(held_out), 9]) == list(range(48))


def test_it_learns_the_pairs_affinities_and_keeps_an_encoder(made: Made) -> None:
    result = run(made, steps=25, lr=3e-3)
    assert np.mean(losses("run")[-5:]) < 0.7 * np.mean(losses("run")[:5])
    assert (result.method, result.num_pairs) == ("clip-affinity", 45)
    _, info = load_model("run")
    training = info.provenance["training"]
    assert info.head == "none"
    assert training["teacher"]["logit_scale"] == pytest.approx(1 / 0.07, rel=1e-4)
    assert set(training["stores"]) == {"store_digest", "text_store_digest"}


def test_stop_and_resume_is_the_uninterrupted_run(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    run(made, "whole")
    load, loads = TrainingAffinities.load, []

    def load_and_stop(self: TrainingAffinities, rows: Any, epoch: int) -> Any:
        loads.append(epoch)
        if len(loads) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return load(self, rows, epoch)

    monkeypatch.setattr(TrainingAffinities, "load", load_and_stop)
    with pytest.raises(TrainingStoppedError, match="stopped at step 5 of 8"):
        run(made, "stopped")
    run(made, "stopped", resume=True)
    assert losses("stopped") == losses("whole")
    assert Path("stopped", "model.safetensors").read_bytes() == Path("whole", "model.safetensors").read_bytes()


class TestRefusals:
    @pytest.fixture
    def other_words(self, made: Made) -> Iterator[None]:
        """One of the captions is not what it was."""
        before = (made.pairs / "003.txt").read_text()
        (made.pairs / "003.txt").write_text("something else")
        yield
        (made.pairs / "003.txt").write_text(before)

    @pytest.mark.parametrize(
        ("cache", "text_cache", "message"),
        [
            pytest.param(
                "images", "images", "--text-cache .* holds global-features: .*--target text-features", id="images"
            ),
            pytest.param("texts", "texts", "--cache .* holds text-features: .*--target global-features", id="texts"),
        ],
    )
    def test_a_store_of_another_target(self, made: Made, cache: str, text_cache: str, message: str) -> None:
        with pytest.raises(UsageError, match=message) as caught:
            run(made, cache=getattr(made, cache), text_cache=getattr(made, text_cache))
        assert "\n" not in str(caught.value)

    def test_distilling_from_captions(self, made: Made) -> None:
        with pytest.raises(UsageError, match=r"holds text-features, which are of captions: .* --method clip-affinity"):
            distill(DistillConfig(cache=made.texts, transfer=str(made.pairs), student="fastvit_t8", device="cpu"))

    def test_a_store_of_another_pair(self, made: Made, tmp_path: Path) -> None:
        other = make_store(make_pair(tmp_path, 1), made.pairs, tmp_path / "other.zarr", "text-features")
        with pytest.raises(UsageError, match=r"is of pair-1, .* of another teacher, pair-0: build both from one pair"):
            run(made, text_cache=other)

    def test_a_store_of_another_transfer_set(self, made: Made, tmp_path: Path) -> None:
        other = make_store(made.teacher, made.pairs, tmp_path / "other.zarr", "text-features", limit=20)
        with pytest.raises(UsageError, match="is of another transfer set"):
            run(made, text_cache=other)

    def test_other_captions(self, made: Made, other_words: None) -> None:
        with pytest.raises(TransferMismatchError, match="captions of pairs are not those") as caught:
            run(made)
        assert isinstance(caught.value, ReinforceError)

    def test_captions_are_read_by_the_main_process_alone(
        self, made: Made, other_words: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RANK", "1")
        opened(made)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            pytest.param({"teacher": {"logit_scale": None}}, "'logit_scale' is not a number: None", id="no scale"),
            pytest.param({"teacher": {"logit_scale": "14"}}, "'logit_scale' is not a number: '14'", id="a word"),
            pytest.param({"teacher": {"logit_scale": -1}}, "'logit_scale' is -1.0", id="a negative scale"),
            pytest.param({"teacher": {"logit_scale": 1e999}}, "'logit_scale' is inf", id="an endless scale"),
            pytest.param({"captions": None}, "'captions' is not a string: None", id="no captions"),
            pytest.param({"captions": [1]}, r"'captions' is not a string: \[1\]", id="a list"),
            pytest.param({"captions": "ab"}, "'captions' is not a SHA-256: 'ab'", id="no digest"),
        ],
    )
    def test_a_store_that_does_not_say(self, made: Made, changes: dict[str, Any], message: str) -> None:
        texts = Store.open(made.texts)
        teacher = texts.plan["teacher"] | changes.get("teacher", {})
        texts.plan |= changes | {"teacher": teacher}
        with pytest.raises(CorruptStoreError, match=f"texts.*{message}") as caught:
            PairedStores(open_dataset(made.images, str(made.pairs)), texts, TOKENIZER)
        assert "\n" not in str(caught.value)
