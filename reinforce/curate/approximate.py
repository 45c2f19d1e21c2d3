"""Approximate search of a huge gallery through a faiss index in memory, told how much it misses.

    Q = queries, D = dimensions of all encoders together, k = items asked for of each query, c = candidates of a query
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.curate.embeddings import Embeddings, Items, Vectors, check_unit_length, similarity
from reinforce.curate.search import Neighbours, nearest, too_many
from reinforce.errors import MissingExtraError, UsageError

TRAINING_VECTORS = 100_000
CANDIDATES = 2
"""Taken from the index for each item asked for; the best of them by exact similarity are given."""


@dataclass(frozen=True)
class ApproximateNeighbours:
    """Neighbours with exact similarities, of which some lack."""

    neighbours: Neighbours
    recall: float
    """Part of the exact k nearest that were found, over the sampled queries."""
    sampled_queries: int


def approximate_nearest(queries_QD: Vectors, gallery: Embeddings, k: int, *, index: str = "IVF1024,SQfp16",
                        probes: int = 32, sample: int = 50, seed: int = 0) -> ApproximateNeighbours:  # fmt: skip
    """The k nearest among what a faiss index finds, ordered by exact similarity.

    `index` is in the words of `faiss.index_factory`; of an IVF index a query visits `probes` cells. Recall is measured
    by an exact search for `sample` random queries. Raises UsageError where k is out of reach or the index finds fewer,
    EmbeddingError for vectors that are not of unit length, MissingExtraError without faiss.
    """
    if not 1 <= k <= gallery.num_embedded:
        raise too_many(k, gallery.num_embedded)
    check_unit_length(queries_QD, gallery.widths, "the queries")
    built, items_N = _build(gallery, index, probes, seed)
    _, places_Qc = built.search(queries_QD.astype(np.float32), min(CANDIDATES * k, len(items_N)))
    if (places_Qc >= 0).sum(axis=1).min() < k:
        raise UsageError(f"{index} finds fewer than {k} items of a query in {probes} cells: "
                         "visit more of them, or search exactly")  # fmt: skip
    rows = [_rescored(query_D, gallery, items_N[places_c[places_c >= 0]], k)
            for query_D, places_c in zip(queries_QD, places_Qc, strict=True)]  # fmt: skip
    items_Qk, scores_Qk = (np.stack(column) for column in zip(*rows, strict=True))
    sampled = np.sort(np.random.default_rng(seed).permutation(len(queries_QD))[:sample])
    exact = nearest(queries_QD[sampled], gallery, k).items_Qk
    hits = sum(len(np.intersect1d(a, b)) for a, b in zip(items_Qk[sampled], exact, strict=True))
    return ApproximateNeighbours(Neighbours(items_Qk, scores_Qk), hits / (k * len(sampled)), len(sampled))


def _build(gallery: Embeddings, index: str, probes: int, seed: int) -> tuple[Any, Items]:
    """An index of the whole gallery, trained on some random units, and the items at its places."""
    try:
        import faiss
    except ImportError as error:
        raise MissingExtraError("faiss-cpu", "curate", "approximate search") from error
    built = faiss.index_factory(sum(gallery.widths), index, faiss.METRIC_INNER_PRODUCT)
    sample, count = [], 0
    for unit in np.random.default_rng(seed).permutation(gallery.num_units).tolist():
        sample.append(gallery.unit(unit).vectors.astype(np.float32))
        count += len(sample[-1])
        if count >= TRAINING_VECTORS:
            break
    built.train(np.concatenate(sample))
    items = []
    for unit in range(gallery.num_units):
        block = gallery.unit(unit)
        check_unit_length(block.vectors, gallery.widths, f"the gallery's unit {unit}")
        built.add(block.vectors.astype(np.float32))
        items.append(block.items)
    cells = faiss.try_extract_index_ivf(built)
    if cells is not None:
        cells.nprobe = min(probes, cells.nlist)
    return built, np.concatenate(items)


def _rescored(query_D: Vectors, gallery: Embeddings, items_c: Items, k: int) -> tuple[Items, NDArray[np.float64]]:
    items_c = np.sort(items_c)
    scores_c = similarity(gallery.vectors(items_c), query_D[None], gallery.widths)
    best = np.lexsort((gallery.tie_order(items_c), -scores_c))[:k]
    return items_c[best], scores_c[best]
