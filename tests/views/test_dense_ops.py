"""Every pixel operation of dense views equals its integer formula, computed without Pillow."""

from __future__ import annotations

import dense_oracles
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from view_images import pattern

from reinforce.views import DensePolicy, dense_ops, dense_params, named_policy, replay
from reinforce.views.tables import hue_table, rotation_table

PIXELS = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3)))
HUES = st.tuples(st.integers(-8192, 8192), st.integers(-8192, 8192)).map(lambda ab: (*ab, 4096 - sum(ab)))
ARGUMENTS = {
    **dict.fromkeys(["brightness", "contrast", "saturation"], st.tuples(st.integers(0, 1024))),
    "hue": HUES.filter(lambda hue: abs(hue[2]) <= 8192) | st.sampled_from(hue_table(18)),
    "blur": st.tuples(st.integers(1, 4)),
    "noise": st.tuples(st.integers(0, 65536), st.integers(0, (1 << 32) - 1)),
}


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
class TestDenseOpContract:
    @given(pixels=PIXELS, data=st.data())
    @settings(max_examples=60, deadline=None)
    def test_equals_the_oracle(self, name: str, pixels: np.ndarray, data: st.DataObject) -> None:
        drawn = (name, *data.draw(ARGUMENTS[name]))
        image = Image.fromarray(pixels)
        result = np.array(dense_ops.apply_dense_op(image, drawn))
        np.testing.assert_array_equal(result, dense_oracles.op(pixels, drawn))
        np.testing.assert_array_equal(np.array(image), pixels)  # the input is left alone


def test_all_operations_are_tried() -> None:
    assert set(ARGUMENTS) == set(dense_ops._OPS) == set(dense_oracles.OPS)


@pytest.mark.parametrize("hue", [*hue_table(18)[::9], *hue_table(60)[::18], (8192, -8192, 4096), (-8192, 4096, 8192)])
def test_hues_are_exact_for_every_pair_of_levels_and_keep_grey(hue: tuple[int, int, int]) -> None:
    red, green = np.mgrid[:256, :256].astype(np.uint8)
    for blue in (0, 77, 255):
        pixels = np.dstack([red, green, np.full_like(red, blue)])
        result = np.array(dense_ops.apply_dense_op(Image.fromarray(pixels), ("hue", *hue)))
        np.testing.assert_array_equal(result, dense_oracles.hue(pixels, *hue))
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    np.testing.assert_array_equal(np.array(dense_ops.apply_dense_op(Image.fromarray(grey), ("hue", *hue))), grey)


@pytest.mark.parametrize("radius", [1, 2, 3, 4])
def test_blur_keeps_flat_levels_and_has_its_variance(radius: int) -> None:
    for level in (0, 1, 128, 255):
        flat = Image.new("RGB", (9, 7), (level, level, level))
        assert set(np.array(dense_ops.apply_dense_op(flat, ("blur", radius))).flat) == {level}
    edge = np.zeros((21, 21, 3), dtype=np.uint8)
    edge[:, 10:] = 255
    line = np.array(dense_ops.apply_dense_op(Image.fromarray(edge), ("blur", radius)))[10, :, 0].astype(float)
    weights, places = np.diff(line), np.arange(20) - 9
    assert (weights * places**2).sum() / weights.sum() == pytest.approx(radius / 2, rel=0.05)


def test_noise_has_its_deviation_and_differs_by_field() -> None:
    grey = Image.new("RGB", (64, 64), (128, 128, 128))
    fields = [np.array(dense_ops.apply_dense_op(grey, ("noise", 4434, field))).astype(float) for field in (0, 1)]
    for noisy in fields:
        assert noisy.std() == pytest.approx(10, rel=0.05)  # 4434 / 65536 * 147.8
        assert noisy.mean() == pytest.approx(128, abs=0.5)
    assert abs(np.corrcoef(fields[0].ravel(), fields[1].ravel())[0, 1]) < 0.05


def test_hue_and_rotation_tables_are_symmetric_rotations() -> None:
    turns, angles = hue_table(18), rotation_table(10)
    assert (len(turns), turns[36]) == (73, (4096, 0, 0))
    assert (len(angles), angles[40]) == (81, (65536, 0))
    for cos, sin in angles:
        assert cos**2 + sin**2 == pytest.approx(2**32, rel=1e-4)
        assert (cos, -sin) in angles
    for a, b, c in turns:
        assert a * a + b * b + c * c == pytest.approx(4096**2, rel=1e-3)
        assert min(abs(a - x) + abs(c - y) + abs(b - z) for x, y, z in turns) <= 2  # the turn back swaps b and c


@pytest.mark.parametrize("name", ["segmentation", "segmentation-crops", "whole"])
@pytest.mark.parametrize("view", range(12))
def test_whole_views_equal_the_oracle(name: str, view: int) -> None:
    """Params and pixels of the full policy, from the image's array to the view, without Pillow."""
    policy = named_policy(name, size_px=16, seed=2)
    assert isinstance(policy, DensePolicy)
    image, document = pattern(40, 30, view), policy.to_json()
    drawn = dense_params(policy, "k", view, (40, 30))
    expected = dense_oracles.view(image, dense_oracles.params(document, "k", view, (40, 30)), document)
    np.testing.assert_array_equal(replay(Image.fromarray(image), drawn, policy), expected)
