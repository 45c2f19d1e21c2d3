"""Losses of features against float64 NumPy and the properties that they promise; two processes are one joint batch."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import run_ranks
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from train.losses import contrastive, cosine
from train.world import World

Floats = NDArray[np.float64]
ALONE = World(torch.device("cpu"))


def drawn(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


def contrast(student: Floats, teacher: Floats, temperature: float = 0.07) -> float:
    return contrastive(torch.from_numpy(student), torch.from_numpy(teacher), temperature, ALONE).item()


def distance(student: Floats, teacher: Floats) -> float:
    return cosine(torch.from_numpy(student), torch.from_numpy(teacher)).item()


def contrastive_oracle(student: Floats, teacher: Floats, temperature: float) -> float:
    """Anchor by anchor, as it is written in the paper of the loss."""
    total = 0.0
    for anchors, others in ((student, teacher), (teacher, student)):
        for i, anchor in enumerate(anchors):
            cosines = [anchor @ other / math.sqrt((anchor @ anchor) * (other @ other)) for other in others]
            total -= cosines[i] / temperature - math.log(sum(math.exp(c / temperature) for c in cosines))
    return total / (2 * len(student))


def resized(map_DHW: Floats, height: int, width: int) -> Floats:
    """Cell (i, j) lies at ((i + 1/2) H / h - 1/2, ...), weighed between its four neighbours, the border going on."""
    channels, rows, columns = map_DHW.shape
    result = np.empty((channels, height, width))
    for i in range(height):
        for j in range(width):
            y, x = max((i + 0.5) * rows / height - 0.5, 0), max((j + 0.5) * columns / width - 0.5, 0)
            top, left = min(int(y), rows - 1), min(int(x), columns - 1)
            bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
            upper = map_DHW[:, top, left] * (1 - (x - left)) + map_DHW[:, top, right] * (x - left)
            lower = map_DHW[:, bottom, left] * (1 - (x - left)) + map_DHW[:, bottom, right] * (x - left)
            result[:, i, j] = upper * (1 - (y - top)) + lower * (y - top)
    return result


def cosine_oracle(student: Floats, teacher: Floats) -> float:
    distances = []
    for own, other in zip(student, teacher, strict=True):
        target = resized(other, *own.shape[1:])
        for cell in np.ndindex(own.shape[1:]):
            s, t = own[:, *cell], target[:, *cell]
            distances.append(1 - s @ t / math.sqrt((s @ s) * (t @ t)))
    return float(np.mean(distances))


class TestContrastive:
    @pytest.mark.parametrize("temperature", [0.07, 0.5, 1.0])
    @pytest.mark.parametrize("rows", [1, 2, 9])
    def test_is_the_oracle(self, rows: int, temperature: float) -> None:
        student, teacher = drawn(rows, 5), drawn(rows, 5, seed=1)
        expected = contrastive_oracle(student, teacher, temperature)
        assert contrast(student, teacher, temperature) == pytest.approx(expected, rel=2e-5, abs=1e-6)

    @given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(0.01, 100))
    def test_lengths_do_not_count(self, seed: int, a: float, b: float) -> None:
        student, teacher = drawn(4, 6, seed=seed), drawn(4, 6, seed=seed + 1)
        assert contrast(a * student, b * teacher) == pytest.approx(contrast(student, teacher), rel=1e-4, abs=1e-5)

    @given(st.integers(0, 10**6))
    def test_neither_order_nor_side_counts(self, seed: int) -> None:
        student, teacher = drawn(6, 3, seed=seed), drawn(6, 3, seed=seed + 1)
        order = np.random.default_rng(seed).permutation(6)
        value = contrast(student, teacher)
        assert contrast(student[order], teacher[order]) == pytest.approx(value, rel=1e-4)
        assert contrast(teacher, student) == pytest.approx(value, rel=1e-4)

    def test_a_perfect_student_costs_nothing_and_a_blind_one_the_logarithm_of_their_number(self) -> None:
        assert contrast(np.eye(8), np.eye(8)) == pytest.approx(0.0, abs=1e-5)
        assert contrast(np.eye(8), np.ones((8, 8))) == pytest.approx(math.log(8), rel=1e-5)

    def test_one_view_alone_has_nothing_to_be_told_from(self) -> None:
        assert contrast(drawn(1, 4), drawn(1, 4, seed=1)) == 0.0

    def test_both_sides_get_a_gradient(self) -> None:
        """The teacher's side may be projected by weights that are trained."""
        sides = [torch.from_numpy(drawn(5, 4, seed=seed)).requires_grad_() for seed in range(2)]
        contrastive(sides[0], sides[1], 0.07, ALONE).backward()
        assert all(side.grad is not None and side.grad.abs().sum() > 0 for side in sides)


class TestCosine:
    @pytest.mark.parametrize("teacher_sides", [(3, 5), (2, 2), (7, 7), (1, 1)])
    def test_is_the_oracle(self, teacher_sides: tuple[int, int]) -> None:
        student, teacher = drawn(2, 6, 3, 5), drawn(2, 6, *teacher_sides, seed=1)
        assert distance(student, teacher) == pytest.approx(cosine_oracle(student, teacher), rel=2e-5)

    @given(st.integers(0, 10**6), st.floats(0.01, 100))
    def test_lengths_of_the_students_cells_do_not_count(self, seed: int, scale: float) -> None:
        student, teacher = drawn(2, 4, 2, 2, seed=seed), drawn(2, 4, 3, 3, seed=seed + 1)
        longer = student * scale * np.random.default_rng(seed).uniform(0.5, 2, (2, 1, 2, 2))
        assert distance(longer, teacher) == pytest.approx(distance(student, teacher), abs=1e-5)

    @pytest.mark.parametrize(("factor", "expected"), [(3.0, 0.0), (-0.5, 2.0)])
    def test_its_range(self, factor: float, expected: float) -> None:
        teacher = drawn(2, 4, 3, 3)
        assert distance(factor * teacher, teacher) == pytest.approx(expected, abs=1e-6)

    def test_channels_at_right_angles_cost_one(self) -> None:
        student, teacher = np.zeros((1, 2, 3, 3)), np.zeros((1, 2, 3, 3))
        student[:, 0], teacher[:, 1] = 1, 1
        assert distance(student, teacher) == pytest.approx(1.0)

    def test_an_empty_cell_has_a_finite_gradient(self) -> None:
        student = torch.zeros(1, 4, 2, 2, requires_grad=True)
        cosine(student, torch.from_numpy(drawn(1, 4, 2, 2)).float()).backward()
        assert student.grad is not None
        assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("kind", ["contrastive", "cosine"])
def test_autocast_does_not_count(kind: str) -> None:
    rows = [torch.from_numpy(drawn(6, 16, 2, 2, seed=seed)).float() for seed in (0, 1)]
    student, teacher = (row.flatten(1) for row in rows) if kind == "contrastive" else rows

    def loss() -> torch.Tensor:
        return contrastive(student, teacher, 0.07, ALONE) if kind == "contrastive" else cosine(student, teacher)

    plain = loss()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(loss(), plain)


PROGRAM = """
import torch
from torch import distributed, nn
from train.losses import contrastive
from train.world import World, entered_world

class Sides(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.student, self.teacher = nn.Linear(3, 4), nn.Linear(6, 4)

    def forward(self, images, targets):
        return self.student(images), self.teacher(targets)

def gradients(model, sides, rows, world):
    loss = contrastive(*model(x[rows], t[rows]), 0.07, world) * (len(x[rows]) * world.size / 5)
    loss.backward()
    return [parameter.grad for parameter in sides.parameters()]

torch.manual_seed(0)
x, t = torch.randn(5, 3), torch.randn(5, 6)
with entered_world("cpu") as world:
    joint, shared = Sides(), Sides()
    whole = gradients(joint, joint, slice(0, 5), World(world.device))
    own = slice(0, 3) if world.rank == 0 else slice(3, 5)
    parts = gradients(world.parallel(shared), shared, own, world)
    for part, one in zip(parts, whole, strict=True):
        torch.testing.assert_close(part, one)
        assert one.abs().max() > 1e-3
    print("equal")
"""


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_the_joint_batch(tmp_path: Path) -> None:
    """Five views, three of them on the first rank; DDP averages over ranks."""
    for rank in run_ranks(PROGRAM, folder=tmp_path):
        assert rank.stdout == "equal\n", rank.stderr
