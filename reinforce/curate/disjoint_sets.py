"""Connected components, found while their edges come in.

    N = rows, n = edges
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reinforce.curate.embeddings import Items

CHUNK_EDGES = 1 << 16
"""Edges that are joined one by one; those after them see what they have joined."""


class DisjointSets:
    """Rows 0 .. N - 1 in sets that edges join."""

    def __init__(self, num_rows: int) -> None:
        self.labels_N: Items = np.arange(num_rows)
        """The smallest row of each row's set."""

    def join(self, left_n: Items, right_n: Items) -> NDArray[np.bool_]:
        """(n,) True for edges that joined two sets: together a spanning forest, N - 1 edges at most."""
        chunks = [slice(start, start + CHUNK_EDGES) for start in range(0, len(left_n), CHUNK_EDGES)]
        return np.concatenate([np.zeros(0, np.bool_), *(self._join(left_n[here], right_n[here]) for here in chunks)])

    def members(self) -> list[Items]:
        """Rows, ascending, of every set of two or more, in the order of their first rows."""
        order = np.argsort(self.labels_N, kind="stable")
        cuts = np.flatnonzero(np.diff(self.labels_N[order])) + 1
        return [rows for rows in np.split(order, cuts) if len(rows) > 1]

    def _join(self, left_n: Items, right_n: Items) -> NDArray[np.bool_]:
        left_n, right_n = self.labels_N[left_n], self.labels_N[right_n]
        joined_n = np.zeros(len(left_n), np.bool_)
        parents: dict[int, int] = {}
        for edge in np.flatnonzero(left_n != right_n).tolist():
            a, b = _root(parents, int(left_n[edge])), _root(parents, int(right_n[edge]))
            if a != b:
                parents[max(a, b)] = min(a, b)
                joined_n[edge] = True
        if parents:
            roots_N = np.arange(len(self.labels_N))
            roots_N[list(parents)] = [_root(parents, label) for label in list(parents)]
            self.labels_N = roots_N[self.labels_N]
        return joined_n


def _root(parents: dict[int, int], label: int) -> int:
    """Follows parents, and halves the path for the next one."""
    while label in parents:
        parent = parents[label]
        if parent in parents:
            parents[label] = parents[parent]
        label = parent
    return label
