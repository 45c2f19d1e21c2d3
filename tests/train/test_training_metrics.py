"""Wilson's interval against known values; tallies against the same figures computed at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from train.losses import cross_entropy, kl_divergence
from train.metrics import AgreementTally, Tally, wilson_interval


@pytest.mark.parametrize(
    ("correct", "images", "expected"),
    [
        pytest.param(0, 0, (0.0, 1.0), id="nothing is known"),
        pytest.param(0, 10, (0.0, 0.27753), id="none right"),
        pytest.param(10, 10, (0.72247, 1.0), id="all right"),
        pytest.param(50, 100, (0.40383, 0.59617), id="half of a hundred"),
        pytest.param(7460, 10000, (0.73738, 0.75443), id="ten thousand"),
    ],
)
def test_wilson_interval(correct: int, images: int, expected: tuple[float, float]) -> None:
    assert wilson_interval(correct, images) == pytest.approx(expected, abs=1e-5)


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_proportion(counts: tuple[int, int]) -> None:
    low, high = wilson_interval(*counts)
    assert 0 <= low <= counts[0] / counts[1] + 1e-12
    assert counts[0] / counts[1] <= high + 1e-12
    assert high <= 1


def test_tally_over_batches_is_the_figure_over_all() -> None:
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(size=(10, 4))).float()
    targets = torch.eye(4)[torch.from_numpy(rng.integers(0, 4, 10))]
    tally = Tally()
    for part in (slice(0, 3), slice(3, 10)):
        tally.add(logits[part], targets[part])
    assert tally.num_images == 10
    assert tally.accuracy == (logits.argmax(1) == targets.argmax(1)).double().mean().item()
    assert tally.loss == pytest.approx(cross_entropy(logits, targets).item(), rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_agreement_over_batches_is_the_figure_over_all(temperature: float) -> None:
    student, teacher = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 12, 4)))
    tally = AgreementTally()
    for part in (slice(0, 5), slice(5, 12)):
        tally.add(student[part], teacher[part], temperature)
    assert tally.agreement == pytest.approx((student.argmax(1) == teacher.argmax(1)).double().mean().item())
    without_t2 = kl_divergence(student, teacher, temperature).item() / temperature**2
    assert tally.kl == pytest.approx(without_t2, rel=1e-5)
