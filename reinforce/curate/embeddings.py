"""Unit vectors of a gallery or a query set, as search, de-duplication and review see them.

    B = rows of a block, D = dimensions of all encoders together, E = encoders, n = items asked for

Several encoders' vectors lie side by side in one row, each of unit length, in float16. The similarity of two items is
the mean of their cosines (section B.2), which is their inner product over E. It is defined on the stored float16
values, where it is exact: float16 numbers are multiples of 2^-24, so products are multiples of 2^-48, and a sum of
them that is at most 2 E needs fewer than the 53 bits of a float64. The order of a sum can't matter, and neither can
the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reinforce.errors import EmbeddingError

NORM_TOLERANCE = 2e-3
"""Rounding a unit vector to float16 changes its length by 5e-4 at most."""

Vectors = NDArray[np.float16]
Items = NDArray[np.int64]


@dataclass(frozen=True)
class Block:
    """The items of a unit, ascending, and their vectors."""

    items: Items
    """(B,)"""
    vectors: Vectors
    """(B, D)"""


class Embeddings(Protocol):
    """Items 0 .. num_items - 1, some of which have no vector (an image that could not be decoded)."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Dimensions of each encoder's part of a row."""

    @property
    def num_items(self) -> int:
        """One more than the largest item."""

    @property
    def num_embedded(self) -> int:
        """Items that have a vector."""

    @property
    def num_units(self) -> int: ...

    def unit(self, unit: int) -> Block:
        """What has a vector in a unit, lengths unchecked; later units have larger items. Raises CorruptStoreError."""

    def vectors(self, items: Items) -> Vectors:
        """(n, D) of any items, in their order; those near each other are cheap. Raises KeyError without a vector."""

    def tie_order(self, items: Items) -> Items:
        """(n,) places of the items in the order of their keys: of equal scores the lower place comes first."""


class ArrayEmbeddings:
    """Embeddings in memory: every row has a vector, and keys are in order unless they are given."""

    def __init__(self, vectors_ND: NDArray[Any], widths: Sequence[int], *, keys: Sequence[str] | None = None,
                 unit_rows: int = 4096, name: str = "the vectors") -> None:  # fmt: skip
        """`vectors_ND` is taken as float16. Raises EmbeddingError where it is not of unit length, part by part."""
        self.widths = tuple(widths)
        self._vectors = np.asarray(vectors_ND).astype(np.float16, copy=False)
        self._unit_rows = unit_rows
        check_unit_length(self._vectors, self.widths, name)
        places = np.argsort(np.array(keys, dtype=object), kind="stable") if keys is not None else None
        self._tie_order = None if places is None else np.argsort(places)

    @property
    def num_items(self) -> int:
        return len(self._vectors)

    @property
    def num_embedded(self) -> int:
        return len(self._vectors)

    @property
    def num_units(self) -> int:
        return -(-self.num_items // self._unit_rows)

    def unit(self, unit: int) -> Block:
        start, stop = unit * self._unit_rows, min((unit + 1) * self._unit_rows, self.num_items)
        return Block(np.arange(start, stop), self._vectors[start:stop])

    def vectors(self, items: Items) -> Vectors:
        return np.asarray(self._vectors[items])

    def tie_order(self, items: Items) -> Items:
        return np.asarray(items if self._tie_order is None else self._tie_order[items], np.int64)


def check_unit_length(vectors_BD: Vectors, widths: Sequence[int], name: str) -> None:
    """Raises EmbeddingError for NaN, infinity, another width, and where a part is not of unit length."""
    if vectors_BD.ndim != 2 or vectors_BD.shape[1] != sum(widths):
        raise EmbeddingError(f"{name}: vectors have shape {vectors_BD.shape}, not (rows, {sum(widths)})")
    for number, (start, stop) in enumerate(parts(widths), start=1):
        part = vectors_BD[:, start:stop].astype(np.float32)
        lengths = np.sqrt(np.einsum("bd,bd->b", part, part))
        bad = np.flatnonzero(~(np.abs(lengths - 1) <= NORM_TOLERANCE))
        if len(bad):
            raise EmbeddingError(f"{name}: row {bad[0]} of encoder {number} has length {lengths[bad[0]]:.4g}, not 1 "
                                 f"({len(bad)} such): make the store anew with reinforce embed")  # fmt: skip


def parts(widths: Sequence[int]) -> list[tuple[int, int]]:
    """(start, stop) of every encoder's part of a row."""
    stops = list(accumulate(widths))
    return list(zip([0, *stops[:-1]], stops, strict=True))


def cosines(a_nD: Vectors, b_nD: Vectors, widths: Sequence[int]) -> NDArray[np.float64]:
    """(n, E) exact inner products of rows of a with rows of b, encoder by encoder."""
    products = a_nD.astype(np.float64) * b_nD.astype(np.float64)
    return np.stack([products[:, start:stop].sum(axis=1) for start, stop in parts(widths)], axis=1)


def similarity(a_nD: Vectors, b_nD: Vectors, widths: Sequence[int]) -> NDArray[np.float64]:
    """(n,) exact mean of the encoders' cosines."""
    return np.asarray((a_nD.astype(np.float64) * b_nD.astype(np.float64)).sum(axis=1) / len(widths))
