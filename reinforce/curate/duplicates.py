"""Pairs of items that are too alike, among all pairs, and clusters of them (the paper's section B.3).

    N, M = rows, D = dimensions of all encoders together, T = rows of a tile, B = rows of a block, n = pairs,
    L, R = left and right rows of a cluster

A float32 matrix product filters, with a proven margin (`kernel`); what may be above the threshold is computed exactly.
So the pairs are those of a float64 comparison of every row with every other, whatever the device and the block size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from reinforce.curate.disjoint_sets import DisjointSets
from reinforce.curate.embeddings import Items, Vectors, check_unit_length
from reinforce.curate.kernel import full_float32, passing
from reinforce.curate.likeness import TILE_ROWS, LikenessTile, Reduce, as_items, float_blocks
from reinforce.errors import UsageError

DUPLICATE_SIMILARITY = 0.99
"""Of section B.3."""
MOST_PAIRS = 20_000_000
"""Half a gigabyte."""
COMPARED_ROWS = 1024
"""Members of a large cluster that are compared at once in float64."""

Advance = Callable[[int], object]
"""Is told how many more pairs were compared."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows, by (left, right), and how alike they are."""

    left: Items
    """(n,)"""
    right: Items
    """(n,)"""
    scores: NDArray[np.float64]
    """(n,)"""

    def __len__(self) -> int:
        return len(self.left)

    @classmethod
    def concatenated(cls, several: Sequence[Pairs]) -> Pairs:
        """All of them, sorted."""
        nothing = cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
        left, right, scores = (np.concatenate([getattr(pairs, name) for pairs in (nothing, *several)])
                               for name in ("left", "right", "scores"))  # fmt: skip
        order = np.lexsort((right, left))
        return cls(left[order], right[order], scores[order])

    def only(self, wanted_n: NDArray[np.bool_]) -> Pairs:
        return Pairs(self.left[wanted_n], self.right[wanted_n], self.scores[wanted_n])


@dataclass(frozen=True)
class WeakestPair:
    """The least similar two members of a cluster."""

    left: int
    right: int
    similarity: float


@dataclass(frozen=True)
class Cluster:
    """Rows that are joined by pairs of duplicates, of which one is kept."""

    members: tuple[int, ...]
    """Ascending."""
    kept: int
    weakest: WeakestPair
    """Duplicates of duplicates need not be alike: it may be far below the threshold."""


def similar_pairs(a_ND: Vectors, widths: Sequence[int], *, threshold: float = DUPLICATE_SIMILARITY,
                  reduce: Reduce = "mean", against_MD: Vectors | None = None, first_new: int = 0,
                  most: int = MOST_PAIRS, device: str = "cpu", progress: Advance | None = None) -> Pairs:  # fmt: skip
    """All pairs of rows left < right whose mean (or largest) cosine exceeds the threshold.

    `first_new`: only pairs with a row from there on, the others were compared before. `against_MD`: instead, pairs of
    a row of a (from `first_new` on) and a row of this. Memory besides these: the pairs, and some MB for blocks.

    Raises EmbeddingError for vectors that are not of unit length, UsageError for more pairs than `most`.
    """
    found, count = [], 0
    for likely in _likely_pairs(a_ND, widths, threshold, reduce, against_MD, first_new, device, progress):
        found.append(likely.above(threshold))
        count += len(found[-1])
        if count > most:
            raise UsageError(f"more than {most} pairs are more alike than {threshold:g}: type a larger threshold")
    return Pairs.concatenated(found)


def connecting_pairs(a_ND: Vectors, widths: Sequence[int], *, threshold: float = DUPLICATE_SIMILARITY,
                     reduce: Reduce = "mean", first_new: int = 0, device: str = "cpu",
                     progress: Advance | None = None) -> Pairs:  # fmt: skip
    """N - 1 of the `similar_pairs` at most, which connect what all of them connect: a spanning forest.

    For clusters that is enough, and a gallery may hold any number of equal images.
    """
    sets, found = DisjointSets(len(a_ND)), []
    for likely in _likely_pairs(a_ND, widths, threshold, reduce, None, first_new, device, progress):
        apart = likely.only(sets.labels_N[likely.left] != sets.labels_N[likely.right])
        pairs = apart.above(threshold)
        found.append(pairs.only(sets.join(pairs.left, pairs.right)))
    return Pairs.concatenated(found)


def duplicate_clusters(num_rows: int, pairs: Pairs, vectors_ND: Vectors, widths: Sequence[int],
                       preference_N: NDArray[np.integer]) -> list[Cluster]:  # fmt: skip
    """Connected components of the pairs that have two rows or more, in the order of their first rows.

    Of each the row of lowest preference value is kept, and of equal ones the first.
    """
    sets = DisjointSets(num_rows)
    sets.join(pairs.left, pairs.right)
    return [_cluster(members, vectors_ND, widths, preference_N) for members in sets.members()]


def _cluster(members_n: Items, vectors_ND: Vectors, widths: Sequence[int], preference_N: NDArray[np.integer]
             ) -> Cluster:  # fmt: skip
    kept = int(members_n[np.argmin(preference_N[members_n])])
    return Cluster(tuple(members_n.tolist()), kept, weakest_pair(members_n, vectors_ND, widths))


def weakest_pair(members_n: Items, vectors_ND: Vectors, widths: Sequence[int]) -> WeakestPair:
    """Of rows, ascending, the two of least mean cosine; of equally similar ones the first two.

    Products in float64 are exact (`embeddings`). Time grows with the square of the cluster, memory does not.
    """
    weakest = WeakestPair(-1, -1, np.inf)
    for start in range(0, len(members_n), COMPARED_ROWS):
        left = members_n[start : start + COMPARED_ROWS]
        left_LD = vectors_ND[left].astype(np.float64)
        for other in range(start, len(members_n), COMPARED_ROWS):
            right = members_n[other : other + COMPARED_ROWS]
            products_LR = left_LD @ vectors_ND[right].astype(np.float64).T
            products_LR[left[:, None] >= right] = np.inf
            row, column = np.unravel_index(np.argmin(products_LR), products_LR.shape)
            pair = WeakestPair(int(left[row]), int(right[column]), float(products_LR[row, column]) / len(widths))
            weakest = min(weakest, pair, key=lambda pair: (pair.similarity, pair.left, pair.right))
    return weakest


@dataclass(frozen=True)
class _LikelyPairs:
    """Pairs of a tile and a block that the filter lets pass."""

    left: Items
    right: Items
    tile: LikenessTile
    block_BD: torch.Tensor
    rows_n: torch.Tensor
    """Within the tile."""
    columns_n: torch.Tensor
    """Within the block."""

    def only(self, wanted_n: NDArray[np.bool_]) -> _LikelyPairs:
        places_n = torch.from_numpy(wanted_n).to(self.rows_n.device)
        return _LikelyPairs(self.left[wanted_n], self.right[wanted_n], self.tile, self.block_BD,
                            self.rows_n[places_n], self.columns_n[places_n])  # fmt: skip

    def above(self, threshold: float) -> Pairs:
        """Those that really are."""
        if not len(self.left):
            return Pairs.concatenated([])
        scores = self.tile.exact(self.block_BD, self.rows_n, self.columns_n).cpu().numpy()
        return Pairs(self.left, self.right, scores).only(scores > threshold)


def _likely_pairs(a_ND: Vectors, widths: Sequence[int], threshold: float, reduce: Reduce, against_MD: Vectors | None,
                  first_new: int, device: str, progress: Advance | None) -> Iterator[_LikelyPairs]:  # fmt: skip
    """Tile by tile and block by block. Each is valid until the next one."""
    check_unit_length(a_ND, widths, "the vectors")
    if against_MD is not None:
        check_unit_length(against_MD, widths, "the vectors to compare with")
    for start in range(first_new, len(a_ND), TILE_ROWS):
        tile = LikenessTile(a_ND[start : start + TILE_ROWS], widths, reduce, torch.device(device))
        if against_MD is None:
            yield from _before(tile, start, a_ND, threshold)
            compared = len(tile) * start + len(tile) * (len(tile) - 1) // 2
        else:
            yield from _between(tile, start, against_MD, threshold)
            compared = len(tile) * len(against_MD)
        if progress is not None:
            progress(compared)


def _before(tile: LikenessTile, start: int, a_ND: Vectors, threshold: float) -> Iterator[_LikelyPairs]:
    """Pairs of a row of the tile, which is the right one, and any row before it: half of the matrix in all."""
    for likely in _between(tile, start, a_ND[: start + len(tile)], threshold):
        turned = replace(likely, left=likely.right, right=likely.left)
        yield turned.only(turned.left < turned.right)


def _between(tile: LikenessTile, start: int, rows_MD: Vectors, threshold: float) -> Iterator[_LikelyPairs]:
    """Pairs of a row of the tile, which is the left one, and any of these rows."""
    floor_T = tile.floor(threshold)
    for first, block_BD in float_blocks(rows_MD, tile.device):
        with full_float32():
            rows_n, columns_n = passing(tile.fast(block_BD), floor_T)
        left, right = as_items(rows_n, start), as_items(columns_n, first)
        yield _LikelyPairs(left, right, tile, block_BD, rows_n, columns_n)
