"""Which items of a gallery make the transfer set (the paper's section 3.4 and B.5): pure functions of ranked lists.

    Q = queries, K = neighbours found of each, N = items wanted

A ranking is what a search found, deep enough or not. Its `select` takes the best N that are not banned; it raises
TooShallowError where more must be found first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from reinforce.curate.embeddings import Items
from reinforce.data.keys import hash64

NONE = -1
"""Query and rank of an item that was drawn, not found."""


class TooShallowError(Exception):
    """The lists end before N items are sure; a search for more of them helps."""


@dataclass(frozen=True)
class Selection:
    """Items of a transfer set, best rank first."""

    items: Items
    """(N,)"""
    queries: Items
    """(N,) the query by which each was found: the one that ranks it best, and of equals the most similar one."""
    ranks: Items
    """(N,) from 1, the nearest."""
    depth: int = 0
    """k: how many neighbours of every query were taken, but for the last of some; 0 where that means nothing."""

    def __len__(self) -> int:
        return len(self.items)


class Ranking(Protocol):
    @property
    def is_whole(self) -> bool:
        """Whether it ranks the whole gallery."""

    @property
    def num_items(self) -> int:
        """Items of each list; of a whole ranking, all that there are."""

    def select(self, size: int, banned: Items) -> Selection:
        """The best `size` items that are not banned. Raises TooShallowError."""


@dataclass(frozen=True)
class QueryBalanced:
    """The union of every query's k nearest, with the smallest k that reaches N (section 3.4).

    Where it is more than N, the k-th neighbours of queries in a random order are dropped until N are left; an item
    that is still among another query's neighbours stays.
    """

    items: NDArray[np.signedinteger]
    """(Q, K)"""
    scores: NDArray[np.float64]
    """(Q, K)"""
    drop_order: Items
    """(Q,) queries in the order in which they lose their k-th neighbour."""
    is_whole: bool

    @property
    def num_items(self) -> int:
        return int(self.items.shape[1])

    def select(self, size: int, banned: Items) -> Selection:
        """Looks at no more of the lists than it must: their first columns, twice as many each time."""
        width = -(-size // len(self.items))
        while width < self.num_items:
            try:
                return self._select(width, size, banned)
            except TooShallowError:
                width *= 2
        return self._select(self.num_items, size, banned)

    def _select(self, width: int, size: int, banned: Items) -> Selection:
        items_QK, scores_QK = _without(self.items[:, :width], self.scores[:, :width], banned)
        first = _first_finds(items_QK, scores_QK)
        if len(first) < size:
            raise TooShallowError
        depth = int(np.sort(first.ranks)[size - 1])
        ends = (items_QK != NONE).sum(axis=1).min()
        if depth > ends and not (self.is_whole and width == self.num_items):
            raise TooShallowError  # of a query whose list ended sooner, the next neighbours are not known
        dropped = self._dropped(items_QK, first, depth, size)
        kept = (first.ranks <= depth) & ~np.isin(first.items, dropped)
        return Selection(first.items[kept], first.queries[kept], first.ranks[kept], depth)

    def _dropped(self, items_QK: NDArray[np.signedinteger], first: Selection, depth: int, size: int) -> Items:
        """Items that only queries at rank `depth` hold, given up one query after the other until `size` are left."""
        last = items_QK[:, depth - 1]
        held, counts = np.unique(last[np.isin(last, first.items[first.ranks == depth])], return_counts=True)
        holders = dict(zip(held.tolist(), counts.tolist(), strict=True))
        surplus, dropped = int((first.ranks <= depth).sum()) - size, []
        for query in self.drop_order.tolist():
            if surplus == 0:
                break
            item = int(last[query])
            if item in holders:
                holders[item] -= 1
                if holders[item] == 0:
                    dropped.append(item)
                    surplus -= 1
        return np.array(dropped, np.int64)


@dataclass(frozen=True)
class BestMatches:
    """Items by their similarity to the nearest query (B.5)."""

    items: Items
    queries: Items
    is_whole: bool

    @property
    def num_items(self) -> int:
        return len(self.items)

    def select(self, size: int, banned: Items) -> Selection:
        allowed = np.flatnonzero(~np.isin(self.items, banned))[:size]
        if len(allowed) < size:
            raise TooShallowError
        return Selection(self.items[allowed], self.queries[allowed], np.arange(1, size + 1))


@dataclass(frozen=True)
class Drawn:
    """Items in a random order (B.5)."""

    items: Items
    is_whole: bool = True

    @property
    def num_items(self) -> int:
        return len(self.items)

    def select(self, size: int, banned: Items) -> Selection:
        allowed = self.items[~np.isin(self.items, banned)][:size]
        if len(allowed) < size:
            raise TooShallowError
        none = np.full(size, NONE)
        return Selection(allowed, none, none)


def random_order(names: Sequence[str], seed: int) -> Items:
    """(len(names),) positions in a random order that only the seed and the names decide: by hash64("seed:name")."""
    hashes = np.array([hash64(f"{seed}:{name}") for name in names], np.uint64)
    return np.argsort(hashes, kind="stable")


def _without(items_QK: NDArray[np.signedinteger], scores_QK: NDArray[np.float64], banned: Items
             ) -> tuple[NDArray[np.signedinteger], NDArray[np.float64]]:  # fmt: skip
    """The lists without banned items, moved up; their ends are filled with NONE and -inf."""
    is_banned = np.isin(items_QK, banned)
    order = np.argsort(is_banned, axis=1, kind="stable")
    moved = np.take_along_axis(is_banned, order, axis=1)
    items = np.where(moved, NONE, np.take_along_axis(items_QK, order, axis=1))
    return items, np.where(moved, -np.inf, np.take_along_axis(scores_QK, order, axis=1))


def _first_finds(items_QK: NDArray[np.signedinteger], scores_QK: NDArray[np.float64]) -> Selection:
    """Every item once, at the best rank that any query gives it: by rank, then similarity, then query."""
    num_queries, num_found = items_QK.shape
    items, scores = items_QK.T.reshape(-1), scores_QK.T.reshape(-1)
    ranks, queries = np.divmod(np.arange(num_queries * num_found), num_queries)
    order = np.lexsort((queries, -scores, ranks))
    _, first = np.unique(items[order], return_index=True)
    place = order[np.sort(first)]
    place = place[items[place] != NONE]
    return Selection(items[place].astype(np.int64), queries[place], ranks[place] + 1)
