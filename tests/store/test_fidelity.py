"""KL against a slow reference, and statistics that merge exactly in any order."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforce.errors import CorruptStoreError
from reinforce.store.fidelity import FidelityStats
from reinforce.store.measures import CosineDistance, Divergence

RNG = np.random.default_rng(1)


def slow_kl(z, zhat, temperature):
    def log_softmax(values):
        scaled = [float(v) / temperature for v in values]
        top = max(scaled)
        log_sum = top + math.log(math.fsum(math.exp(v - top) for v in scaled))
        return [v - log_sum for v in scaled]

    log_p, log_q = log_softmax(z), log_softmax(zhat)
    return math.fsum(math.exp(a) * (a - b) for a, b in zip(log_p, log_q, strict=True))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("num_classes", [1, 2, 10, 1000])
def test_row_kl_equals_a_slow_reference(num_classes, temperature):
    z = (RNG.normal(size=(300, num_classes)) * 5).astype(np.float32)
    zhat = z + RNG.normal(size=z.shape).astype(np.float32) * 0.1 + 3
    found = Divergence(temperature).errors(z, zhat)
    picked = range(0, 300, 37)
    expected = [slow_kl(z[r], zhat[r], temperature) for r in picked]
    assert found[list(picked)] == pytest.approx(expected, rel=1e-9, abs=1e-14)
    assert (found >= 0).all()


def test_row_kl_does_not_see_a_constant_per_row():
    z = RNG.normal(size=(20, 6))
    assert Divergence(1.0).errors(z, z + 64.0).max() < 1e-14


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_row_kl_refuses_an_impossible_temperature(temperature):
    with pytest.raises(ValueError, match="temperature"):
        Divergence(temperature).errors(np.zeros((1, 2)), np.zeros((1, 2)))


def dot(a, b):
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


class TestCosineDistance:
    def test_equals_a_slow_reference(self):
        z = RNG.normal(size=(50, 384)).astype(np.float32) + 2
        zhat = z + RNG.normal(size=z.shape).astype(np.float32) * 10.0 ** RNG.uniform(-5, 0, (50, 1))
        expected = [
            1 - dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))
            for a, b in zip(z.astype(float).tolist(), zhat.astype(float).tolist(), strict=True)
        ]
        assert CosineDistance().errors(z, zhat) == pytest.approx(expected, rel=1e-6, abs=1e-13)

    def test_does_not_see_lengths(self):
        z = RNG.normal(size=(20, 6))
        assert CosineDistance().errors(z, 3 * z).max() < 1e-14

    @pytest.mark.parametrize(
        ("one", "other", "distance"),
        [([1, 0], [0, 1], 1), ([1, 0], [-1, 0], 2), ([0, 0], [0, 0], 0), ([0, 0], [3, 4], 1), ([3, 4], [0, 0], 1)],
        ids=["right angle", "opposite", "both zero", "zero teacher", "zero stored"],
    )
    def test_of_two_vectors(self, one, other, distance):
        assert CosineDistance().errors(np.array([one]), np.array([other])).tolist() == [distance]

    def test_its_figures_survive_json(self):
        stats = FidelityStats.of(*measured(3, 50), CosineDistance())
        assert FidelityStats.from_json(json.loads(json.dumps(stats.to_json()))) == stats
        assert set(stats.certified()) == {f"cosine_distance_{name}" for name in ("mean", "p50", "p99", "max")}

    def test_does_not_mix_with_a_divergence(self):
        with pytest.raises(CorruptStoreError, match="measured otherwise"):
            FidelityStats(measure=Divergence(1.0)).merge(FidelityStats(measure=CosineDistance()))


def measured(seed, num_rows):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(num_rows, 4)) * 3
    return z, z + rng.normal(size=z.shape) * 10.0 ** rng.uniform(-8, 0, size=(num_rows, 1))


@settings(deadline=None, max_examples=50)
@given(cuts=st.lists(st.integers(0, 60), max_size=6), order=st.randoms(use_true_random=False), seed=st.integers(0, 99))
def test_merging_parts_in_any_order_is_exactly_measuring_all(cuts, order, seed):
    z, zhat = measured(seed, 60)
    bounds = [0, *sorted(cuts), 60]
    parts = [FidelityStats.of(z[a:b], zhat[a:b], Divergence(2.0)) for a, b in pairwise(bounds)]
    order.shuffle(parts)
    while len(parts) > 1:
        first, second = parts.pop(), parts.pop(order.randrange(len(parts)))
        parts.append(first.merge(second))
    assert parts[0] == FidelityStats.of(z, zhat, Divergence(2.0))


def test_statistics_equal_a_slow_reference():
    z, zhat = measured(3, 500)
    stats = FidelityStats.of(z, zhat, Divergence(1.0))
    kl = Divergence(1.0).errors(z, zhat)
    exact_mean = sum(map(Fraction, kl.tolist())) / 500
    assert stats.mean == pytest.approx(float(exact_mean), abs=2.0**-50)
    assert stats.worst == kl.max()
    assert stats.top1_agreement == np.mean(z.argmax(axis=1) == zhat.argmax(axis=1))
    for share in (0.01, 0.5, 0.9, 0.99, 1.0):
        true = np.sort(kl)[math.ceil(share * 500) - 1]
        assert true <= stats.percentile(share) <= true * 1.125 + 2.0**-49


def test_json_round_trip_is_exact():
    stats = FidelityStats.of(*measured(4, 100), Divergence(1.5))
    assert FidelityStats.from_json(json.loads(json.dumps(stats.to_json()))) == stats


def test_no_rows_are_no_loss():
    empty = FidelityStats.of(np.zeros((0, 3)), np.zeros((0, 3)), Divergence(1.0))
    assert (empty.count, empty.mean, empty.percentile(0.5), empty.top1_agreement) == (0, 0.0, 0.0, 1.0)
    one = FidelityStats.of(*measured(4, 10), Divergence(1.0))
    assert one.merge(empty) == one == empty.merge(one)


def test_other_temperatures_do_not_merge():
    with pytest.raises(CorruptStoreError, match="measured otherwise"):
        FidelityStats(measure=Divergence(1.0)).merge(FidelityStats(measure=Divergence(2.0)))


@pytest.mark.parametrize(
    "change",
    [
        {"count": 2},
        {"count": True},
        {"kl_ticks": 1.5},
        {"histogram": [[1]]},
        {"histogram": [[99999, 1]]},
        {"kl_max": "1"},
    ],
    ids=str,
)
def test_wrong_members_are_refused(change):
    document = FidelityStats.of(np.ones((1, 2)), np.ones((1, 2)), Divergence(1.0)).to_json()
    with pytest.raises(CorruptStoreError, match="fidelity"):
        FidelityStats.from_json(document | change)
