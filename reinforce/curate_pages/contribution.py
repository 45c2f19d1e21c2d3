"""How many items each query brought: an item belongs to the query that ranks it best.

    Q = queries
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from reinforce.counting import counted
from reinforce.curate.curated import CuratedSet
from reinforce.pages import Mark, Plotter

MAX_BARS = 200


@dataclass(frozen=True, kw_only=True)
class Contribution:
    counts: Mapping[str, int]
    """Items of each query, most first; of equal ones by name."""
    num_unnamed: int
    """Queries that brought nothing and whose names the set doesn't hold (class names)."""

    @classmethod
    def of(cls, curated: CuratedSet) -> Contribution | None:
        """None where items were drawn rather than brought by queries."""
        found = Counter(item.query for item in curated.items if item.query is not None)
        if not found:
            return None
        images = {query.key for query in curated.queries}
        names = images | found.keys() if found.keys() & images else set(found)
        ordered = sorted(names, key=lambda name: (-found[name], name))
        num_queries = curated.summary.get("num_queries")
        total = num_queries if isinstance(num_queries, int) else 0
        return cls(counts={name: found[name] for name in ordered}, num_unnamed=max(0, total - len(ordered)))

    @property
    def values(self) -> NDArray[np.int64]:
        """(Q,) descending."""
        return np.array([*self.counts.values(), *[0] * self.num_unnamed], np.int64)

    @property
    def num_queries(self) -> int:
        return len(self.counts) + self.num_unnamed

    @property
    def num_without(self) -> int:
        """Queries that brought nothing: others rank better whatever is near them."""
        return int((self.values == 0).sum())

    @property
    def median(self) -> float:
        return float(np.median(self.values))

    def spread(self, limit: int) -> list[str]:
        """Names of at most `limit` queries, from the one that brought most to the one that brought least, evenly."""
        names = list(self.counts)
        if len(names) <= limit:
            return names
        return [names[place] for place in np.linspace(0, len(names) - 1, limit).round().astype(int).tolist()]

    def to_json(self) -> dict[str, float]:
        values = self.values
        return {"queries": len(values), "min": int(values.min()), "median": self.median, "max": int(values.max()),
                "without": self.num_without}  # fmt: skip

    def __str__(self) -> str:
        values = self.values
        without = f" ({self.num_without} brought none)" if self.num_without else ""
        return f"{values.min()} to {values.max()} items a query, median {self.median:g}{without}"


def contribution_plot(plotter: Plotter, contribution: Contribution) -> Markup:
    """A bar a query, sorted; of many queries every n-th."""
    values = contribution.values
    num_bars = min(len(values), MAX_BARS)
    shown = values[np.linspace(0, len(values) - 1, num_bars).round().astype(int)]
    edges = np.linspace(0, len(values), num_bars + 1)
    return plotter.histogram(edges.tolist(), shown.tolist(),
                             title=f"Items of each of {counted(len(values), 'query', 'queries')}, sorted",
                             x_label="queries, sorted", y_label="items")  # fmt: skip


def rank_plot(plotter: Plotter, curated: CuratedSet) -> Markup | None:
    """At which ranks items were found; None where they have none."""
    ranks = np.array([item.rank for item in curated.items if item.rank is not None], np.int64)
    if not len(ranks):
        return None
    last = int(ranks.max())
    width = -(-last // MAX_BARS)
    edges = np.arange(0.5, last + width + 0.5, width)
    counts, _ = np.histogram(ranks, edges)
    depth = curated.summary.get("depth")
    marks = [Mark(at=depth + 0.5, label=f"k = {depth}")] if isinstance(depth, int) and depth else []
    return plotter.histogram(edges.tolist(), counts.tolist(), title=f"Ranks of {counted(len(ranks), 'item')}",
                             x_label="rank", y_label="items", marks=marks)  # fmt: skip
