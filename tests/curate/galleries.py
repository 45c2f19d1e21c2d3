"""Galleries and an oracle for tests of search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from reinforce.curate.embeddings import ArrayEmbeddings, Block


def unit_rows(rng: np.random.Generator, count: int, widths: Sequence[int]) -> np.ndarray:
    """(count, D) float16, every part of unit length."""
    parts = [rng.standard_normal((count, width)) for width in widths]
    return np.concatenate([p / np.linalg.norm(p, axis=1, keepdims=True) for p in parts], axis=1).astype(np.float16)


@dataclass
class Holed:
    """Embeddings in which some items have no vector, in units of unequal size; unchecked, as a damaged store."""

    whole: ArrayEmbeddings
    missing: np.ndarray
    cuts: Sequence[int]
    """Starts of all units but the first."""

    def __post_init__(self) -> None:
        self.widths, self.num_items = self.whole.widths, self.whole.num_items
        self.num_units, self.num_embedded = len(self.cuts) + 1, self.num_items - len(self.missing)
        self.vectors, self.tie_order = self.whole.vectors, self.whole.tie_order

    def unit(self, unit: int) -> Block:
        start, stop = [0, *self.cuts, self.num_items][unit : unit + 2]
        items = np.setdiff1d(np.arange(start, stop), self.missing)
        return Block(items, self.whole.vectors(items))


def similarities(queries: np.ndarray, vectors: np.ndarray, num_encoders: int) -> np.ndarray:
    """(Q, N) exact."""
    return queries.astype(np.float64) @ vectors.astype(np.float64).T / num_encoders


def brute_force(scores: Sequence[float], ties: Sequence[int], allowed: Sequence[int], k: int) -> list[int]:
    """The k best items of a query, sorted as it is defined."""
    return sorted(allowed, key=lambda item: (-scores[item], ties[item]))[:k]
