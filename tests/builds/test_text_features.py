"""Stores of captions' features: the pair's text tower, one view, bound to the captions; else as any other store."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reinforce.audit import VerifyConfig, verify
from reinforce.build import BuildConfig, build
from reinforce.data import freeze, open_captioned
from reinforce.dataset import open_dataset
from reinforce.engine.feed import UnitRenderer
from reinforce.errors import BuildError, DataError, ModelError, ReinforceError, UsageError
from reinforce.import_model import ImportModelConfig, import_model
from reinforce.inspect_store import summarize
from reinforce.models import create_model, save_model
from reinforce.models.open_clip_text import Tokenizer, load_text_tower
from reinforce.unit_captions import Words
from reinforce.views import named_policy

NAME = "reinforce-test-tiny-text"
COUNT = 40


def caption(number: int) -> str:
    return f"picture number {number} of something"


@pytest.fixture
def transfer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "pairs"
    root.mkdir()
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), np.uint8)).save(root / f"{number:02d}.png")
        (root / f"{number:02d}.txt").write_text(caption(number))
    return root


@pytest.fixture
def teacher(tmp_path: Path) -> str:
    """An imported, untrained pair."""
    import open_clip

    vision = {"image_size": 16, "layers": 1, "width": 64, "patch_size": 8}
    text = {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    open_clip.factory._MODEL_CONFIGS[NAME] = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    torch.manual_seed(0)
    torch.save(open_clip.create_model(NAME).state_dict(), tmp_path / "pair.pt")
    import_model(
        ImportModelConfig(arch=f"open_clip:{NAME}", weights=str(tmp_path / "pair.pt"), out=str(tmp_path / "pair"))
    )
    return str(tmp_path / "pair")


def make(transfer: Path, teacher: str, out: str = "text.zarr", **options: Any) -> Path:
    settings = {"target": "text-features", "dtype": "float32", "device": "cpu", "batch_size": 16, "quiet": True}
    build(BuildConfig(teacher=teacher, transfer=str(transfer), out=out, **settings | options))
    return Path(out)


def test_targets_are_the_text_towers_features(transfer: Path, teacher: str) -> None:
    dataset = open_dataset(make(transfer, teacher, max_cosine_distance=1e-5), str(transfer))
    store = dataset.store
    assert (store.target, store.num_channels, store.num_views, store.class_names) == ("text-features", 16, 1, ())
    rows = np.flatnonzero(dataset.states == 0)
    batch = dataset.load(rows, 3)
    tower = load_text_tower(teacher)
    with torch.inference_mode():
        expected = tower.module(tower.config.tokenizer([caption(number) for number in range(COUNT)])).numpy()
    cosines = (
        (batch.targets * expected).sum(1) / np.linalg.norm(batch.targets, axis=1) / np.linalg.norm(expected, axis=1)
    )
    assert cosines.min() > 1 - 1e-4
    described = store.plan["teacher"]
    assert described["logit_scale"] == pytest.approx(1 / 0.07, rel=1e-4)
    assert described["text"]["tower"] == NAME
    assert "--method clip-affinity" in str(summarize(Path(store.name)))
    assert verify(VerifyConfig(store=store.name, deep=True, transfer=str(transfer), teacher=teacher)).ok


def test_what_workers_are_sent_gives_the_same_batches(transfer: Path) -> None:
    source = open_captioned(str(transfer))
    listing, policy = freeze(source.images), named_policy("center", size_px=8)
    renderer = UnitRenderer(source.images, listing, policy, [(0, 0, 25), (0, 25, 40)], range(1), 10, 25, 1 << 20,
                            Words(source, Tokenizer(8)))  # fmt: skip
    renderer = pickle.loads(pickle.dumps(renderer))
    batches = list(renderer.batches(1))
    assert [len(batch.rows) for batch in batches] == [10, 5]
    tokens = torch.cat([batch.images for batch in batches])
    assert torch.equal(tokens, Tokenizer(8)([caption(number) for number in range(25, 40)]))


def test_deep_verification_sees_other_captions(transfer: Path, teacher: str) -> None:
    store = make(transfer, teacher)
    for number in range(COUNT):
        (transfer / f"{number:02d}.txt").write_text(caption(COUNT - number) + " and another")
    report = verify(VerifyConfig(store=str(store), deep=True, transfer=str(transfer), teacher=teacher))
    assert any("far above the certified" in problem for problem in report.problems)


def test_a_caption_that_cannot_be_read_is_a_skipped_row(transfer: Path, teacher: str) -> None:
    (transfer / "07.txt").write_bytes(b"caf\xe9")
    store = make(transfer, teacher)
    (skipped,) = json.loads((store / "manifest.json").read_text())["skipped"]
    assert skipped["key"] == "07.png"
    assert "is not UTF-8" in skipped["reason"]


def test_a_store_is_not_continued_with_other_captions(transfer: Path, teacher: str) -> None:
    make(transfer, teacher)
    (transfer / "39.txt").write_text("something else")
    with pytest.raises(BuildError, match="begun with another captions"):
        make(transfer, teacher, resume=True)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        pytest.param({"policy": "crops"}, UsageError, "--policy is of views, and captions have none", id="policy"),
        pytest.param({"crop_scale": (0.5, 1.0)}, UsageError, "--crop-scale is of views", id="crop scale"),
        pytest.param({"max_kl": 0.1}, UsageError, "--max-kl is not of features", id="promise of logits"),
        pytest.param({"teacher": "alone"}, ModelError, "has no text tower: import the whole pair", id="image tower"),
        pytest.param({"teacher": "timm"}, UsageError, "has no text tower, as it is no open_clip pair", id="no pair"),
    ],
)
def test_refusals(
    transfer: Path, teacher: str, change: dict[str, Any], error: type[ReinforceError], message: str
) -> None:
    for folder, name in (("alone", f"open_clip:{NAME}"), ("timm", "test_vit")):
        save_model(folder, *create_model(name, num_classes=0, image_size=32 if folder == "timm" else None))
    with pytest.raises(error, match=message) as caught:
        make(transfer, **{"teacher": teacher, **change})
    assert "\n" not in str(caught.value)


def test_an_image_without_a_caption_is_named(transfer: Path, teacher: str) -> None:
    (transfer / "03.txt").unlink()
    with pytest.raises(DataError, match=r"image '03\.png' of pairs has no caption: expected"):
        make(transfer, teacher)
