"""Predicted masks against torch's own resizing, band by band; where the image lies in the view."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from train import prediction
from train.prediction import predicted_mask, resized_argmax

SIDES = st.integers(1, 20)


@given(SIDES, SIDES, SIDES, SIDES, st.integers(1, 6))
def test_is_the_argmax_of_bilinear_logits(height: int, width: int, new_height: int, new_width: int,
                                          num_classes: int) -> None:  # fmt: skip
    torch.manual_seed(height * 97 + width)
    logits = torch.randn(num_classes, height, width)
    size = (new_height, new_width)
    resized = functional.interpolate(logits[None].double(), size, mode="bilinear", align_corners=False)[0]
    found = resized_argmax(logits, size)
    assert (found.dtype, found.shape) == (torch.uint8, size)
    best = resized.max(dim=0).values
    chosen = resized.gather(0, found[None].long())[0]
    torch.testing.assert_close(chosen, best, atol=1e-5, rtol=0)  # where two classes tie, either is right


@pytest.mark.parametrize("band_bytes", [1, 3 * 4 * 5 * 31], ids=["a row", "three rows"])
def test_bands_change_nothing(band_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 9, 7)
    whole = resized_argmax(logits, (17, 31))
    monkeypatch.setattr(prediction, "BAND_BYTES", band_bytes)
    assert torch.equal(resized_argmax(logits, (17, 31)), whole)


def test_only_the_image_counts_and_not_the_padding_about_it() -> None:
    """Class 1 on the left half of an image of 16x8 px that lies in the middle of a 32 px view, class 2 around it."""
    map_Chw = torch.zeros(3, 32, 32)
    map_Chw[2] = 1
    map_Chw[0, 8:24, 12:20], map_Chw[1, 8:24, 12:16] = 2, 3
    mask = predicted_mask(map_Chw, 32, (12, 8, 8, 16), (32, 16))
    assert mask.shape == (32, 16)
    assert torch.equal(mask, (torch.arange(16) < 8).to(torch.uint8).expand(32, 16))


def test_low_precision_maps() -> None:
    map_Chw = torch.randn(4, 2, 2).bfloat16()
    assert torch.equal(
        predicted_mask(map_Chw, 8, (0, 2, 8, 4), (4, 8)), predicted_mask(map_Chw.float(), 8, (0, 2, 8, 4), (4, 8))
    )
