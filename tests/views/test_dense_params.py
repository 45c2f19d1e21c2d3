"""Parameters of dense views are a pure function of (policy, key, view, image size), drawn from fixed slots."""

from __future__ import annotations

import dataclasses
from fractions import Fraction

import dense_oracles
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from reinforce.views import DENSE_POLICY_NAMES, DensePolicy, dense_params, named_policy
from reinforce.views.dense_policy import resolve_dense_policy
from reinforce.views.words import MAX_VIEW

KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
SIZES = st.tuples(st.integers(1, 5000), st.integers(1, 5000))
LONGEST = 89_478_485


def policy_of(name: str, size_px: int = 32, **changes: int) -> DensePolicy:
    policy = named_policy(name, size_px=size_px, seed=11)
    assert isinstance(policy, DensePolicy)
    return dataclasses.replace(policy, **changes)


@given(name=st.sampled_from(DENSE_POLICY_NAMES), key=KEYS, view=st.integers(0, MAX_VIEW), size=SIZES)
@example(name="segmentation", key="k", view=0, size=(LONGEST, 1))
@example(name="whole", key="k", view=0, size=(1, LONGEST))
@settings(max_examples=400, deadline=None)
def test_params_equal_the_oracle(name: str, key: str, view: int, size: tuple[int, int]) -> None:
    policy = policy_of(name)
    drawn = dense_params(policy, key, view, size)
    assert drawn.to_json() == dense_oracles.params(policy.to_json(), key, view, size)
    assert drawn == dense_params(policy, key, view, size)


@given(
    key=KEYS,
    view=st.integers(0, 1000),
    size=SIZES,
    low=st.floats(0.01, 4),
    high=st.floats(0.01, 4),
    side=st.integers(1, 80),
)
@settings(max_examples=400, deadline=None)
def test_box_and_content_lie_inside_and_fill_what_they_can(
    key: str, view: int, size: tuple[int, int], low: float, high: float, side: int
) -> None:
    policy = resolve_dense_policy(name="any", size_px=side, short_side=(min(low, high), max(low, high)))
    drawn = dense_params(policy, key, view, size)
    for axis in (0, 1):
        start, length = drawn.box[axis], drawn.box[axis + 2]
        place, new_length = drawn.content[axis], drawn.content[axis + 2]
        assert 0 <= start < start + length <= size[axis]
        assert 0 <= place < place + new_length <= side
        is_padded = new_length < side
        assert not is_padded or (start, length) == (0, size[axis])  # padding only where the image has no more


@given(key=KEYS, view=st.integers(0, 1000), size=SIZES)
@settings(max_examples=200, deadline=None)
def test_shorter_side_is_resized_between_the_bounds(key: str, view: int, size: tuple[int, int]) -> None:
    """At the scale that the box was resized by, to the rounding of its ends to whole pixels of both images."""
    drawn = dense_params(policy_of("segmentation-crops", 64), key, view, size)
    for axis in (0, 1):
        length, new_length = drawn.box[axis + 2], drawn.content[axis + 2]
        assert Fraction(max(1, length - 1), 1) * 32 <= (new_length + 1) * min(size)
        assert (new_length - 1) * min(size) <= (length + 1) * 96


@given(size=SIZES, side=st.integers(1, 200))
@settings(max_examples=200, deadline=None)
def test_whole_shows_all_in_the_middle_of_every_view(size: tuple[int, int], side: int) -> None:
    policy = policy_of("whole", side)
    drawn = {dense_params(policy, key, view, size) for key in "ab" for view in range(3)}
    assert len(drawn) == 1
    (params,) = drawn
    left, top, width, height = params.content
    assert params.box == (0, 0, *size)
    assert max(width, height) == side
    assert (left, top) == ((side - width) // 2, (side - height) // 2)
    longer, shorter = max(size), min(size)
    assert min(width, height) == pytest.approx(side * shorter / longer, abs=0.5) or min(width, height) == 1
    assert (params.flip, params.ops, params.rotate) == (False, (), None)


@given(key=KEYS, view=st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_every_parameter_keeps_its_slot(key: str, view: int) -> None:
    """Turning any part of a policy off changes no other part."""
    full = policy_of("segmentation", noise_q32=1 << 31)
    whole = dense_params(full, key, view, (90, 70))
    distortions = {"brightness", "contrast", "saturation", "hue"}
    variants = {
        "flip": (policy_of("segmentation", noise_q32=1 << 31, flip_q32=0), set[str]()),
        "rotate": (policy_of("segmentation", noise_q32=1 << 31, rotate_q32=0), set[str]()),
        "distort": (policy_of("segmentation", noise_q32=1 << 31, distort_q32=0), distortions),
        "blur": (policy_of("segmentation", noise_q32=1 << 31, blur_q32=0), {"blur"}),
        "noise": (policy_of("segmentation", noise_q32=0), {"noise"}),
    }
    for changed, (policy, gone) in variants.items():
        other = dense_params(policy, key, view, (90, 70))
        assert (other.box, other.content) == (whole.box, whole.content)
        assert changed == "flip" or other.flip == whole.flip
        assert changed == "rotate" or other.rotate == whole.rotate
        assert other.ops == tuple(op for op in whole.ops if op[0] not in gone)


def test_chances_and_choices_have_their_frequencies() -> None:
    policy, num = policy_of("segmentation", 512), 3000
    drawn = [dense_params(policy, f"key {n % 200}", n // 200, (500, 375)) for n in range(num)]
    chances = {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.5, "blur": 0.5, "noise": 0.1}
    for name, chance in chances.items():
        assert sum(name in [op[0] for op in p.ops] for p in drawn) / num == pytest.approx(chance, abs=0.035)
    both = [[op[0] for op in p.ops if op[0] in {"contrast", "hue"}] for p in drawn]
    orders = [order for order in both if len(order) == 2]
    assert sum(order[0] == "contrast" for order in orders) / len(orders) == pytest.approx(0.5, abs=0.06)
    assert sum(p.flip for p in drawn) / num == pytest.approx(0.5, abs=0.03)
    assert {p.rotate for p in drawn} == set(policy.rotations_q16)
    arguments = {op[0]: {o[1] for p in drawn for o in p.ops if o[0] == op[0]} for p in drawn for op in p.ops}
    assert (min(arguments["brightness"]), max(arguments["brightness"])) == (224, 288)
    assert arguments["blur"] == {1, 2, 3, 4}
    padded = sum(p.content != (0, 0, 512, 512) for p in drawn) / num
    assert padded == pytest.approx(0.5, abs=0.03)  # where the shorter side is below 512 of 256..768 px


@pytest.mark.parametrize("view", [-1, 1 << 32])
def test_indices_out_of_range_are_refused(view: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        dense_params(policy_of("whole"), "k", view, (9, 9))
