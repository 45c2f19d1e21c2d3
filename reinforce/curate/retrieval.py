"""The strategies of the paper (B.5) as rankings of a gallery that can be asked for more.

    Q = queries, D = dimensions of all encoders together
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from reinforce.curate.embeddings import Items, Vectors
from reinforce.curate.search import Matches, Neighbours
from reinforce.curate.select import BestMatches, Drawn, QueryBalanced, Ranking, random_order
from reinforce.curate.stored import StoredEmbeddings

SPARE = 3
"""Neighbours asked for at first, over those that queries need if no two share one."""

Nearest = Callable[[Vectors, int], Neighbours]
Best = Callable[[Vectors, int], Matches]


class Retrieval(Protocol):
    def first_depth(self, size: int) -> int:
        """A depth that may do for `size` items."""

    def ranking(self, depth: int) -> Ranking:
        """Of so many neighbours of each query, or so many items in all; of the whole gallery where it is smaller."""


@dataclass(frozen=True)
class BalancedRetrieval:
    """Every query's nearest items, whether queries are images or class names."""

    queries: Vectors
    """(Q, D)"""
    names: Sequence[str]
    """(Q,) keys, by which queries that lose their last neighbour are drawn."""
    gallery: StoredEmbeddings
    nearest: Nearest
    seed: int

    def first_depth(self, size: int) -> int:
        return math.ceil(SPARE * size / len(self.queries)) + 1

    def ranking(self, depth: int) -> Ranking:
        is_whole = depth >= self.gallery.num_embedded
        found = self.nearest(self.queries, min(depth, self.gallery.num_embedded))
        return QueryBalanced(found.items_Qk, found.scores_Qk, random_order(self.names, self.seed), is_whole)


@dataclass(frozen=True)
class BestRetrieval:
    """The items nearest to any query."""

    queries: Vectors
    """(Q, D)"""
    gallery: StoredEmbeddings
    best: Best

    def first_depth(self, size: int) -> int:
        return math.ceil(SPARE * size)

    def ranking(self, depth: int) -> Ranking:
        is_whole = depth >= self.gallery.num_embedded
        found = self.best(self.queries, min(depth, self.gallery.num_embedded))
        return BestMatches(found.items_N, found.queries_N, is_whole)


@dataclass(frozen=True)
class RandomRetrieval:
    """Items drawn from all."""

    gallery: StoredEmbeddings
    seed: int

    def first_depth(self, size: int) -> int:
        return size

    def ranking(self, depth: int) -> Ranking:
        items = self._items()
        owner = self.gallery.owner
        names = [f"{owner.keys[owner.sample(item)]}\0{owner.view(item)}" for item in items.tolist()]
        return Drawn(items[random_order(names, self.seed)])

    def _items(self) -> Items:
        owner = self.gallery.owner
        first = owner.embedded_samples * owner.store.num_views
        return np.asarray(first[:, None] + np.array(self.gallery.views)).reshape(-1)
