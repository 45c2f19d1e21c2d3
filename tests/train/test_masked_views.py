"""Images with masks as batches: functions of (row, epoch), masks that move with their images, bad files."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from reinforce.data import IGNORE, open_masked
from reinforce.errors import DataError
from reinforce.views import named_policy
from train.masked import MaskedTrainingViews, MaskedViews, WholeViews

NAMES = ("ground", "red", "blue")


def training_views(root: Path, policy: str = "segmentation") -> MaskedTrainingViews:
    dataset = open_masked(str(root))
    return MaskedTrainingViews(dataset, dataset.split("train"), named_policy(policy, size_px=32, seed=3), seed=0)


def whole_views(root: Path, split: str = "test", size_px: int = 32) -> WholeViews:
    dataset = open_masked(str(root))
    return WholeViews(dataset, dataset.split(split), size_px=size_px)


def test_batches_are_functions_of_row_and_epoch(scenes: Path) -> None:
    rows = np.array([5, 0, 11])
    first, again = training_views(scenes), pickle.loads(pickle.dumps(training_views(scenes)))
    batch = first.load(rows, 2)
    first.load(rows, 0)
    for views in (first, again):
        same = views.load(rows[::-1].copy(), 2)
        assert torch.equal(same.inputs.flip(0), batch.inputs)
        assert torch.equal(same.targets.flip(0), batch.targets)
    assert not torch.equal(first.load(rows, 3).targets, batch.targets)
    assert (batch.inputs.dtype, batch.inputs.shape) == (torch.uint8, (3, 32, 32, 3))
    assert (batch.targets.dtype, batch.targets.shape) == (torch.uint8, (3, 32, 32))


@pytest.mark.parametrize("policy", ["segmentation-crops", "segmentation", "whole"])
def test_masks_move_with_their_images(policy: str, scenes: Path) -> None:
    """Red pixels are labelled red wherever they went; what is labelled nowhere is padding or the border."""
    views = training_views(scenes, policy)
    for epoch in range(3):
        batch = views.load(np.arange(12), epoch)
        pixels, labels = batch.inputs.double(), batch.targets
        assert set(labels.unique().tolist()) == {0, 1, 2, IGNORE}
        red_over_blue = pixels[..., 0] - pixels[..., 2]
        red, ground, blue = (red_over_blue[labels == label].mean().item() for label in (1, 0, 2))
        assert red > ground + 40
        assert blue < ground - 40


def test_whole_views_hold_the_mask_as_it_is(scenes: Path) -> None:
    views = whole_views(scenes)
    batch = views.load(np.array([3, 1]), 0)
    assert [truth.row for truth in batch.truths] == [3, 1]
    for truth, labels in zip(batch.truths, batch.targets, strict=True):
        expected = np.array(Image.open(scenes / "test" / "masks" / f"test-{truth.row}.png"))
        assert np.array_equal(truth.mask, expected)
        assert truth.content == (0, 4, 32, 24)
        assert (labels[:4] == IGNORE).all()
        assert (labels[28:] == IGNORE).all()
        assert (labels[4:28, 1:] != IGNORE).all()


def test_no_rows_are_an_empty_batch(scenes: Path) -> None:
    """A rank may have none of a small split's last batch."""
    batch = whole_views(scenes).load(np.array([], np.int64), 0)
    assert (len(batch), batch.truths, batch.inputs.shape) == (0, (), (0, 32, 32, 3))


def test_masks_are_read_once_as_far_as_memory_goes(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.masked.KEPT_MASK_BYTES", 2 * 30 * 40)
    views = training_views(scenes)
    first = views.load(np.arange(12), 0)
    for path in (scenes / "train" / "masks").iterdir():
        path.unlink()
    assert torch.equal(views.load(np.array([0, 1]), 0).targets, first.targets[:2])
    with pytest.raises(DataError):
        views.load(np.array([2]), 0)
    assert not pickle.loads(pickle.dumps(views))._masks


@pytest.fixture
def damaged(scenes: Path) -> Path:
    """Headers are right, so that the sizes are known, but the pixels are cut off."""
    for split in ("train", "test"):
        path = scenes / split / "images" / f"{split}-3.png"
        path.write_bytes(path.read_bytes()[:200])
    return scenes


def test_training_puts_the_next_image_in_place_of_a_bad_one(damaged: Path) -> None:
    views = training_views(damaged)
    bad = [i for i, sample in enumerate(views.samples) if sample.key.endswith("train-3.png")]
    batch = views.load(np.array([bad[0], bad[0] + 1]), 0)
    assert torch.equal(batch.inputs[0], batch.inputs[1])
    assert torch.equal(batch.targets[0], batch.targets[1])
    assert [key for key, _ in batch.skipped] == ["train/images/train-3.png"]


def test_evaluation_leaves_bad_images_out(damaged: Path) -> None:
    batch = whole_views(damaged).load(np.arange(5), 0)
    assert [truth.row for truth in batch.truths] == [0, 1, 2, 4]
    assert [key for key, _ in batch.skipped] == ["test/images/test-3.png"]
    assert len(batch.targets) == 4


@pytest.mark.parametrize("make", [training_views, whole_views], ids=["training", "evaluation"])
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        pytest.param(np.full((30, 40), 7, np.uint8), "holds the value 7", id="a value beyond the classes"),
        pytest.param(np.zeros((40, 30), np.uint8), "30x40", id="another size than its image"),
        pytest.param(np.zeros((30, 40, 3), np.uint8), "RGB", id="colours"),
    ],
)
def test_a_wrong_mask_is_one_line_that_names_it(make: type[MaskedViews], mask: np.ndarray, message: str,
                                                scenes: Path) -> None:  # fmt: skip
    for split in ("train", "test"):
        Image.fromarray(mask).save(scenes / split / "masks" / f"{split}-1.png")
    views = make(scenes)  # type: ignore[call-arg, arg-type]
    row = next(i for i, sample in enumerate(views.samples) if sample.key.endswith("-1.png"))
    with pytest.raises(DataError, match=rf"-1\.png.*{message}"):
        views.load(np.array([row]), 0)  # type: ignore[attr-defined]
