"""DINO's formulas against a NumPy oracle: loss, centre, head, temperature, signs of collapse."""

from __future__ import annotations

import math

import dino_oracle
import numpy as np
import pytest
import torch
from torch import nn

from train.pretrain.dino_loss import dino_loss, teacher_temperature
from train.pretrain.dino_model import DinoHead
from train.pretrain.dino_signs import signs_of


def logits(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, scale, shape)).float()


@pytest.mark.parametrize("num_crops", [2, 3, 10])
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0], ids=lambda scale: f"scale {scale:g}")
def test_loss_equals_the_oracle(num_crops: int, scale: float) -> None:
    student, teacher = logits(num_crops, 5, 7, scale=min(scale, 3)), logits(2, 5, 7, seed=1, scale=scale)
    centre = logits(7, seed=2)
    ours = dino_loss(student, teacher, centre, student_temperature=0.1, teacher_temperature=0.04)
    theirs = dino_oracle.loss(student.double().numpy(), teacher.double().numpy(), centre.double().numpy(), 0.1, 0.04)
    assert ours.item() == pytest.approx(theirs, rel=1e-5)


def test_no_gradient_flows_to_the_teacher() -> None:
    student, teacher = logits(3, 2, 4).requires_grad_(), logits(2, 2, 4, seed=1).requires_grad_()
    dino_loss(student, teacher, torch.zeros(4), student_temperature=0.1, teacher_temperature=0.07).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0


def test_loss_is_least_for_a_student_that_says_the_same() -> None:
    """Of the crops that both see each is compared with the other alone: both must agree with both."""
    same = logits(1, 3, 6).expand(2, 3, 6)
    best = dino_loss(same, same, torch.zeros(6), student_temperature=0.1, teacher_temperature=0.1).item()
    probs = torch.softmax(same[0] / 0.1, dim=-1)
    assert best == pytest.approx(float(torch.special.entr(probs).sum(-1).mean()), rel=1e-5)
    other = dino_loss(same + logits(2, 3, 6, seed=3), same, torch.zeros(6), student_temperature=0.1,
                      teacher_temperature=0.1).item()  # fmt: skip
    assert other > best


def test_loss_is_float32_in_low_precision() -> None:
    student, teacher = logits(3, 4, 9), logits(2, 4, 9, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        low = dino_loss(student.bfloat16(), teacher.bfloat16(), torch.zeros(9), student_temperature=0.1,
                        teacher_temperature=0.04)  # fmt: skip
    exact = dino_oracle.loss(
        student.bfloat16().double().numpy(), teacher.bfloat16().double().numpy(), np.zeros(9), 0.1, 0.04
    )
    assert low.dtype == torch.float32
    assert low.item() == pytest.approx(exact, rel=1e-5)


def test_head_equals_the_oracle() -> None:
    torch.manual_seed(0)
    head = DinoHead(6, width=10, num_prototypes=5, bottleneck=4)
    features = logits(3, 6, seed=4)
    weights = [(layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy())
               for layer in head.layers if isinstance(layer, nn.Linear)]  # fmt: skip
    expected = dino_oracle.head(features.double().numpy(), weights, head.prototypes_KN.detach().double().numpy())
    np.testing.assert_allclose(head(features).detach().numpy(), expected, rtol=1e-4, atol=1e-6)
    assert np.abs(expected).max() <= 1  # cosines
    assert [layer.bias.abs().sum().item() for layer in head.layers if isinstance(layer, nn.Linear)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("step", "last", "expected"),
    [(0, 0.07, 0.04), (5, 0.07, 0.055), (10, 0.07, 0.07), (99, 0.07, 0.07), (0, 0.02, 0.02), (9, 0.02, 0.02)],
)
def test_teacher_temperature(step: int, last: float, expected: float) -> None:
    assert teacher_temperature(step, last=last, warmup_steps=10) == pytest.approx(expected)


def test_without_a_warm_up_the_temperature_is_the_last() -> None:
    assert teacher_temperature(0, last=0.07, warmup_steps=0) == pytest.approx(0.04)
    assert teacher_temperature(1, last=0.07, warmup_steps=0) == pytest.approx(0.07)


class TestSigns:
    def figures(self, probs: torch.Tensor, features: torch.Tensor) -> dict[str, float]:
        return signs_of([(probs[:3], features[:3]), (probs[3:], features[3:])])

    def test_equal_what_one_pass_gives(self) -> None:
        probs, features = torch.softmax(logits(8, 5), dim=-1), logits(8, 6, seed=1)
        p, f = probs.double().numpy(), features.double().numpy()
        f /= np.linalg.norm(f, axis=1, keepdims=True)
        mean = p.mean(axis=0)
        assert self.figures(probs, features) == pytest.approx(
            {
                "teacher_entropy": -(p * np.log(p)).sum(axis=1).mean(),
                "prototype_entropy": -(mean * np.log(mean)).sum(),
                "feature_std": f.std(axis=0).mean() * math.sqrt(6),
            },
            rel=1e-6,
        )

    def test_collapse_onto_one_prototype(self) -> None:
        figures = self.figures(torch.eye(5)[[2] * 8], logits(1, 6).expand(8, 6))
        assert figures == pytest.approx({"teacher_entropy": 0, "prototype_entropy": 0, "feature_std": 0}, abs=1e-6)

    def test_collapse_to_the_same_of_all(self) -> None:
        figures = self.figures(torch.full((8, 5), 0.2), logits(8, 6))
        assert figures["teacher_entropy"] == pytest.approx(math.log(5))

    def test_features_that_spread_evenly(self) -> None:
        figures = signs_of([(torch.full((4096, 2), 0.5), logits(4096, 64, seed=2))])
        assert figures["feature_std"] == pytest.approx(1, abs=0.05)
