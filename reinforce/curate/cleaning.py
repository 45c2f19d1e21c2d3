"""Rounds of selecting and cleaning, until what is selected has neither duplicates nor leaks.

Items are compared by their original images (B.3, B.4). What is removed makes room for the next items of the ranking, so
that a set has the size that was asked for. Each round looks at new items only; whatever it finds stays found.

    n = new items
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from reinforce.curate.embeddings import Items
from reinforce.curate.retrieval import Retrieval
from reinforce.curate.select import Ranking, Selection, TooShallowError
from reinforce.errors import UsageError


class Filter(Protocol):
    """Something that removes items."""

    def removed(self, new: Items) -> Items:
        """Items that must go, now that these (n,) have been selected, too."""


@dataclass
class Cleaning:
    """A ranking and what is removed from it. `select` is deterministic: rounds follow from the ranking alone."""

    retrieval: Retrieval
    filters: Sequence[Filter]
    banned: set[int] = field(default_factory=set)
    seen: set[int] = field(default_factory=set)
    """By the filters."""
    depth: int = 0
    _ranking: Ranking | None = None

    def select(self, size: int) -> Selection:
        """The best `size` clean items. Raises UsageError, with the largest size that can be had, where there are
        fewer."""
        try:
            return self._select(size)
        except TooShallowError:
            largest = self._largest()
            what = f"{largest} are left of the gallery" if largest else "nothing is left of the gallery"
            hint = f": type --size {largest} or less, or embed a larger one" if largest else ": look at its filters"
            raise UsageError(f"--size {size} is more than can be had, {what}{hint}") from None

    def _select(self, size: int) -> Selection:
        """Raises TooShallowError where the whole gallery is not enough."""
        while True:
            selection = self._deep_enough(size)
            new = np.array([item for item in selection.items.tolist() if item not in self.seen], np.int64)
            self.seen.update(new.tolist())
            gone = self._removed(new)
            if not gone:
                return selection
            self.banned |= gone

    def _removed(self, new: Items) -> set[int]:
        """By all filters; each sees what those before it have left of the new items."""
        gone: set[int] = set()
        for own in self.filters:
            removed = own.removed(new) if len(new) else new
            gone.update(removed.tolist())
            new = new[~np.isin(new, removed)]
        return gone - self.banned

    def _deep_enough(self, size: int) -> Selection:
        self.depth = self.depth or self.retrieval.first_depth(size)
        while True:
            self._ranking = self._ranking or self.retrieval.ranking(self.depth)
            try:
                return self._ranking.select(size, self._banned_items())
            except TooShallowError:
                if self._ranking.is_whole:
                    raise
                self._ranking, self.depth = None, 2 * self.depth

    def _largest(self) -> int:
        """The clean items of the whole gallery: all that are left, until nothing more is removed."""
        assert self._ranking is not None
        size = self._num_left()
        while size:
            try:
                return len(self._select(size))
            except TooShallowError:
                size = self._num_left()
        return 0

    def _num_left(self) -> int:
        assert self._ranking is not None
        return self._ranking.num_items - len(self.banned)

    def _banned_items(self) -> Items:
        return np.array(sorted(self.banned), np.int64)
