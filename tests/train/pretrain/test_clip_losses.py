"""Losses of image-text pairs against float64 NumPy; over two processes they are those of the joint batch."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import run_ranks
from numpy.typing import NDArray

from train.pretrain.clip_losses import affinity_loss, clip_loss
from train.world import World

Floats = NDArray[np.float64]
ALONE = World(torch.device("cpu"))


def drawn(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(size=shape)


def tensors(*arrays: Floats) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in arrays]


def unit(rows: Floats) -> Floats:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def log_affinity(rows: Floats, others: Floats, scale: float) -> Floats:
    z = scale * unit(rows) @ unit(others).T
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def clip_oracle(images: Floats, texts: Floats, scale: float) -> float:
    chosen = [np.diag(log_affinity(a, b, scale)) for a, b in ((images, texts), (texts, images))]
    return float(-(chosen[0] + chosen[1]).mean() / 2)


def affinity_oracle(student: tuple[Floats, Floats], scale: float, teacher: tuple[Floats, Floats],
                    teacher_scale: float) -> float:  # fmt: skip
    total = 0.0
    for direction in (slice(None), slice(None, None, -1)):
        log_s = log_affinity(*student[direction], scale)
        log_t = log_affinity(*teacher[direction], teacher_scale)
        total += float((np.exp(log_t) * (log_t - log_s)).sum(axis=1).mean())
    return total / 2


@pytest.mark.parametrize("scale", [1.0, 1 / 0.07, 100.0])
@pytest.mark.parametrize("pairs", [1, 2, 9])
def test_clip_is_the_oracle(pairs: int, scale: float) -> None:
    images, texts = drawn(pairs, 5), drawn(pairs, 5, seed=1)
    loss = clip_loss(*tensors(images, texts), torch.tensor(scale), ALONE)
    assert loss.item() == pytest.approx(clip_oracle(images, texts, scale), rel=2e-5, abs=1e-6)


@pytest.mark.parametrize("teacher_scale", [10.0, 100.0])
def test_affinity_is_the_oracle(teacher_scale: float) -> None:
    student, teacher = (drawn(7, 4), drawn(7, 4, seed=1)), (drawn(7, 6, seed=2), drawn(7, 6, seed=3))
    loss = affinity_loss(*tensors(*student), torch.tensor(14.0), *tensors(*teacher), teacher_scale, ALONE)
    assert loss.item() == pytest.approx(affinity_oracle(student, 14.0, teacher, teacher_scale), rel=2e-5)


def test_pairs_that_agree_cost_nothing_and_unrelated_ones_the_logarithm_of_their_number() -> None:
    same = torch.eye(8)
    assert clip_loss(same, same, torch.tensor(100.0), ALONE).item() == pytest.approx(0.0, abs=1e-6)
    assert clip_loss(same, torch.ones(8, 8), torch.tensor(100.0), ALONE).item() == pytest.approx(math.log(8), rel=1e-5)


def test_affinity_is_zero_for_the_teacher_in_any_basis() -> None:
    """A rotation of the joint space leaves every affinity as it is."""
    images, texts = tensors(drawn(6, 4), drawn(6, 4, seed=1))
    rotation = torch.linalg.qr(torch.from_numpy(drawn(4, 4, seed=2)))[0]
    loss = affinity_loss(3 * images @ rotation, texts @ rotation, torch.tensor(20.0), images, texts, 20.0, ALONE)
    assert loss.item() == pytest.approx(0.0, abs=1e-6)


def test_affinity_tells_the_two_directions_apart() -> None:
    """A student whose texts are the teacher's images is wrong in both."""
    images, texts = tensors(drawn(6, 4), drawn(6, 4, seed=1))
    assert affinity_loss(texts, images, torch.tensor(20.0), images, texts, 20.0, ALONE).item() > 0.1


def test_teachers_get_no_gradient() -> None:
    rows = [torch.from_numpy(drawn(4, 3, seed=seed)).requires_grad_() for seed in range(4)]
    affinity_loss(rows[0], rows[1], torch.tensor(5.0), rows[2], rows[3], 5.0, ALONE).backward()
    assert [row.grad is not None for row in rows] == [True, True, False, False]


def test_similarities_ignore_autocast() -> None:
    images, texts = (torch.from_numpy(drawn(6, 64, seed=seed)).float() for seed in (0, 1))
    plain = clip_loss(images, texts, torch.tensor(100.0), ALONE)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(clip_loss(images, texts, torch.tensor(100.0), ALONE), plain)


PROGRAM = """
import torch
from torch import distributed
from train.gathering import gather_rows
from train.pretrain.clip_losses import affinity_loss, clip_loss
from train.world import World, entered_world

def loss_of(rows, weights, log_scale, world):
    images, texts = x[rows] @ weights, y[rows] @ weights.tanh()
    scale = log_scale.exp()
    return clip_loss(images, texts, scale, world) + affinity_loss(images, texts, scale, u[rows], v[rows], 9.0, world)

torch.manual_seed(0)
x, y, u, v = torch.randn(4, 5, 3, dtype=torch.float64).float()
start = torch.randn(3, 4), torch.tensor(2.0)
with entered_world("cpu") as world:
    own = slice(0, 3) if world.rank == 0 else slice(3, 5)
    gathered, first = gather_rows(x[own], world)
    assert torch.equal(gathered, x) and first == own.start
    joint = [value.clone().requires_grad_() for value in start]
    loss_of(slice(0, 5), *joint, World(world.device)).backward()
    shared = [value.clone().requires_grad_() for value in start]
    loss = loss_of(own, *shared, world) * (len(x[own]) * world.size / 5)
    loss.backward()
    for one, whole in zip(shared, joint):
        distributed.all_reduce(one.grad)
        torch.testing.assert_close(one.grad / world.size, whole.grad)
    print("equal")
"""


@pytest.mark.slow
def test_two_processes_have_the_gradient_of_the_joint_batch(tmp_path: Path) -> None:
    """Five pairs, three of them on the first rank: weights and scale, averaged over ranks as DDP does."""
    for rank in run_ranks(PROGRAM, folder=tmp_path):
        assert rank.stdout == "equal\n", rank.stderr
