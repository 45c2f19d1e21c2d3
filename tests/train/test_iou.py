"""IoU against a pixel-by-pixel count: absent classes, ignored pixels, batches, ranks; the bootstrap's interval."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from reinforce.data import IGNORE
from train.iou import ConfusionMatrix, bootstrap_interval, class_iou, mean_over_classes
from train.world import World


def oracle(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> tuple[list[float | None], float, float]:
    """IoU per class, their mean, pixel accuracy: one pixel after the other."""
    pairs = [(t, p) for t, p in zip(truth.ravel().tolist(), predicted.ravel().tolist(), strict=True) if t != IGNORE]
    iou: list[float | None] = []
    for c in range(num_classes):
        union = sum(c in pair for pair in pairs)
        iou.append(sum(pair == (c, c) for pair in pairs) / union if union else None)
    present = [value for value in iou if value is not None]
    accuracy = sum(t == p for t, p in pairs) / len(pairs) if pairs else 0.0
    return iou, sum(present) / len(present) if present else 0.0, accuracy


def confusion_of(truth: np.ndarray, predicted: np.ndarray, num_classes: int) -> ConfusionMatrix:
    confusion = ConfusionMatrix.empty(num_classes)
    confusion.add(torch.from_numpy(truth), torch.from_numpy(predicted))
    return confusion


@given(st.integers(0, 500), st.integers(1, 6), st.integers(1, 6))
def test_is_the_oracle(seed: int, num_classes: int, num_used: int) -> None:
    rng = np.random.default_rng(seed)
    used = min(num_used, num_classes)
    truth = rng.integers(0, used, (5, 7)).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.3] = IGNORE
    predicted = rng.integers(0, num_classes, (5, 7)).astype(np.uint8)
    confusion = confusion_of(truth, predicted, num_classes)
    iou, mean, accuracy = oracle(truth, predicted, num_classes)
    assert list(confusion.iou) == pytest.approx(iou)
    assert confusion.mean_iou == pytest.approx(mean)
    assert confusion.pixel_accuracy == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("truth", "predicted", "iou", "mean"),
    [
        pytest.param([0, 0, 1, 1], [0, 0, 1, 1], (1.0, 1.0, None), 1.0, id="perfect, class 2 is absent"),
        pytest.param([0, 0, 1, 1], [0, 0, 1, 2], (1.0, 0.5, 0.0), 0.5, id="predicted but never true counts as 0"),
        pytest.param([0, 2, 0, 0], [0, 0, 0, 0], (0.75, None, 0.0), 0.375, id="true but never predicted is 0"),
        pytest.param([0, 255, 255, 1], [0, 2, 1, 1], (1.0, 1.0, None), 1.0, id="what is ignored counts nowhere"),
        pytest.param([255, 255], [0, 1], (None, None, None), 0.0, id="nothing is labelled"),
    ],
)
def test_which_classes_count(truth: list[int], predicted: list[int], iou: tuple[float | None, ...],
                             mean: float) -> None:  # fmt: skip
    confusion = confusion_of(np.array(truth, np.uint8), np.array(predicted, np.uint8), 3)
    assert confusion.iou == iou
    assert confusion.mean_iou == pytest.approx(mean)


def test_images_add_up() -> None:
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 4, (2, 3, 6, 5)).astype(np.uint8)
    confusion = ConfusionMatrix.empty(4)
    for one_truth, one_predicted in zip(truth, predicted, strict=True):
        confusion.add(torch.from_numpy(one_truth), torch.from_numpy(one_predicted))
    assert np.array_equal(confusion.counts, confusion_of(truth, predicted, 4).counts)
    assert confusion.counts.dtype == np.int64


def test_ranks_add_up() -> None:
    @dataclasses.dataclass(frozen=True)
    class Two(World):
        """Another rank counted the same."""

        def sum(self, values: torch.Tensor) -> torch.Tensor:
            return values * 2

    confusion = confusion_of(np.array([0, 1]), np.array([0, 0]), 2)
    confusion.sum_over(Two(torch.device("cpu"), size=2))
    assert confusion.counts.tolist() == [[2, 0], [2, 0]]


def image_sums(seed: int, num_images: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    images = [confusion_of(*rng.integers(0, 3, (2, 8, 8)), 3).class_sums for _ in range(num_images)]
    return np.stack(images)


def test_the_interval_holds_the_figure_and_narrows_with_more_images() -> None:
    widths = []
    for num_images in (20, 500):
        sums = image_sums(1, num_images)
        low, high = bootstrap_interval(sums)
        assert low < mean_over_classes(class_iou(sums.sum(axis=0))) < high
        assert (low, high) == bootstrap_interval(sums)
        widths.append(high - low)
    assert widths[1] < widths[0] / 2


def test_the_interval_is_that_of_a_slow_bootstrap() -> None:
    sums = image_sums(2, 12)
    rng = np.random.default_rng(0)
    figures = []
    for _ in range(2000):
        right, true, predicted = sums[rng.integers(0, 12, 12)].sum(axis=0)
        figures.append((right / (true + predicted - right)).mean())
    right, true, predicted = sums.sum(axis=0)
    figure, half_width = (right / (true + predicted - right)).mean(), 1.96 * np.std(figures)
    assert bootstrap_interval(sums) == pytest.approx((figure - half_width, figure + half_width), abs=0.005)


def test_the_interval_of_many_classes_in_few_images_holds_the_figure() -> None:
    """Quantiles of resamples lie below it: a class is in one image, and 0 in those without it."""
    sums = np.zeros((30, 3, 60), np.int64)
    for image in range(30):
        sums[image, :, [2 * image, 2 * image + 1]] = 100
        sums[image, 2, (2 * image + 7) % 60] = 20
    low, high = bootstrap_interval(sums)
    assert low < mean_over_classes(class_iou(sums.sum(axis=0))) < high


@pytest.mark.parametrize(("num_images", "expected"), [(0, (0.0, 1.0)), (1, None)])
def test_intervals_of_few_images(num_images: int, expected: tuple[float, float] | None) -> None:
    low, high = bootstrap_interval(image_sums(3, num_images) if num_images else np.zeros((0, 3, 3), np.int64))
    assert (low, high) == (expected or pytest.approx((low, low)))
