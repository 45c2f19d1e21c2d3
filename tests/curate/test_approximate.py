"""The approximate search: exact scores, a recall that is measured, and errors that say what to do."""

from __future__ import annotations

import numpy as np
import pytest
from galleries import similarities, unit_rows

from reinforce.curate.approximate import approximate_nearest
from reinforce.curate.embeddings import ArrayEmbeddings
from reinforce.curate.search import nearest
from reinforce.errors import UsageError

pytest.importorskip("faiss")
RNG = np.random.default_rng(0)
VECTORS, QUERIES = unit_rows(RNG, 2000, (16,)), unit_rows(RNG, 12, (16,))
GALLERY = ArrayEmbeddings(VECTORS, (16,), unit_rows=300)


def test_an_index_that_misses_nothing_is_the_exact_search() -> None:
    found = approximate_nearest(QUERIES, GALLERY, 20, index="Flat")
    exact = nearest(QUERIES, GALLERY, 20)
    assert (found.neighbours.items_Qk == exact.items_Qk).all()
    assert (found.neighbours.scores_Qk == exact.scores_Qk).all()
    assert (found.recall, found.sampled_queries) == (1.0, 12)


def test_recall_is_that_of_all_queries_where_all_are_sampled() -> None:
    found = approximate_nearest(QUERIES, GALLERY, 20, index="IVF16,SQfp16", probes=4)
    exact = nearest(QUERIES, GALLERY, 20)
    pairs = zip(found.neighbours.items_Qk, exact.items_Qk, strict=True)
    assert found.recall == sum(len(set(a) & set(b)) for a, b in pairs) / (12 * 20) < 1
    scores = np.take_along_axis(similarities(QUERIES, VECTORS, 1), found.neighbours.items_Qk, axis=1)
    assert (scores == found.neighbours.scores_Qk).all()


def test_refusals() -> None:
    with pytest.raises(UsageError, match="fewer than 500 items"):
        approximate_nearest(QUERIES, GALLERY, 500, index="IVF16,Flat", probes=1)
    with pytest.raises(UsageError, match="type 1 to 2000"):
        approximate_nearest(QUERIES, GALLERY, 2001, index="Flat")
