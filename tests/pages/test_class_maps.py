"""Colours of classes: told apart, the same everywhere; and the pictures that are painted with them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from reinforce.pages import class_colours, css, paint_classes
from reinforce.pages.class_maps import DARKEST, HATCH_RGB, OPACITY
from reinforce.pages.palette import BACKGROUND_RGB, FIRST_RGB, NUM_COLOURS, PADDING_RGB, oklab

JUST_NOTICEABLE = 0.02
"""In OKLab, about."""


def names(num: int) -> list[str]:
    return [f"class-{index}" for index in range(num)]


def nearest(colours_P3: np.ndarray) -> float:
    labs = oklab(colours_P3)
    return min(float(np.linalg.norm(one - other)) for one, other in combinations(labs, 2))


@pytest.mark.parametrize(("num", "steps"), [(20, 5), (64, 3), (NUM_COLOURS, 1)])
def test_colours_are_told_apart_from_each_other_from_background_and_from_padding(num: int, steps: int) -> None:
    others = np.array([BACKGROUND_RGB, PADDING_RGB, HATCH_RGB], np.uint8)
    assert nearest(np.concatenate([class_colours(names(num)), others])) > steps * JUST_NOTICEABLE


def test_blended_colours_of_twenty_classes_are_still_told_apart() -> None:
    for level in (0, 128, 255):
        under = np.full((1, 20, 3), level, np.uint8)
        painted = paint_classes(np.arange(20)[None], class_colours(names(20)), under_HW3=under)
        assert nearest(painted[0]) > 3.5 * JUST_NOTICEABLE


def test_a_class_has_one_colour_however_many_there_are() -> None:
    few, many = class_colours(names(3)), class_colours(names(NUM_COLOURS + 8))
    assert [tuple(rgb) for rgb in few.tolist()] == list(FIRST_RGB[:3])
    assert np.array_equal(many[:3], few)
    assert np.array_equal(many[NUM_COLOURS:], class_colours(names(8)))
    assert css(few[0]) == "#3b75d0"


@pytest.mark.parametrize("name", ["background", " Background"])
def test_background_is_grey_and_moves_no_other_colour(name: str) -> None:
    colours = class_colours(["sky", name, "sea"])
    assert tuple(colours[1].tolist()) == BACKGROUND_RGB
    assert np.array_equal(colours[[0, 2]], class_colours(names(3))[[0, 2]])


def test_oklab_of_known_colours() -> None:
    rgb = np.array([(255, 255, 255), (0, 0, 0), (255, 0, 0)], np.uint8)
    known = [(1, 0, 0), (0, 0, 0), (0.62796, 0.22486, 0.12585)]  # those of CSS Color 4
    np.testing.assert_allclose(oklab(rgb), known, atol=1e-4)


def test_pixels_have_their_class_s_colour_over_grey_levels() -> None:
    classes = np.array([[0, 1], [1, 0]])
    colours = class_colours(names(2))
    assert np.array_equal(paint_classes(classes, colours), colours[classes])
    under = np.array([[(255, 255, 255), (0, 0, 0)], [(255, 0, 0), (0, 0, 255)]], np.uint8)
    luma = np.array([[1, 0], [0.299, 0.114]])[..., None]
    grey = DARKEST + (255 - DARKEST) * luma
    expected = np.rint(OPACITY * colours[classes] + (1 - OPACITY) * grey)
    assert np.array_equal(paint_classes(classes, colours, under_HW3=under), expected)


def test_what_is_not_valid_is_dark_whatever_its_class() -> None:
    classes = np.full((12, 9), 255)
    valid = np.zeros((12, 9), np.bool_)
    valid[:, :2] = True
    classes[valid] = 1
    painted = paint_classes(classes, class_colours(names(2)), valid_HW=valid, under_HW3=np.zeros((12, 9, 3), np.uint8))
    assert {tuple(rgb) for rgb in painted[~valid].tolist()} == {HATCH_RGB, PADDING_RGB}
    assert len(np.unique(painted[valid], axis=0)) == 1
