"""Parameters are a pure function of (policy, key, view, listing), drawn from fixed Philox slots."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import view_oracles
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforce.views import ViewPolicy, named_policy, view_params
from reinforce.views.params import NUM_WORDS
from reinforce.views.policies import VIEW_POLICY_NAMES
from reinforce.views.policy import resolve_policy
from reinforce.views.words import MAX_VIEW, draw_words

POLICIES = {name: named_policy(name, size_px=32, seed=11) for name in VIEW_POLICY_NAMES}
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
SIZES = st.tuples(st.integers(1, 5000), st.integers(1, 5000))


def test_oracle_gives_the_known_answers_of_philox() -> None:
    # the generator's published known answers, for zeros and for ones
    ones = (1 << 64) - 1
    assert [f"{w:016x}" for w in view_oracles.philox4x64((0, 0, 0, 0), (0, 0))] == [
        "16554d9eca36314c",
        "db20fe9d672d0fdc",
        "d7e772cee186176b",
        "7e68b68aec7ba23b",
    ]
    assert [f"{w:016x}" for w in view_oracles.philox4x64((ones,) * 4, (ones,) * 2)] == [
        "87b092c3013fe90b",
        "438c3c67be8d0224",
        "9cc7d7c69cd777b6",
        "a09caebf594f0ba0",
    ]


@given(seed=st.integers(0, 2**53 - 1), key=KEYS, view=st.integers(0, MAX_VIEW))
@settings(max_examples=50, deadline=None)
def test_words_are_plain_philox_counters(seed: int, key: str, view: int) -> None:
    assert draw_words(seed, key, view, NUM_WORDS) == view_oracles.words(seed, key, view)


@given(
    name=st.sampled_from(VIEW_POLICY_NAMES),
    key=KEYS,
    view=st.integers(0, MAX_VIEW),
    size=SIZES,
    num_rows=st.integers(1, 5000),
    data=st.data(),
)
@settings(max_examples=300, deadline=None)
def test_params_equal_the_oracle(
    name: str, key: str, view: int, size: tuple[int, int], num_rows: int, data: st.DataObject
) -> None:
    row = data.draw(st.integers(0, num_rows - 1))
    policy = POLICIES[name]
    drawn = view_params(policy, key, view, size, num_rows, row)
    assert drawn.to_json() == view_oracles.params(policy.to_json(), key, view, size, num_rows, row)
    assert drawn == view_params(policy, key, view, size, num_rows, row)


@given(key=KEYS, view=st.integers(0, 1000), size=SIZES, scale=st.floats(0.001, 1), ratio=st.floats(0.01, 1))
@settings(max_examples=300, deadline=None)
def test_rectangles_lie_inside(key: str, view: int, size: tuple[int, int], scale: float, ratio: float) -> None:
    policy = resolve_policy(
        name="any",
        size_px=17,
        crop_scale=(scale, 1.0),
        crop_ratio=(ratio, 1 / ratio),
        erase_prob=1.0,
        cutmix_prob=1.0,
    )
    drawn = view_params(policy, key, view, size, 9, 3)
    _assert_inside(drawn.crop, size)
    if drawn.erase is not None:
        _assert_inside(drawn.erase, (17, 17))
    if drawn.mix is not None:
        assert drawn.mix[0] == "cutmix"
        assert drawn.mix[1] in set(range(9)) - {3}
        _assert_inside(drawn.mix[2], (17, 17))


def _assert_inside(rect: tuple[int, int, int, int], size: tuple[int, int]) -> None:
    left, top, width, height = rect
    assert left >= 0
    assert top >= 0
    assert width > 0
    assert height > 0
    assert left + width <= size[0]
    assert top + height <= size[1]


@given(key=KEYS, view=st.integers(0, 1000))
@settings(max_examples=100, deadline=None)
def test_every_parameter_keeps_its_slot(key: str, view: int) -> None:
    """Turning any part of a policy off changes no other part."""
    full = POLICIES["classification"]
    whole = view_params(full, key, view, (90, 70), 50, 7)
    variants: dict[str, ViewPolicy] = {
        "crop": dataclasses.replace(full, crop_attempts=0),
        "flip": dataclasses.replace(full, flip_q32=0),
        "ops": dataclasses.replace(full, num_ops=0),
        "erase": dataclasses.replace(full, erase_q32=0),
        "mix": dataclasses.replace(full, mixup_q32=0, cutmix_q32=0),
    }
    for changed, policy in variants.items():
        other = view_params(policy, key, view, (90, 70), 50, 7)
        for part in set(variants) - {changed}:
            assert getattr(other, part) == getattr(whole, part)
    more = view_params(dataclasses.replace(full, num_ops=5), key, view, (90, 70), 50, 7)
    assert more.ops[:2] == whole.ops


def test_center_is_the_same_square_in_every_view() -> None:
    drawn = {view_params(POLICIES["center"], "k", view, (100, 71), 4, 0) for view in range(50)}
    assert [(p.crop, p.flip, p.ops, p.erase, p.mix) for p in drawn] == [((14, 0, 71, 71), False, (), None, None)]


def test_chances_and_choices_have_their_frequencies() -> None:
    policy = POLICIES["classification"]
    num = 4000
    drawn = [view_params(policy, f"key {n % 200}", n // 200, (500, 375), 64, 0) for n in range(num)]
    ops = [op[0] for p in drawn for op in p.ops]
    assert sum(p.flip for p in drawn) / num == pytest.approx(0.5, abs=0.03)
    assert sum(p.erase is not None for p in drawn) / num == pytest.approx(0.25, abs=0.03)
    assert sum(p.mix is not None and p.mix[0] == "cutmix" for p in drawn) / num == pytest.approx(0.5, abs=0.03)
    for op in policy.ops:
        assert ops.count(op.name) / len(ops) == pytest.approx(1 / 14, abs=0.015)
    areas = [p.crop[2] * p.crop[3] / (500 * 375) for p in drawn]
    assert 0.075 < min(areas) < 0.1
    assert sum(areas) / num == pytest.approx(_mean_fitting_area(4 / 3, (0.08, 1.0)), abs=0.02)
    partners = {p.mix[1] for p in drawn if p.mix}
    assert partners == set(range(1, 64))


def _mean_fitting_area(aspect: float, scale: tuple[float, float]) -> float:
    """Mean share of the area of random resized crops that fit an image of this width / height, by simulation."""
    rng = np.random.default_rng(0)
    share = rng.uniform(*scale, size=200_000)
    ratio = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), size=200_000))
    fits = (share * aspect * ratio <= aspect**2) & (share * aspect / ratio <= 1)
    return float(share[fits].mean())


def test_a_lone_row_is_never_mixed() -> None:
    assert all(view_params(POLICIES["classification"], "k", v, (9, 9), 1, 0).mix is None for v in range(50))


@pytest.mark.parametrize(("view", "row"), [(-1, 0), (1 << 32, 0), (0, -1), (0, 4)])
def test_indices_out_of_range_are_refused(view: int, row: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        view_params(POLICIES["crops"], "k", view, (9, 9), 4, row)
