"""Tails: exact to an eighth of a bit, or as coarse as a stated KL allows."""

from __future__ import annotations

import numpy as np
import pytest

from reinforce.store.codecs.tail import decode_tails, encode_tails

TAILS = np.geomspace(1e-9, 0.9, 4001)


def tail_kl(tail: np.ndarray, decoded: np.ndarray) -> np.ndarray:
    """KL in nats of (tail, 1 - tail) as kept."""
    return tail * np.log(tail / decoded) + (1 - tail) * np.log((1 - tail) / (1 - decoded))


def test_without_tolerance_a_tail_is_kept_to_an_eighth_of_a_bit():
    decoded = decode_tails(encode_tails(TAILS)).astype(np.float64)
    assert np.abs(np.log2(decoded / TAILS)).max() <= 1 / 16 + 1e-6


@pytest.mark.parametrize("tolerance", [1e-6, 1e-5, 1e-4, 1e-3])
def test_the_mean_kl_that_a_tolerance_adds_stays_within_it(tolerance):
    for low, high in ((1e-6, 1e-4), (1e-4, 1e-2), (1e-2, 0.1), (0.1, 0.5)):
        tail = np.geomspace(low, high, 4001)
        exact, coarse = (decode_tails(encode_tails(tail, tolerance=t)).astype(np.float64) for t in (0, tolerance))
        assert tail_kl(tail, coarse).mean() <= 1.1 * tolerance + tail_kl(tail, exact).mean()


def test_the_more_is_tolerated_the_fewer_codes_are_used():
    counts = [len(np.unique(encode_tails(TAILS, tolerance=t))) for t in (0, 1e-6, 1e-4, 1e-2)]
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] < counts[0] / 4


def test_a_tail_is_never_all_where_something_else_is_there():
    assert encode_tails(np.array([1.0, 0.9999]), least=1, tolerance=1e-2).min() == 1
