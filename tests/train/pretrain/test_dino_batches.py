"""Batches of crops: functions of (seed, key, epoch, crop), one decode an image, bad images passed over."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from reinforce.data import open_source
from reinforce.errors import DataError
from reinforce.views import UnitReplayer, resolve_multi_crop
from train.pretrain.dino_views import CropViews, PlainViews
from train.pretrain.transfer_images import hold_out, list_images


@pytest.fixture
def views(colours: Path) -> CropViews:
    source = open_source(str(colours))
    crops = resolve_multi_crop(size_px=32, local_px=16, seed=4)
    return CropViews(source, list_images(source, None), crops, num_small=3, seed=4)


def test_every_crop_is_the_view_that_its_policy_gives(views: CropViews) -> None:
    batch = views.load(np.array([5, 2]), epoch=7)
    assert batch.inputs.shape == (2, 2, 32, 32, 3)
    assert batch.small.shape == (2, 3, 16, 16, 3)
    image = views.samples[2]
    crops = [*batch.inputs[1], *batch.small[1]]
    policies = [views.crops.first, views.crops.second, *[views.crops.local] * 3]
    for number, (crop, policy) in enumerate(zip(crops, policies, strict=True)):
        replayer = UnitReplayer(policy, [image.key], lambda row: views.source.read(image.shard, image.row))
        np.testing.assert_array_equal(crop.numpy(), replayer.view(0, 7 * 5 + number))
    assert len({crop.numpy().tobytes() for crop in crops}) == 5


def test_rows_depend_on_nothing_else(views: CropViews) -> None:
    whole, alone = views.load(np.array([5, 2, 9]), 1), pickle.loads(pickle.dumps(views)).load(np.array([9]), 1)
    assert torch.equal(whole.inputs[2:], alone.inputs)
    assert torch.equal(whole.small[2:], alone.small)
    assert not torch.equal(alone.inputs, views.load(np.array([9]), 2).inputs)


def test_a_batch_moves_whole(views: CropViews) -> None:
    moved = views.load(np.array([1]), 0).to(torch.device("meta"))
    assert (moved.inputs.device.type, moved.small.device.type, len(moved)) == ("meta", "meta", 1)


def test_no_small_crops(views: CropViews) -> None:
    views.num_small = 0
    assert views.load(np.array([1, 2]), 0).small.shape == (2, 0, 16, 16, 3)


def test_bad_images_are_passed_over_and_named(colours: Path) -> None:
    bad = sorted((colours / "train" / "blue").iterdir())[0]
    bad.write_bytes(b"nothing")
    source = open_source(str(colours / "train" / "blue"))
    images = list_images(source, None)
    crops = resolve_multi_crop(size_px=32, local_px=16)
    batch = CropViews(source, images, crops, num_small=1, seed=0).load(np.array([0, 1]), 0)
    assert [key for key, _ in batch.skipped] == [images[0].key]
    assert torch.equal(batch.inputs[0], batch.inputs[1])  # the next one stands in
    assert len(PlainViews(source, images, size_px=32).load(np.array([0, 1]), 0)) == 1
    with pytest.raises(DataError, match="none of the 1 training image can be decoded"):
        CropViews(source, images[:1], crops, num_small=0, seed=0).load(np.array([0]), 0)


@pytest.mark.parametrize(("num", "most", "expected"), [(19, 1000, 0), (20, 1000, 1), (100, 1000, 5), (100, 2, 2)])
def test_one_in_twenty_is_kept_from_training(num: int, most: int, expected: int) -> None:
    images: list[Any] = list(range(num))
    train, kept = hold_out(images, most)
    assert len(kept) == expected
    assert sorted(train + kept) == images
