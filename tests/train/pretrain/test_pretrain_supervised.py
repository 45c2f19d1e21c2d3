"""Supervised pretraining: what it writes is a model that finetune takes to another dataset."""

from __future__ import annotations

from pathlib import Path

import pytest

from reinforce.errors import UsageError
from reinforce.models import load_model
from train.finetune import FinetuneConfig, finetune
from train.pretrain.pretrain import PretrainConfig, pretrain
from train.results import LabelledResult

SMALL = {"model": "test_efficientnet", "image_size": 32, "batch_size": 8, "quiet": True, "device": "cpu"}


def test_finetune_takes_it_to_other_classes(colours: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    for split in ("train", "val", "test"):
        for name in ("blue", "red"):
            (other / split).mkdir(parents=True, exist_ok=True)
            (other / split / f"very-{name}").symlink_to(colours / split / name)
    first = pretrain(PretrainConfig(method="supervised", data=str(colours), out="run", lr=3e-3, steps=30, **SMALL))
    assert isinstance(first, LabelledResult)
    assert first.val_accuracy is not None
    assert first.val_accuracy > 0.9
    _, info = load_model("run")
    assert info.provenance["training"]["verb"] == "pretrain"
    assert info.class_names == ("blue", "green", "red")
    second = finetune(FinetuneConfig(model="run", data=str(other), out="ft", steps=4, lr=(1e-3,), batch_size=8,
                                     quiet=True, device="cpu"))  # fmt: skip
    assert isinstance(second, LabelledResult)
    _, info = load_model("ft")
    assert info.class_names == ("very-blue", "very-red")
    assert info.provenance["training"]["before"]["verb"] == "pretrain"


def test_images_without_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs --data"):
        pretrain(PretrainConfig(method="supervised", transfer=str(tmp_path), out="run", **SMALL))
