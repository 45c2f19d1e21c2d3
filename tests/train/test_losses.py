"""Losses against float64 NumPy, and the properties that their docstrings promise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from train.losses import cross_entropy, kl_divergence

Floats = NDArray[np.float64]


def softmax(z: Floats) -> Floats:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def kl_oracle(student: Floats, teacher: Floats, temperature: float) -> float:
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    return float(temperature**2 * (p * (np.log(p) - np.log(q))).sum(axis=1).mean())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_kl_is_the_oracle(classes: int, temperature: float) -> None:
    rng = np.random.default_rng(classes)
    student, teacher = rng.normal(0, 3, (2, 7, classes))
    loss = kl_divergence(torch.from_numpy(student), torch.from_numpy(teacher), temperature)
    assert loss.item() == pytest.approx(kl_oracle(student, teacher, temperature), rel=2e-5)


def test_kl_direction_is_teacher_to_student() -> None:
    sure, unsure = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.5, 0.0]])
    assert kl_divergence(sure, unsure).item() != pytest.approx(kl_divergence(unsure, sure).item(), rel=0.1)
    assert kl_divergence(sure, unsure).item() == pytest.approx(kl_oracle(sure.numpy(), unsure.numpy(), 1.0), rel=1e-5)


@given(st.integers(0, 1000), st.floats(-50, 50), st.floats(-50, 50))
def test_kl_ignores_a_constant_per_row(seed: int, a: float, b: float) -> None:
    """Stores keep logits up to a constant per row only."""
    student, teacher = torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (2, 3, 5)))
    moved = kl_divergence(student + a, teacher + b)
    assert moved.item() == pytest.approx(kl_divergence(student, teacher).item(), abs=2e-5)


def test_kl_gradient_size_does_not_depend_on_temperature() -> None:
    """For logits near 0 the gradient is (z_student - z_teacher) / C, whatever T (Hinton et al. 2015, eq. 4)."""
    teacher = torch.tensor([[0.01, -0.01, 0.0, 0.0]], dtype=torch.float64)
    for temperature in (1.0, 8.0):
        student = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
        kl_divergence(student, teacher, temperature).backward()
        assert student.grad is not None
        torch.testing.assert_close(student.grad, -teacher / 4, rtol=0.05, atol=1e-5)


@pytest.mark.parametrize("target", [[1.0, 0.0, 0.0], [0.25, 0.0, 0.75]], ids=["one-hot", "mixed"])
def test_cross_entropy_is_the_oracle(target: list[float]) -> None:
    logits = np.random.default_rng(1).normal(0, 2, (6, 3))
    targets = np.tile(target, (6, 1))
    expected = -(targets * np.log(softmax(logits))).sum(axis=1).mean()
    loss = cross_entropy(torch.from_numpy(logits), torch.from_numpy(targets))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
