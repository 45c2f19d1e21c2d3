"""De-contamination: possible leaks with their nearest target images, against a comparison of every pair."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforce.curate import leaks, likeness
from reinforce.curate.embeddings import cosines
from reinforce.curate.leaks import Leak, possible_leaks
from reinforce.errors import EmbeddingError

WIDTHS = (5, 3)
FEW = settings(deadline=None, max_examples=30)


def unit_rows(rows: np.ndarray, widths: tuple[int, ...] = WIDTHS) -> np.ndarray:
    parts = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in np.split(rows, np.cumsum(widths)[:-1], 1)]
    return np.concatenate(parts, axis=1).astype(np.float16)


def related_rows(rng: np.random.Generator, count: int, widths: tuple[int, ...]) -> np.ndarray:
    """Few directions, near and equal rows, so that there are ties."""
    centres = np.random.default_rng(0).normal(size=(3, sum(widths)))
    noise = rng.choice([0.0, 0.05, 1.0], size=(count, 1)) * rng.normal(size=(count, sum(widths)))
    return unit_rows(centres[rng.integers(0, 3, count)] + noise, widths)


def slow_leaks(retrieved: np.ndarray, targets: np.ndarray, widths: tuple[int, ...], threshold: float, nearest: int
               ) -> list[Leak]:  # fmt: skip
    """By the letter of B.4, one pair at a time."""
    found = []
    for row, vector in enumerate(retrieved):
        scores = [float(cosines(vector[None], target[None], widths).max()) for target in targets]
        order = sorted(range(len(targets)), key=lambda place: (-scores[place], place))[:nearest]
        if max(scores) > threshold:
            found.append(Leak(row, max(scores), tuple(order), tuple(scores[place] for place in order)))
    return found


class TestPossibleLeaks:
    @FEW
    @given(seed=st.integers(0, 1 << 32), sizes=st.tuples(st.integers(0, 15), st.integers(1, 30)),
           threshold=st.sampled_from([-1.0, 0.5, 0.9, 0.95, 0.99, 1.0]), nearest=st.integers(1, 6),
           widths=st.sampled_from([(5, 3), (8,), (2, 3, 3)]), tile_rows=st.integers(1, 20))  # fmt: skip
    def test_are_those_of_a_comparison_of_every_pair(self, seed, sizes, threshold, nearest, widths, tile_rows):
        rng = np.random.default_rng(seed)
        retrieved, targets = (related_rows(rng, size, widths) for size in sizes)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(likeness, "TILE_ROWS", tile_rows)
            patch.setattr(leaks, "TILE_ROWS", tile_rows)
            found = possible_leaks(retrieved, targets, widths, threshold=threshold, nearest=nearest)
        assert found == slow_leaks(retrieved, targets, widths, threshold, nearest)

    def test_one_encoder_is_enough(self):
        """The mean of the two is far below the threshold."""
        retrieved = np.array([[1, 0, 1, 0]], np.float16)
        targets = np.array([[1, 0, 0, 1], [0, 1, 0, 1]], np.float16)
        (leak,) = possible_leaks(retrieved, targets, (2, 2))
        assert leak == Leak(0, 1.0, (0, 1), (1.0, 0.0))

    def test_every_planted_copy_is_found_in_every_split(self):
        rng = np.random.default_rng(1)
        targets = unit_rows(rng.normal(size=(500, 64)), (64,))
        copied = rng.permutation(500)[:40]
        retrieved = np.concatenate([unit_rows(rng.normal(size=(60, 64)), (64,)), targets[copied]])
        found = possible_leaks(retrieved, targets, (64,))
        assert [(leak.row, leak.nearest[0]) for leak in found] == [(60 + i, row) for i, row in enumerate(copied)]
        assert all(len(leak.nearest) == 5 for leak in found)

    def test_tells_how_many_items_it_has_compared(self):
        rows, told = unit_rows(np.random.default_rng(2).normal(size=(30, 8))), []
        possible_leaks(rows, rows, WIDTHS, progress=told.append)
        assert sum(told) == 30

    def test_no_target_images_and_bad_vectors_are_refused(self):
        rows = unit_rows(np.random.default_rng(3).normal(size=(4, 8)))
        with pytest.raises(EmbeddingError, match="no images to compare with"):
            possible_leaks(rows, rows[:0], WIDTHS)
        for retrieved, targets, name in ((rows * 2, rows, "retrieved"), (rows, rows * 2, "target")):
            with pytest.raises(EmbeddingError, match=f"the {name} images: row 0"):
                possible_leaks(retrieved, targets, WIDTHS)
