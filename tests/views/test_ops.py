"""Every pixel operation equals its integer formula, computed without Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import view_oracles
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from view_images import pattern, smooth

from reinforce.views import named_policy, ops, replay, view_params
from reinforce.views.ops import OP_ARITY
from reinforce.views.tables import randaugment_table

FILL = (124, 116, 104)
PIXELS = arrays(np.uint8, st.integers(1, 12).map(lambda side: (side, side, 3)))
ARGUMENTS = {
    **dict.fromkeys(["brightness", "color", "contrast", "sharpness"], st.tuples(st.integers(0, 512))),
    **dict.fromkeys(["shear_x", "shear_y"], st.tuples(st.integers(-40000, 40000))),
    **dict.fromkeys(["translate_x", "translate_y"], st.tuples(st.integers(-13, 13))),
    **dict.fromkeys(["identity", "autocontrast", "equalize"], st.just(())),
    "rotate": st.tuples(st.integers(30000, 65536), st.integers(-40000, 40000)),
    "posterize": st.tuples(st.integers(1, 8)),
    "solarize": st.tuples(st.integers(0, 255)),
}


@pytest.mark.parametrize("name", sorted(OP_ARITY))
class TestOpContract:
    @given(pixels=PIXELS, data=st.data())
    @settings(max_examples=40, deadline=None)
    def test_equals_the_oracle(self, name: str, pixels: np.ndarray, data: st.DataObject) -> None:
        drawn = (name, *data.draw(ARGUMENTS[name]))
        image = Image.fromarray(pixels)
        result = np.array(ops.apply_op(image, drawn, FILL))
        np.testing.assert_array_equal(result, view_oracles.op(pixels, drawn, FILL))
        np.testing.assert_array_equal(np.array(image), pixels)  # the input is left alone

    @pytest.mark.parametrize("magnitude", [0, 9, 30])
    def test_randaugment_arguments_equal_the_oracle(self, name: str, magnitude: int) -> None:
        table = {op: (plus, minus) for op, plus, minus in randaugment_table(24, magnitude)}
        pixels = np.array(smooth(24, 24, magnitude))
        for args in table[name]:
            result = np.array(ops.apply_op(Image.fromarray(pixels), (name, *args), FILL))
            np.testing.assert_array_equal(result, view_oracles.op(pixels, (name, *args), FILL))


def test_sharpening_rounds_like_the_formula_for_every_sum() -> None:
    """Pillow divides by 13 in floats: no sum of the kernel may come out elsewhere."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    result = np.array(ops.apply_op(Image.fromarray(pixels), ("sharpness", 0), FILL))
    np.testing.assert_array_equal(result, view_oracles.op(pixels, ("sharpness", 0), FILL))


@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    new_size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    number=st.integers(0, 99),
    data=st.data(),
)
@settings(max_examples=100, deadline=None)
def test_resized_boxes_equal_the_oracle(
    size: tuple[int, int], new_size: tuple[int, int], number: int, data: st.DataObject
) -> None:
    left, top = data.draw(st.integers(0, size[0] - 1)), data.draw(st.integers(0, size[1] - 1))
    box = (left, top, data.draw(st.integers(1, size[0] - left)), data.draw(st.integers(1, size[1] - top)))
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    result = np.array(ops.resize_box(image, box, new_size))
    np.testing.assert_array_equal(result, view_oracles.resize_box(pixels, box, new_size))
    square = np.array(ops.resize_crop(image, box, new_size[0]))
    np.testing.assert_array_equal(square, view_oracles.resize(pixels, box, new_size[0]))


@given(weight=st.integers(0, 256), own=PIXELS, seed=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_mixup_equals_the_oracle(weight: int, own: np.ndarray, seed: int) -> None:
    partner = np.random.default_rng(seed).integers(0, 256, own.shape, dtype=np.uint8)
    np.testing.assert_array_equal(
        ops.mixup(own, partner, weight), view_oracles.mixed(own, partner, ["mixup", 0, weight])
    )


def test_mixup_of_every_pair_of_levels() -> None:
    own, partner = (level.astype(np.uint8) for level in np.mgrid[:256, :256])
    for weight in (0, 1, 127, 128, 200, 255, 256):
        expected = (weight * own.astype(int) + (256 - weight) * partner.astype(int) + 128) // 256
        np.testing.assert_array_equal(ops.mixup(own, partner, weight), expected)


def test_cutmix_takes_the_rectangle_from_the_partner() -> None:
    own, partner = pattern(8, 8, 0), pattern(8, 8, 1)
    mixed = ops.cutmix(own, partner, (2, 1, 3, 5))
    np.testing.assert_array_equal(mixed[1:6, 2:5], partner[1:6, 2:5])
    assert (mixed != own).any(axis=2).sum() == 15
    np.testing.assert_array_equal(own, pattern(8, 8, 0))


@pytest.mark.parametrize("view", range(24))
def test_whole_views_equal_the_oracle(view: int) -> None:
    """Params and pixels of the full policy, from the images' arrays to the mixed view, without Pillow."""
    policy = named_policy("classification", size_px=16, seed=2)
    document = policy.to_json()
    images = [pattern(40, 30, 0), pattern(25, 50, 1), pattern(16, 16, 2)]
    size = (40, 30)
    drawn = view_params(policy, "k0", view, size, 3, 0)
    expected = view_oracles.single(images[0], view_oracles.params(document, "k0", view, size, 3, 0), document)
    partner = None
    if drawn.mix is not None:
        row = drawn.mix[1]
        partner_size = (images[row].shape[1], images[row].shape[0])
        other = view_oracles.params(document, f"k{row}", view, partner_size, 3, row)
        partner = view_oracles.single(images[row], other, document)
        expected = view_oracles.mixed(expected, partner, list(drawn.mix))
    np.testing.assert_array_equal(replay(Image.fromarray(images[0]), drawn, policy, partner), expected)
