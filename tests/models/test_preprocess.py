from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reinforce.models import Preprocess

NEUTRAL = Preprocess(image_size=8, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="bilinear")
IMAGENET = Preprocess(image_size=8, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), interpolation="bicubic")


def views(size: int, batch: int = 2, low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(0).integers(low, high, (batch, size, size, 3), np.uint8)


def test_equal_sizes_are_only_normalised() -> None:
    x = views(8)
    expected = (x.astype(np.float64) / 255 - IMAGENET.mean) / IMAGENET.std
    np.testing.assert_allclose(IMAGENET(x).numpy(), expected.transpose(0, 3, 1, 2), atol=1e-5)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [5, 16, 40])
def test_other_sizes_are_resized_as_pillow_does(size: int, interpolation: str) -> None:
    """Pillow's filters are the antialiased ones that published models were evaluated with.

    It rounds and clips to uint8 after each direction: hence the tolerance, and values away from both ends.
    """
    prepare = Preprocess(image_size=8, mean=(0, 0, 0), std=(1, 1, 1), interpolation=interpolation)  # type: ignore[arg-type]
    x = views(size, batch=1, low=80, high=176)
    filter_ = Image.Resampling[interpolation.upper()]
    expected = np.asarray(Image.fromarray(x[0]).resize((8, 8), filter_))
    got = prepare(x)[0].permute(1, 2, 0).numpy() * 255
    np.testing.assert_allclose(got, expected, atol=1.5)


@settings(max_examples=25, deadline=None)
@given(value=st.integers(0, 255), size=st.integers(1, 20))
def test_a_plain_view_stays_plain_and_in_range(value: int, size: int) -> None:
    out = NEUTRAL(np.full((1, size, size, 3), value, np.uint8))
    np.testing.assert_allclose(out.numpy(), value / 255, atol=1e-5)


def test_bicubic_does_not_leave_the_range() -> None:
    edge = np.zeros((1, 4, 4, 3), np.uint8)
    edge[:, :, 2:] = 255
    out = Preprocess(image_size=16, mean=(0, 0, 0), std=(1, 1, 1), interpolation="bicubic")(edge)
    assert float(out.min()) >= 0
    assert float(out.max()) <= 1


def test_tensors_and_arrays_give_equal_contiguous_float32_and_stay_unchanged() -> None:
    x = views(8)
    kept = x.copy()
    out = IMAGENET(torch.from_numpy(x), "cpu")
    assert torch.equal(out, IMAGENET(x))
    assert out.dtype == torch.float32
    assert out.is_contiguous()
    np.testing.assert_array_equal(x, kept)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param(np.zeros((1, 8, 8, 3), np.float32), id="float"),
        pytest.param(np.zeros((8, 8, 3), np.uint8), id="no batch"),
        pytest.param(np.zeros((1, 3, 8, 8), np.uint8), id="channels first"),
        pytest.param(np.zeros((1, 8, 9, 3), np.uint8), id="not square"),
    ],
)
def test_other_shapes_and_types_are_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8 views"):
        NEUTRAL(wrong)


def test_it_pickles() -> None:
    assert pickle.loads(pickle.dumps(IMAGENET)) == IMAGENET
