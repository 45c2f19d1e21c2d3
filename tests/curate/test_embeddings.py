"""Vectors of curation: what is refused, and that similarities are exact."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinforce.curate.embeddings import ArrayEmbeddings, check_unit_length, cosines, similarity
from reinforce.errors import EmbeddingError

WIDTHS = (5, 3)


def unit_rows(rng: np.random.Generator, count: int, widths: tuple[int, ...] = WIDTHS) -> np.ndarray:
    """(count, D) float16, every part of unit length."""
    parts = [rng.normal(size=(count, width)) for width in widths]
    return np.concatenate([p / np.linalg.norm(p, axis=1, keepdims=True) for p in parts], axis=1).astype(np.float16)


def inner_product(a: np.ndarray, b: np.ndarray) -> Fraction:
    return sum((Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True)), Fraction())


class TestUnitLength:
    @pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 2.0])
    def test_refuses(self, value: float) -> None:
        vectors = unit_rows(np.random.default_rng(0), 4)
        vectors[2, 5:] = value
        with pytest.raises(EmbeddingError, match="row 2 of encoder 2"):
            check_unit_length(vectors, WIDTHS, "gallery")

    def test_refuses_another_width(self) -> None:
        with pytest.raises(EmbeddingError, match=r"not \(rows, 9\)"):
            ArrayEmbeddings(unit_rows(np.random.default_rng(0), 4), (5, 4))

    def test_takes_rounded_unit_vectors_of_any_width(self) -> None:
        for width in (1, 2, 384, 1536):
            check_unit_length(unit_rows(np.random.default_rng(width), 200, (width,)), (width,), "gallery")


@given(seed=st.integers(0, 1 << 32))
def test_similarity_is_exact_in_any_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = unit_rows(rng, 3), unit_rows(rng, 3)
    expected = [float(inner_product(*pair) / 2) for pair in zip(a, b, strict=True)]
    order = rng.permutation(8)
    assert similarity(a, b, WIDTHS).tolist() == expected
    assert similarity(a[:, order], b[:, order], WIDTHS).tolist() == expected
    assert np.allclose(cosines(a, b, WIDTHS).mean(axis=1), expected, rtol=0, atol=1e-15)


class TestArrayEmbeddings:
    def test_units_cover_all_items_in_order(self) -> None:
        vectors = unit_rows(np.random.default_rng(1), 10)
        embeddings = ArrayEmbeddings(vectors, WIDTHS, unit_rows=4)
        blocks = [embeddings.unit(unit) for unit in range(embeddings.num_units)]
        assert np.concatenate([block.items for block in blocks]).tolist() == list(range(10))
        assert (np.concatenate([block.vectors for block in blocks]) == vectors).all()
        assert (embeddings.vectors(np.array([7, 2])) == vectors[[7, 2]]).all()

    def test_ties_are_in_the_order_of_keys(self) -> None:
        embeddings = ArrayEmbeddings(unit_rows(np.random.default_rng(2), 3), WIDTHS, keys=["c", "a", "b"])
        assert embeddings.tie_order(np.arange(3)).tolist() == [2, 0, 1]
