"""Per-pixel losses against float64 NumPy over every pixel; padding, empty batches, slices, gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from reinforce.data import IGNORE
from train import slices
from train.losses import pixel_cross_entropy, pixel_kl

Floats = NDArray[np.float64]

SIZE = 8


def upsampled(logits_Chw: Floats) -> Floats:
    """Bilinear, align_corners=False, one pixel after the other: (C, SIZE, SIZE)."""
    _, height, width = logits_Chw.shape
    out = np.empty((len(logits_Chw), SIZE, SIZE))
    for y in range(SIZE):
        for x in range(SIZE):
            v = min(max((y + 0.5) * height / SIZE - 0.5, 0), height - 1)
            u = min(max((x + 0.5) * width / SIZE - 0.5, 0), width - 1)
            top, left = int(v), int(u)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            a, b = v - top, u - left
            above = (1 - b) * logits_Chw[:, top, left] + b * logits_Chw[:, top, right]
            below = (1 - b) * logits_Chw[:, bottom, left] + b * logits_Chw[:, bottom, right]
            out[:, y, x] = (1 - a) * above + a * below
    return out


def log_softmax(z: Floats) -> Floats:
    z = z - z.max()
    return z - np.log(np.exp(z).sum())


def kl_oracle(student: Floats, teacher: Floats, valid: NDArray[np.bool_], temperature: float) -> float:
    parts = []
    for one_student, one_teacher, one_valid in zip(student, teacher, valid, strict=True):
        big_student, big_teacher = upsampled(one_student), upsampled(one_teacher)
        for y, x in zip(*np.nonzero(one_valid), strict=True):
            log_p, log_q = (log_softmax(big[:, y, x] / temperature) for big in (big_teacher, big_student))
            parts.append((np.exp(log_p) * (log_p - log_q)).sum())
    return float(temperature**2 * np.mean(parts))


def cross_entropy_oracle(logits: Floats, labels: NDArray[np.uint8]) -> float:
    parts = []
    for one_logits, one_labels in zip(logits, labels, strict=True):
        big = upsampled(one_logits)
        for y, x in zip(*np.nonzero(one_labels != IGNORE), strict=True):
            parts.append(-log_softmax(big[:, y, x])[one_labels[y, x]])
    return float(np.mean(parts))


def maps(seed: int, count: int = 3, side: int = 4, classes: int = 5) -> Floats:
    return np.random.default_rng(seed).normal(0, 2, (count, classes, side, side))


def some_valid(seed: int = 9, count: int = 3) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random((count, SIZE, SIZE)) < 0.7


def some_labels(seed: int = 8, count: int = 3) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    return np.where(some_valid(), rng.integers(0, 5, (count, SIZE, SIZE)), IGNORE).astype(np.uint8)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("student_side", [1, 4, 8], ids=lambda side: f"student {side}")
def test_kl_is_the_oracle(student_side: int, temperature: float) -> None:
    """The sides of student and teacher need not be equal."""
    student, teacher, valid = maps(0, side=student_side), maps(1), some_valid()
    loss = pixel_kl(*(torch.from_numpy(a) for a in (student, teacher, valid)), temperature)
    assert loss.item() == pytest.approx(kl_oracle(student, teacher, valid, temperature), rel=2e-5)


def test_cross_entropy_is_the_oracle() -> None:
    logits, labels = maps(2), some_labels()
    loss = pixel_cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels))
    assert loss.item() == pytest.approx(cross_entropy_oracle(logits, labels), rel=2e-5)


def test_kl_ignores_a_constant_per_cell() -> None:
    """Stores keep the logits of a cell up to a constant only."""
    student, teacher, valid = (torch.from_numpy(a) for a in (maps(0), maps(1), some_valid()))
    constants = torch.from_numpy(np.random.default_rng(3).normal(0, 20, (3, 1, 4, 4)))
    moved = pixel_kl(student, teacher + constants, valid)
    assert moved.item() == pytest.approx(pixel_kl(student, teacher, valid).item(), rel=1e-4)


def kl(student: Tensor, valid: Tensor) -> Tensor:
    return pixel_kl(student, torch.from_numpy(maps(1, len(student))).float(), valid, 2.0)


def labelled(logits: Tensor, valid: Tensor) -> Tensor:
    labels = torch.from_numpy(some_labels())[: len(logits)].long() % 5
    return pixel_cross_entropy(logits, torch.where(valid, labels, IGNORE).to(torch.uint8))


PixelLoss = Callable[[Tensor, Tensor], Tensor]


@pytest.mark.parametrize("loss_of", [kl, labelled], ids=["kl", "cross entropy"])
class TestEveryPixelLoss:
    def gradient(self, loss_of: PixelLoss, logits: Tensor, valid: Tensor) -> tuple[float, Tensor]:
        logits = logits.clone().requires_grad_()
        loss = 3 * loss_of(logits, valid)
        loss.backward()
        assert logits.grad is not None
        return loss.item(), logits.grad

    @pytest.mark.parametrize("slice_bytes", [1, 2 * 4 * 5 * SIZE**2], ids=["an image", "two images"])
    def test_slices_change_nothing(self, loss_of: PixelLoss, slice_bytes: int,
                                   monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
        logits, valid = torch.from_numpy(maps(0)).float(), torch.from_numpy(some_valid())
        whole, gradient = self.gradient(loss_of, logits, valid)
        monkeypatch.setattr(slices, "SLICE_BYTES", slice_bytes)
        assert slices.images_in_slice(5, SIZE) < 3
        sliced, sliced_gradient = self.gradient(loss_of, logits, valid)
        assert sliced == pytest.approx(whole, rel=1e-6)
        torch.testing.assert_close(sliced_gradient, gradient, atol=1e-7, rtol=1e-5)

    def test_the_gradient_is_that_of_small_steps(self, loss_of: PixelLoss) -> None:
        logits, valid = torch.from_numpy(maps(0)).float(), torch.from_numpy(some_valid())
        _, gradient = self.gradient(loss_of, logits, valid)
        direction = torch.from_numpy(maps(5)).float()
        step = 1e-2
        difference = 3 * (loss_of(logits + step * direction, valid) - loss_of(logits - step * direction, valid))
        assert (gradient * direction).sum().item() == pytest.approx(difference.item() / (2 * step), rel=2e-3)

    def test_without_valid_pixels_there_is_no_loss_and_no_gradient(self, loss_of: PixelLoss) -> None:
        logits = torch.from_numpy(maps(0)).float()
        loss, gradient = self.gradient(loss_of, logits, torch.zeros(3, SIZE, SIZE, dtype=torch.bool))
        assert loss == 0
        assert torch.equal(gradient, torch.zeros_like(gradient))

    def test_padding_changes_nothing(self, loss_of: PixelLoss) -> None:
        """An image without a valid pixel neither moves the mean nor gets a gradient."""
        logits, valid = torch.from_numpy(maps(0)).float(), torch.from_numpy(some_valid())
        valid[2] = False
        loss, gradient = self.gradient(loss_of, logits, valid)
        alone, _ = self.gradient(loss_of, logits[:2], valid[:2])
        assert loss == pytest.approx(alone, rel=1e-6)
        assert torch.equal(gradient[2], torch.zeros_like(gradient[2]))

    def test_no_gradient_is_computed_where_none_is_wanted(self, loss_of: PixelLoss) -> None:
        logits, valid = torch.from_numpy(maps(0)).float(), torch.from_numpy(some_valid())
        with torch.inference_mode():
            assert not loss_of(logits, valid).requires_grad

    def test_low_precision_maps_give_float32_losses(self, loss_of: PixelLoss) -> None:
        logits, valid = torch.from_numpy(maps(0)).bfloat16(), torch.from_numpy(some_valid())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = loss_of(logits, valid)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(loss_of(logits.float(), valid).item(), rel=1e-6)


def test_memory_of_a_batch_does_not_grow_with_its_images() -> None:
    assert slices.images_in_slice(150, 512) == 1
    assert slices.images_in_slice(150, 64) == 27
    assert slices.images_in_slice(9, 64) > 256
