"""Masks move exactly as images do, and valid says which pixels are the image's."""

from __future__ import annotations

from typing import Any

import dense_oracles
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from view_images import encode, pattern, png

from reinforce.errors import DataError, UndecodableImageError, UsageError
from reinforce.views import DENSE_POLICY_NAMES, DensePolicy, UnitReplayer, named_policy, resolve_dense_policy
from reinforce.views.placement import Placement

FILL = (255, 0, 255)
GEOMETRY = resolve_dense_policy(name="geometry", size_px=32, rotate_prob=0.5, fill=FILL)
POLICIES = {name: named_policy(name, size_px=32, seed=3) for name in (*DENSE_POLICY_NAMES, "crops", "center")}
CLASS_COLORS = np.array([[20, 200, 40], [200, 40, 20], [40, 20, 200], [230, 230, 20]], dtype=np.uint8)


def replayer(policy: Any, *images: bytes) -> UnitReplayer:
    return UnitReplayer(policy, [f"{n}.png" for n in range(len(images))], images.__getitem__)


def scene(width: int, height: int) -> np.ndarray:
    """Class ids (H, W): one in each quarter, a little off the middle."""
    y, x = np.mgrid[:height, :width]
    return ((9 * x > 4 * width) + 2 * (7 * y > 4 * height)).astype(np.uint8)


def as_png(pixels: np.ndarray, **options: Any) -> bytes:
    return encode(Image.fromarray(pixels), "PNG", **options)


def _inner(labels: np.ndarray) -> np.ndarray:
    """True where all of the 9 x 9 pixels around are in the view and have the same label."""
    around = np.pad(labels, 4, constant_values=254)
    windows = np.lib.stride_tricks.sliding_window_view(around, (9, 9))
    return np.asarray((windows == labels[..., None, None]).all(axis=(2, 3)))


@st.composite
def placements(draw: st.DrawFn) -> tuple[Placement, tuple[int, int]]:
    side = draw(st.integers(1, 9))
    size = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    left, top = draw(st.integers(0, size[0] - 1)), draw(st.integers(0, size[1] - 1))
    box = (left, top, draw(st.integers(1, size[0] - left)), draw(st.integers(1, size[1] - top)))
    x, y = draw(st.integers(0, side - 1)), draw(st.integers(0, side - 1))
    content = (x, y, draw(st.integers(1, side - x)), draw(st.integers(1, side - y)))
    angles = st.tuples(st.integers(-65536, 65536), st.integers(-65536, 65536))
    rotate = draw(st.none() | angles | st.sampled_from(GEOMETRY.rotations_q16))
    return Placement(size_px=side, box=box, content=content, flip=draw(st.booleans()), rotate=rotate), size


class TestPlacement:
    @given(placed=placements(), data=st.data())
    @settings(max_examples=300, deadline=None)
    def test_labels_and_valid_equal_the_oracle(
        self, placed: tuple[Placement, tuple[int, int]], data: st.DataObject
    ) -> None:
        placement, size = placed
        mask = data.draw(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40))))
        drawn = {name: getattr(placement, name) for name in ("box", "content", "flip", "rotate")}
        expected = dense_oracles.labels(mask, drawn, placement.size_px, size)
        labels, valid = placement.labels(size, mask), placement.valid()
        np.testing.assert_array_equal(labels, expected)
        np.testing.assert_array_equal(valid, dense_oracles.valid(drawn, placement.size_px))
        assert (labels[~valid] == 255).all()
        assert (labels.dtype, valid.dtype) == (np.uint8, np.bool_)

    @pytest.mark.parametrize("degrees", [10, -10])
    def test_the_largest_views_rotate_without_overflow(self, degrees: int) -> None:
        side = 4096
        cos, sin = round(65536 * np.cos(np.radians(degrees))), round(65536 * np.sin(np.radians(degrees)))
        whole = (0, 0, side, side)
        valid = Placement(size_px=side, box=whole, content=whole, flip=False, rotate=(cos, sin)).valid()
        assert valid[side // 2].all()
        assert not valid[[0, 0, -1, -1], [0, -1, 0, -1]].any()
        np.testing.assert_array_equal(valid, valid[::-1, ::-1])


@pytest.mark.parametrize("size", [(150, 100), (64, 64), (50, 70), (20, 25), (500, 300)], ids=str)
class TestImageAndMaskMoveTogether:
    """The image's colours are its classes, so that a view can be compared with its labels."""

    @pytest.mark.parametrize("policy", [GEOMETRY, POLICIES["segmentation-crops"], POLICIES["whole"], POLICIES["crops"],
                                        POLICIES["center"]], ids=lambda policy: str(policy.name))  # fmt: skip
    def test_labels_are_the_classes_of_the_colors(self, size: tuple[int, int], policy: Any) -> None:
        mask = scene(*size)
        one = replayer(policy, as_png(CLASS_COLORS[mask]))
        compared = 0
        for view in range(20):
            labels = one.labels(0, view, mask)
            inner = _inner(labels) & (labels != 255)
            distances = np.abs(one.view(0, view)[..., None, :].astype(int) - CLASS_COLORS).sum(axis=-1)
            np.testing.assert_array_equal(distances.argmin(axis=-1)[inner], labels[inner])
            assert distances.min(axis=-1)[inner].max(initial=0) == 0
            compared += int(inner.sum())
        assert compared > 20 * 30

    def test_valid_is_exactly_where_there_is_no_padding(self, size: tuple[int, int]) -> None:
        """White images, so every pixel that is not the fill colour has some of the image, and the other way round."""
        one = replayer(GEOMETRY, as_png(np.full((size[1], size[0], 3), 255, dtype=np.uint8)))
        seen = set()
        for view in range(30):
            green, valid = one.view(0, view)[..., 1], one.valid(0, view)  # 255 in the image, 0 in the fill
            rotated = one.params(0, view).to_json()["rotate"] is not None
            np.testing.assert_array_equal(valid if not rotated else green > 0, green > 0)
            assert (green[valid] >= (63 if rotated else 255)).all()  # a corner of the content: a quarter at least
            assert (green[~valid] <= (191 if rotated else 0)).all()
            seen |= {(rotated, bool(valid.all()))}
        assert {rotated for rotated, _ in seen} == {True, False}

    def test_labels_are_the_mask_where_it_is_valid_and_255_elsewhere(self, size: tuple[int, int]) -> None:
        one = replayer(POLICIES["segmentation"], png(*size))
        for view in range(10):
            labels = one.labels(0, view, np.zeros((size[1], size[0]), dtype=np.uint8))
            np.testing.assert_array_equal(labels == 0, one.valid(0, view))
            np.testing.assert_array_equal(labels == 255, ~one.valid(0, view))


class TestOriginalSize:
    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize("size", [(70, 50), (300, 263)], ids=str)
    def test_masks_have_the_size_after_the_orientation(self, size: tuple[int, int], orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        upright = scene(*size)
        turned = np.asarray(Image.fromarray(upright).transpose(TURNS[orientation])) if orientation > 1 else upright
        one = replayer(named_policy("whole", size_px=48), as_png(CLASS_COLORS[upright], exif=exif))
        assert one.original_size(0) == turned.shape[::-1]
        labels = one.labels(0, 0, turned)
        inner = _inner(labels) & (labels != 255)
        assert inner.sum() > 100
        np.testing.assert_array_equal(one.view(0, 0)[inner], CLASS_COLORS[labels[inner]])

    def test_reduced_images_move_masks_of_the_original(self) -> None:
        mask = scene(1023, 769)
        one = replayer(POLICIES["segmentation-crops"], as_png(CLASS_COLORS[mask]))
        assert one.image(0).size == (255, 192)
        drawn = one.params(0, 1).to_json()
        np.testing.assert_array_equal(one.labels(0, 1, mask), dense_oracles.labels(mask, drawn, 32, (255, 192)))

    @pytest.mark.parametrize(
        ("mask", "text"),
        [
            (np.zeros((20, 30), np.uint8), "is 30x20 px of uint8, its image 20x30 px"),
            (np.zeros((30, 20, 3), np.uint8), "is 20x30x3 px of uint8"),
            (np.zeros((30, 20), np.int64), "of int64"),
            (np.zeros((), np.uint8), "of uint8"),
        ],
        ids=["turned", "RGB", "int64", "no image"],
    )
    def test_wrong_masks_are_refused_by_name(self, mask: Any, text: str) -> None:
        with pytest.raises(DataError, match=text) as caught:
            replayer(GEOMETRY, png(20, 30)).labels(0, 0, mask)
        assert "mask of '0.png'" in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_bad_rows_have_neither_valid_nor_labels(self) -> None:
        one = replayer(GEOMETRY, b"")
        with pytest.raises(UndecodableImageError):
            one.valid(0, 0)
        with pytest.raises(UndecodableImageError):
            one.labels(0, 0, np.zeros((4, 4), np.uint8))
        with pytest.raises(UndecodableImageError):
            one.original_size(0)

    def test_policies_that_change_more_than_places_refuse(self) -> None:
        with pytest.raises(UsageError, match="'randaugment' does not move masks"):
            replayer(named_policy("randaugment", size_px=8), png(9, 9)).labels(0, 0, np.zeros((9, 9), np.uint8))


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 2)], ids=str)
def test_tiny_images_have_views_labels_and_valid(size: tuple[int, int]) -> None:
    for policy in POLICIES.values():
        one = replayer(policy, png(*size))
        for view in range(6):
            assert one.view(0, view).shape == (32, 32, 3)
            labels = one.labels(0, view, np.full(size[::-1], 5, dtype=np.uint8))
            assert set(labels[one.valid(0, view)].flat) <= {5}


def test_stages_come_in_order_and_only_where_something_is_done() -> None:
    policy = named_policy("segmentation", size_px=24, seed=1)
    assert isinstance(policy, DensePolicy)
    one = replayer(policy, as_png(pattern(60, 40)))
    order = ["decode", "crop", "flip", "brightness", "contrast", "saturation", "hue", "blur", "noise", "pad", "rotate"]
    seen: set[str] = set()
    for view in range(60):
        stages, drawn = one.stages(0, view), one.params(0, view).to_json()
        names = [stage for stage, _ in stages]
        assert len(set(names)) == len(names)
        plain = [name for name in names if name != "contrast"]
        assert plain == sorted(plain, key=order.index)
        assert [name for name in names if name in order[3:9]] == [op[0] for op in drawn["ops"]]
        assert ("flip" in names, "pad" in names) == (drawn["flip"], drawn["content"] != [0, 0, 24, 24])
        assert dict(stages)["crop"].shape == (drawn["content"][3], drawn["content"][2], 3)
        assert stages[-1][1].tobytes() == one.view(0, view).tobytes()
        seen |= set(names)
    assert seen == set(order)
