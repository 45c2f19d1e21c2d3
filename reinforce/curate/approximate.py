"""Approximate search of a huge gallery through a faiss index in memory, told how much it misses.

    Q = queries, q = queries asked together, D = dimensions of all encoders together, k = items asked for of each query,
    c = candidates of a query, n = pairs

An index only proposes: of its candidates the exact similarities are computed from the gallery, so what is given has
exact scores and order, and lacks what was not proposed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.curate.embeddings import Embeddings, Items, Vectors, check_unit_length, similarity
from reinforce.curate.kept_index import keep, load
from reinforce.curate.search import Advance, Neighbours, nearest, too_many
from reinforce.errors import MissingExtraError, UsageError

PROBES = 16
"""Cells of an IVF index that a query visits, if nothing else is asked for."""
TRAINING_VECTORS, TRAINING_OF_A_CELL = 100_000, 40
"""An index is trained on at least so many, if there are; faiss wants 39 for each cell of an IVF index."""
CANDIDATES = 2
"""Taken from the index for each item asked for; the best of them by exact similarity are given."""
MOST_CANDIDATES = 1 << 21
"""Of the queries that are asked together: each takes some 100 bytes."""
PAIRS = 2048
"""Whose vectors are read and multiplied together."""
SAMPLED_QUERIES = 50
"""Whose exact neighbours are searched for, too, as a measure of what is missed."""
NO_ITEM = -1


@dataclass(frozen=True)
class ApproximateNeighbours:
    """Neighbours with exact similarities, of which some lack."""

    neighbours: Neighbours
    recall: float
    """Part of the exact k nearest that were found, over the sampled queries."""
    sampled_queries: int


class ApproximateIndex:
    """A gallery in an index, built once. `words` are those of `faiss.index_factory`."""

    def __init__(self, gallery: Embeddings, words: str, probes: int | None = None, *, seed: int = 0,
                 kept: Path | None = None, progress: Advance = lambda _: None) -> None:  # fmt: skip
        """Raises as `make_index`, UsageError where the gallery is too small to train it, and EmbeddingError for vectors
        that are not of unit length. `progress` is told of indexed vectors. `kept`: the file from which it is read, if
        one of the same arguments has put it there, and else put."""
        self.gallery, self.words, self.seed = gallery, words, seed
        self._index = make_index(gallery.widths, words, probes)
        found = None if kept is None else load(kept)
        if found is not None:
            self._index, self._items_N = found
            _visit(self._index, words, probes)
            progress(len(self._items_N))
            return
        self._train()
        self._items_N = self._fill(progress)
        if kept is not None:
            keep(kept, self._index, self._items_N)

    def nearest(self, queries_QD: Vectors, k: int, *, sample: int = SAMPLED_QUERIES,
                device: str = "cpu") -> ApproximateNeighbours:  # fmt: skip
        """The k nearest among what the index proposes, ordered by exact similarity, and what an exact search of
        `sample` random queries finds of them.

        Raises UsageError where k is out of reach or the index proposes fewer, EmbeddingError for queries that are not
        of unit length.
        """
        if not 1 <= k <= self.gallery.num_embedded:
            raise too_many(k, self.gallery.num_embedded)
        check_unit_length(queries_QD, self.gallery.widths, "the queries")
        items_Qk, scores_Qk = np.empty((len(queries_QD), k), np.int64), np.empty((len(queries_QD), k))
        step = max(1, MOST_CANDIDATES // (CANDIDATES * k))
        for start in range(0, len(queries_QD), step):
            here = slice(start, start + step)
            items_Qk[here], scores_Qk[here] = self._nearest(queries_QD[here], k)
        sampled = np.sort(np.random.default_rng(self.seed).permutation(len(queries_QD))[:sample])
        exact = nearest(queries_QD[sampled], self.gallery, k, device=device).items_Qk
        hits = sum(len(np.intersect1d(a, b)) for a, b in zip(items_Qk[sampled], exact, strict=True))
        return ApproximateNeighbours(Neighbours(items_Qk, scores_Qk), hits / (k * len(sampled)), len(sampled))

    def _train(self) -> None:
        """On random units."""
        gallery, sample, count = self.gallery, [], 0
        cells = _cells(self._index)
        wanted = max(TRAINING_VECTORS, TRAINING_OF_A_CELL * (cells.nlist if cells is not None else 0))
        for unit in np.random.default_rng(self.seed).permutation(gallery.num_units).tolist():
            sample.append(gallery.unit(unit).vectors.astype(np.float32))
            count += len(sample[-1])
            if count >= wanted:
                break
        _explained(lambda: self._index.train(np.concatenate(sample)),
                   f"--index {self.words} cannot be trained on {count} vectors")  # fmt: skip

    def _fill(self, progress: Advance) -> Items:
        """The items at the index's places."""
        items = []
        for unit in range(self.gallery.num_units):
            block = self.gallery.unit(unit)
            check_unit_length(block.vectors, self.gallery.widths, f"the gallery's unit {unit}")
            self._index.add(block.vectors.astype(np.float32))
            items.append(block.items)
            progress(len(block.items))
        return np.concatenate(items)

    def _nearest(self, queries_qD: Vectors, k: int) -> tuple[Items, NDArray[np.float64]]:
        _, places_qc = self._index.search(queries_qD.astype(np.float32), min(CANDIDATES * k, len(self._items_N)))
        if (places_qc >= 0).sum(axis=1).min() < k:
            raise UsageError(f"--index {self.words} proposes fewer than {k} items for some query: type larger --probes "
                             "or fewer cells, or leave it out to search exactly")  # fmt: skip
        items_qc = np.where(places_qc >= 0, self._items_N[places_qc], NO_ITEM)
        scores_qc = self._similarities(queries_qD, items_qc)
        ties_qc = self.gallery.tie_order(items_qc.clip(min=0).reshape(-1)).reshape(items_qc.shape)
        best_qk = np.lexsort((ties_qc, -scores_qc))[:, :k]
        return np.take_along_axis(items_qc, best_qk, 1), np.take_along_axis(scores_qc, best_qk, 1)

    def _similarities(self, queries_qD: Vectors, items_qc: Items) -> NDArray[np.float64]:
        """(q, c) exact ones, -inf where there is no item. The gallery goes by in its order."""
        scores_qc = np.full(items_qc.shape, -np.inf)
        rows_n, columns_n = np.nonzero(items_qc != NO_ITEM)
        items_n = items_qc[rows_n, columns_n]
        order_n = np.argsort(items_n, kind="stable")
        for start in range(0, len(order_n), PAIRS):
            pairs = order_n[start : start + PAIRS]
            items, places = np.unique(items_n[pairs], return_inverse=True)
            found = similarity(self.gallery.vectors(items)[places], queries_qD[rows_n[pairs]], self.gallery.widths)
            scores_qc[rows_n[pairs], columns_n[pairs]] = found
        return scores_qc


def make_index(widths: Sequence[int], words: str, probes: int | None) -> Any:
    """An empty index. Raises MissingExtraError without faiss, UsageError for words that it doesn't know, and for
    `probes` of an index without cells."""
    faiss = _import_faiss()
    index = _explained(lambda: faiss.index_factory(sum(widths), words, faiss.METRIC_INNER_PRODUCT),
                       f"--index {words} is nothing that faiss makes of {sum(widths)} dimensions")  # fmt: skip
    _visit(index, words, probes)
    return index


def _visit(index: Any, words: str, probes: int | None) -> None:
    """Have a query visit so many cells. Raises UsageError where there are none."""
    cells = _cells(index)
    if cells is not None:
        cells.nprobe = min(probes or PROBES, cells.nlist)
    elif probes is not None:
        raise UsageError(f"--index {words} has no cells: leave out --probes, or type one such as IVF1024,SQfp16")


def probes_of(widths: Sequence[int], words: str, probes: int | None) -> int | None:
    """How many cells a query visits; None of an index without cells. Raises as `make_index`."""
    cells = _cells(make_index(widths, words, probes))
    return None if cells is None else int(cells.nprobe)


def _cells(index: Any) -> Any:
    """The part of an index that has `nlist` cells, or None."""
    return _import_faiss().try_extract_index_ivf(index)


def _import_faiss() -> ModuleType:
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("faiss-cpu", "curate", "--index") from error
    module: ModuleType = faiss
    return module


def _explained(call: Callable[[], Any], what: str) -> Any:
    """faiss names its sources before it comes to the point."""
    try:
        return call()
    except RuntimeError as error:
        reason = re.sub(r"^Error in .*? at \S+:\d+: (Error: '.*' failed: )?", "", " ".join(str(error).split()))
        raise UsageError(f"{what} ({reason})") from error
