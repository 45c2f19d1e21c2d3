"""What a curated set must not hold: duplicates of its own items, and images of the target dataset.

    n = new items, D = dimensions of all encoders together
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from reinforce.curate.curated import ClusterRecord, LeakRecord
from reinforce.curate.decisions import LEAK, Decision
from reinforce.curate.duplicates import Cluster, Pairs, connecting_pairs, duplicate_clusters
from reinforce.curate.embeddings import Items, Vectors
from reinforce.curate.leaks import Leak, possible_leaks
from reinforce.curate.targets import Targets

Originals = Callable[[Items], Vectors]
"""(n,) items -> (n, D) vectors of their original images."""


@dataclass
class CropFilter:
    """One crop of an image stays: they have the same original, which makes them duplicates (B.3)."""

    crops_of: Callable[[Items], Items]
    """(n,) items -> (n, K) all crops of their images."""
    kept: dict[int, int] = field(default_factory=dict)
    """First crop of each image -> the one that stays."""

    def removed(self, new: Items) -> Items:
        """All crops of the images of new items but the first that was found of each."""
        crops = self.crops_of(new)
        for first, item in zip(crops[:, 0].tolist(), new.tolist(), strict=True):
            self.kept.setdefault(first, item)
        return np.setdiff1d(crops, np.array(list(self.kept.values()), np.int64))


@dataclass
class DuplicateFilter:
    """One item of every cluster of duplicates stays (B.3): the first that was found.

    New items are compared with all that were ever seen, so a duplicate of a duplicate goes, too.
    """

    vectors_of: Originals
    widths: Sequence[int]
    threshold: float
    device: str = "cpu"
    items: list[int] = field(default_factory=list)
    """Seen, in the order in which they were found."""
    clusters: list[Cluster] = field(default_factory=list)
    """Of rows of `items`."""
    _vectors: Vectors | None = None
    _pairs: list[Pairs] = field(default_factory=list)

    def removed(self, new: Items) -> Items:
        """All but the first of each cluster."""
        first_new = len(self.items)
        self.items += new.tolist()
        added = self.vectors_of(new)
        self._vectors = added if self._vectors is None else np.concatenate([self._vectors, added])
        self._pairs.append(connecting_pairs(self._vectors, self.widths, threshold=self.threshold, first_new=first_new,
                                            device=self.device))  # fmt: skip
        rows = np.arange(len(self.items))
        self.clusters = duplicate_clusters(len(rows), Pairs.concatenated(self._pairs), self._vectors, self.widths, rows)
        gone = [row for cluster in self.clusters for row in cluster.members if row != cluster.kept]
        return np.array(self.items, np.int64)[np.array(gone, np.int64)]

    def records(self, key: Callable[[int], str]) -> list[ClusterRecord]:
        """Clusters with the keys of their items."""
        names = [key(item) for item in self.items]
        return [ClusterRecord(kept=names[cluster.kept], members=tuple(names[row] for row in cluster.members),
                              weakest=(names[cluster.weakest.left], names[cluster.weakest.right]),
                              similarity=cluster.weakest.similarity)
                for cluster in self.clusters]  # fmt: skip


@dataclass
class LeakFilter:
    """Items whose original may be an image of the target dataset go, unless a person has decided to keep them (B.4)."""

    targets: Targets
    vectors_of: Originals
    key: Callable[[int], str]
    widths: Sequence[int]
    threshold: float
    decisions: Mapping[str, Decision]
    """By the original's key; what has none is undecided."""
    device: str = "cpu"
    found: dict[str, LeakRecord] = field(default_factory=dict)

    def removed(self, new: Items) -> Items:
        """New possible leaks that nobody has decided to keep."""
        keys = [self.key(item) for item in new.tolist()]
        leaks = possible_leaks(self.vectors_of(new), self.targets.vectors, self.widths, threshold=self.threshold,
                               device=self.device)  # fmt: skip
        self.found |= {keys[leak.row]: self._record(keys[leak.row], leak) for leak in leaks}
        gone = [leak.row for leak in leaks if self.is_removed(keys[leak.row])]
        return new[np.array(gone, np.int64)]

    def is_removed(self, key: str) -> bool:
        """Of a possible leak."""
        return self.decisions.get(key, LEAK) == LEAK

    def _record(self, key: str, leak: Leak) -> LeakRecord:
        nearest = zip(leak.nearest, leak.scores, strict=True)
        return LeakRecord(key=key, max_cosine=leak.max_cosine,
                          nearest=tuple((self.targets.keys[row], float(score)) for row, score in nearest))  # fmt: skip
