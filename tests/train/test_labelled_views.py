"""Labelled images as batches: pure functions of (row, epoch), honest labels of mixed views, bad files passed over."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reinforce.data import open_labelled
from reinforce.errors import DataError
from reinforce.views import ViewPolicy, named_policy
from train.labelled import PlainViews, TrainingViews


def training_views(root: Path, policy: str = "classification", seed: int = 0) -> TrainingViews:
    dataset = open_labelled(str(root))
    return TrainingViews(dataset.source, dataset.split("train"), named_policy(policy, size_px=24, seed=3),
                         num_classes=3, seed=seed)  # fmt: skip


def plain_views(root: Path, split: str = "test") -> PlainViews:
    dataset = open_labelled(str(root))
    return PlainViews(dataset.source, dataset.split(split), num_classes=3, size_px=24)


def test_batches_are_functions_of_row_and_epoch(colours: Path) -> None:
    rows = np.array([5, 0, 17])
    first, again = training_views(colours), pickle.loads(pickle.dumps(training_views(colours)))
    batch = first.load(rows, 2)
    first.load(rows, 0)
    for views in (first, again):
        same = views.load(rows[::-1].copy(), 2)
        assert torch.equal(same.inputs.flip(0), batch.inputs)
        assert torch.equal(same.targets.flip(0), batch.targets)
    assert not torch.equal(first.load(rows, 3).inputs, batch.inputs)
    assert (batch.inputs.dtype, batch.inputs.shape) == (torch.uint8, (3, 24, 24, 3))


def test_unmixed_views_have_one_hot_labels_in_listing_order(colours: Path) -> None:
    views = training_views(colours, "randaugment")
    targets = views.load(np.arange(24), 0).targets
    assert torch.equal(targets, torch.eye(3).repeat_interleave(8, dim=0))


def test_labels_of_mixed_views_are_the_share_of_pixels(tmp_path: Path) -> None:
    """Black, grey and white images without any other augmentation: the mean brightness tells what was mixed."""
    levels = {"a": 0, "b": 128, "c": 255}
    for name, level in levels.items():
        for index in range(4):
            folder = tmp_path / "grey" / "train" / name
            folder.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (24, 24), (level,) * 3).save(folder / f"{index}.png")
    dataset = open_labelled(str(tmp_path / "grey"))
    samples = dataset.split("train")
    policy = mixing_only(24)
    views = TrainingViews(dataset.source, samples, policy, num_classes=3, seed=0)
    values = np.array(list(levels.values()))
    num_mixed = 0
    for view in range(8):
        batch = views.load(np.arange(len(samples)), view)
        brightness = batch.inputs.double().mean(dim=(1, 2, 3)).numpy()
        np.testing.assert_allclose(batch.targets.numpy() @ values, brightness, atol=0.6)
        np.testing.assert_allclose(batch.targets.sum(1), 1, atol=1e-6)
        num_mixed += int((batch.targets.max(1).values < 1).sum())
    assert num_mixed > 20


def mixing_only(size_px: int) -> ViewPolicy:
    """MixUp and CutMix alone, of the named policy's tables."""
    policy = named_policy("classification", size_px=size_px, crop_scale=(1.0, 1.0))
    return dataclasses.replace(policy, flip_q32=0, num_ops=0, erase_q32=0)


@pytest.fixture
def damaged(colours: Path) -> Path:
    (colours / "train" / "blue" / "train-blue-3.png").write_bytes(b"not an image")
    (colours / "test" / "green" / "test-green-0.png").write_bytes(b"")
    return colours


def test_training_puts_the_next_image_in_place_of_a_bad_one(damaged: Path) -> None:
    views = training_views(damaged, "crops")
    bad = [i for i, sample in enumerate(views.samples) if sample.key.endswith("train-blue-3.png")]
    batch = views.load(np.array([bad[0], bad[0] + 1]), 0)
    assert torch.equal(batch.inputs[0], batch.inputs[1])
    assert [key for key, _ in batch.skipped] == ["train/blue/train-blue-3.png"]


def test_mixing_with_a_bad_partner_leaves_label_and_pixels_unmixed(damaged: Path) -> None:
    views = training_views(damaged)
    bad = next(i for i, sample in enumerate(views.samples) if sample.key.endswith("train-blue-3.png"))
    drawn = [(row, view) for view in range(60) for row in range(24) if row != bad
             and views.replayer._drawn(row, view).mix is not None
             and views.replayer._drawn(row, view).mix[1] == bad]  # type: ignore[index]  # fmt: skip
    assert drawn
    for row, view in drawn:
        assert views.load(np.array([row]), view).targets.max() == 1


def test_evaluation_leaves_bad_images_out(damaged: Path) -> None:
    views = plain_views(damaged)
    batch = views.load(views.epoch_order(0), 0)
    assert len(batch) == 14
    assert batch.targets.sum(0).tolist() == [5, 4, 5]
    assert [key for key, _ in batch.skipped] == ["test/green/test-green-0.png"]


def test_all_images_bad_is_one_line(colours: Path) -> None:
    for path in (colours / "train").rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(DataError, match="none of the 24 training images can be decoded"):
        training_views(colours).load(np.array([0]), 0)
