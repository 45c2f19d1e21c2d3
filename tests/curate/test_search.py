"""Exact search: equal to the last bit to a sort of all exact similarities, however the gallery is cut."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from galleries import Holed, brute_force, similarities, unit_rows
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforce.curate import kernel, top_k
from reinforce.curate.embeddings import ArrayEmbeddings, Block, Embeddings
from reinforce.curate.search import best_matches, nearest
from reinforce.errors import EmbeddingError, UsageError

RNG = np.random.default_rng


@dataclass
class Case:
    id: str
    vectors: np.ndarray
    queries: np.ndarray
    k: int
    widths: tuple[int, ...] = (6,)
    unit_rows: int = 37
    block_rows: int = 64
    keys: list[str] | None = None
    excluded: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))


def case(id: str, num_items: int, num_queries: int, k: int, widths: tuple[int, ...] = (6,), **options: object) -> Case:
    rng = RNG(len(id) + num_items)
    return Case(id, unit_rows(rng, num_items, widths), unit_rows(rng, num_queries, widths), k, widths, **options)  # type: ignore[arg-type]


def plateaus() -> Case:
    """Few different vectors, each hundreds of times, under keys in random order: the k-th place is inside a plateau."""
    made = case("plateaus", 4000, 9, 150, keys=[f"{place:04d}" for place in RNG(1).permutation(4000)])
    made.vectors = made.vectors[RNG(2).integers(0, 5, 4000)]
    return made


def near_ties() -> Case:
    """Vectors that differ from each other by the last bit of one element: float32 products can't tell some apart."""
    made = case("near ties", 1500, 6, 40, (96,), keys=[f"{place:04d}" for place in RNG(3).permutation(1500)])
    made.vectors = np.repeat(made.vectors[:1], 1500, axis=0)
    bits = made.vectors.view(np.uint16)
    bits[np.arange(1500), RNG(4).integers(0, 96, 1500)] ^= 1
    made.queries[0] = made.vectors[0]
    return made


def ascending() -> Case:
    """Every item is better than all before it, so every one passes the filter."""
    made = case("ascending", 1500, 5, 12)
    made.queries = np.repeat(made.queries[:1], 5, axis=0)
    made.vectors = made.vectors[np.argsort(similarities(made.queries[:1], made.vectors, 1)[0])]
    return made


CASES = [
    case("one neighbour", 500, 20, 1),
    case("all neighbours", 300, 7, 300),
    case("one query", 700, 1, 9),
    case("one item", 1, 3, 1),
    case("two encoders", 900, 11, 20, (7, 5)),
    case("three encoders", 600, 11, 20, (3, 9, 4)),
    case("a unit is a block", 640, 5, 30, unit_rows=64),
    case("units larger than blocks", 700, 5, 30, unit_rows=500, block_rows=33),
    case("one block", 700, 5, 30, block_rows=4096),
    case("blocks of one", 90, 5, 30, block_rows=1),
    case("more neighbours than a block", 1500, 5, 400, block_rows=50),
    case("one dimension", 300, 4, 100, (1,)),
    case("excluded items", 500, 6, 25, excluded=RNG(0).permutation(500)[:200]),
    case("an excluded mask", 500, 6, 25, excluded=np.arange(500) % 3 == 0),
    case("all but k excluded", 200, 6, 25, excluded=np.arange(175)),
    plateaus(), near_ties(), ascending(),
]  # fmt: skip


def allowed_items(case: Case) -> list[int]:
    excluded = np.flatnonzero(case.excluded) if case.excluded.dtype == bool else case.excluded
    return np.setdiff1d(np.arange(len(case.vectors)), excluded).tolist()


def embeddings(case: Case) -> ArrayEmbeddings:
    return ArrayEmbeddings(case.vectors, case.widths, keys=case.keys, unit_rows=case.unit_rows)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
class TestAgainstBruteForce:
    def test_nearest(self, case: Case) -> None:
        gallery = embeddings(case)
        found = nearest(case.queries, gallery, case.k, excluded=case.excluded, block_rows=case.block_rows)
        exact = similarities(case.queries, case.vectors, len(case.widths))
        ties = gallery.tie_order(np.arange(len(case.vectors))).tolist()
        for query, scores in enumerate(exact):
            expected = brute_force(scores, ties, allowed_items(case), case.k)
            assert found.items_Qk[query].tolist() == expected
            assert found.scores_Qk[query].tolist() == scores[expected].tolist()

    def test_best_matches(self, case: Case) -> None:
        gallery = embeddings(case)
        found = best_matches(case.queries, gallery, case.k, excluded=case.excluded, block_rows=case.block_rows)
        exact = similarities(case.queries, case.vectors, len(case.widths))
        ties = gallery.tie_order(np.arange(len(case.vectors))).tolist()
        expected = brute_force(exact.max(axis=0), ties, allowed_items(case), case.k)
        assert found.items_N.tolist() == expected
        assert found.scores_N.tolist() == exact.max(axis=0)[expected].tolist()
        assert found.queries_N.tolist() == exact.argmax(axis=0)[expected].tolist()


@pytest.mark.parametrize("search", [nearest, best_matches])
def test_several_tiles_and_many_pairs_at_once(search: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small constants reach what otherwise takes thousands of queries, and change nothing."""
    made = case("tiles", 3000, 50, 60, (8, 8))
    before = search(made.queries, embeddings(made), made.k)  # type: ignore[operator]
    for module, name, value in ((kernel, "TILE_QUERIES", 7), (kernel, "FEW_PAIRS", 3), (kernel, "GATHERED_PAIRS", 2),
                                (top_k, "CUT_SLOTS", 500), (top_k, "RANKED_SLOTS", 500),
                                (top_k, "SMALL_IDS", 10)):  # fmt: skip
        monkeypatch.setattr(module, name, value)
    after = search(made.queries, embeddings(made), made.k, readers=3)  # type: ignore[operator]
    assert all(np.array_equal(getattr(before, name), getattr(after, name)) for name in vars(before))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1 << 20), num_items=st.integers(1, 150), num_queries=st.integers(1, 5))
def test_any_gallery_with_missing_items(data: st.DataObject, seed: int, num_items: int, num_queries: int) -> None:
    rng = RNG(seed)
    distinct = data.draw(st.integers(1, num_items))
    vectors = unit_rows(rng, distinct, (3, 2))[rng.integers(0, distinct, num_items)]
    missing = data.draw(st.sets(st.integers(0, num_items - 1), max_size=num_items - 1))
    cuts = sorted(data.draw(st.lists(st.integers(0, num_items), max_size=4)))
    keys = [str(key) for key in rng.permutation(num_items)]
    gallery = Holed(ArrayEmbeddings(vectors, (3, 2), keys=keys), np.array(sorted(missing), np.int64), cuts)
    k = data.draw(st.integers(1, gallery.num_embedded))
    queries = unit_rows(rng, num_queries, (3, 2))
    found = nearest(queries, gallery, k, block_rows=data.draw(st.integers(1, 100)))
    ties = gallery.tie_order(np.arange(num_items)).tolist()
    there = [item for item in range(num_items) if item not in missing]
    for query, scores in enumerate(similarities(queries, vectors, 2)):
        assert found.items_Qk[query].tolist() == brute_force(scores, ties, there, k)


@pytest.mark.parametrize("widths", [(1,), (384,), (768, 768), (64, 64, 64)])
def test_the_margin_holds_for_the_worst_of_vectors(widths: tuple[int, ...]) -> None:
    """Among them equal ones, whose sum of |a b| is as large as can be, and float32's errors too."""
    rng = RNG(sum(widths))
    queries, vectors = unit_rows(rng, 30, widths), unit_rows(rng, 300, widths)
    vectors[:30] = queries
    exact = similarities(queries, vectors, 1)
    errors = np.abs((torch.from_numpy(queries).float() @ torch.from_numpy(vectors).float().T).double().numpy() - exact)
    assert errors.max() <= kernel.margin(widths) < 2.1e-4 * len(widths)


class TestRefusals:
    @pytest.mark.parametrize(("k", "largest"), [(0, 50), (51, 50), (-1, 50)])
    def test_k_out_of_reach_names_the_largest(self, k: int, largest: int) -> None:
        made = case("small", 50, 3, 1)
        for search in (nearest, best_matches):
            with pytest.raises(UsageError, match=f"type 1 to {largest}$"):
                search(made.queries, embeddings(made), k)

    def test_what_is_excluded_counts(self) -> None:
        made = case("small", 50, 3, 1)
        for search in (nearest, best_matches):
            with pytest.raises(UsageError, match=r"type 1 to 30$"):
                search(made.queries, embeddings(made), 31, excluded=np.arange(20))

    def test_no_queries(self) -> None:
        made = case("small", 50, 3, 1)
        with pytest.raises(UsageError, match="no queries"):
            nearest(made.queries[:0], embeddings(made), 1)

    @pytest.mark.parametrize("value", [np.nan, np.inf, 0.5])
    @pytest.mark.parametrize("readers", [1, 2])
    def test_vectors_that_are_not_of_unit_length(self, value: float, readers: int) -> None:
        made = case("small", 500, 3, 1)
        gallery = embeddings(made)
        made.vectors[450] = value
        with pytest.raises(EmbeddingError, match="unit 12: row 6 of encoder 1"):
            nearest(made.queries, gallery, 1, readers=readers)
        made.queries[1] = value
        with pytest.raises(EmbeddingError, match="the queries: row 1 of encoder 1"):
            nearest(made.queries, gallery, 1)

    def test_vectors_of_another_width(self) -> None:
        made = case("small", 50, 3, 1, (1, 1))
        with pytest.raises(EmbeddingError, match="the queries"):
            nearest(made.queries[:, :1], embeddings(made), 1)


def test_progress_counts_every_vector_once() -> None:
    made, seen = case("progress", 500, 3, 1), []
    nearest(made.queries, embeddings(made), 1, progress=seen.append, block_rows=64, excluded=np.arange(10))
    assert sum(seen) == 490


def test_a_program_that_allows_low_precision_gets_its_setting_back() -> None:
    made = case("precision", 50, 3, 1)
    torch.set_float32_matmul_precision("medium")
    try:
        nearest(made.queries, embeddings(made), 1)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


class Far(ArrayEmbeddings):
    """Items that begin at `first`, as the last ones of a huge gallery."""

    first = 0

    @property
    def num_items(self) -> int:
        return self.first + len(self._vectors)

    @property
    def num_units(self) -> int:
        return -(-len(self._vectors) // self._unit_rows)

    def unit(self, unit: int) -> Block:
        start = unit * self._unit_rows
        vectors = self._vectors[start : start + self._unit_rows]
        return Block(np.arange(start, start + len(vectors)) + self.first, vectors)

    def tie_order(self, items: np.ndarray) -> np.ndarray:
        return super().tie_order(items - self.first)


@pytest.mark.parametrize(("largest", "kept_as"), [(499, np.int32), (2**31 - 1, np.int32), (2**31, np.int64)])
def test_item_numbers_are_as_small_as_they_fit(largest: int, kept_as: type) -> None:
    made = case("far", 500, 6, 25, keys=[f"{place:03d}" for place in RNG(7).permutation(500)])
    near, far = embeddings(made), Far(made.vectors, made.widths, keys=made.keys, unit_rows=37)
    far.first = largest - 499
    expected, found = nearest(made.queries, near, made.k), nearest(made.queries, far, made.k)
    assert found.items_Qk.dtype == kept_as
    assert np.array_equal(found.items_Qk.astype(np.int64) - far.first, expected.items_Qk)
    matches = best_matches(made.queries, far, made.k)
    assert matches.items_N.dtype == np.int64
    assert np.array_equal(matches.items_N - far.first, best_matches(made.queries, near, made.k).items_N)


def test_a_plateau_costs_no_memory() -> None:
    """Of 20,000 equal vectors no query keeps more than it may."""
    widths, gallery_rows = (4,), np.repeat(unit_rows(RNG(0), 1, (4,)), 20_000, axis=0)
    gallery: Embeddings = ArrayEmbeddings(gallery_rows, widths)
    found = nearest(unit_rows(RNG(1), 40, widths), gallery, 100)
    assert (found.items_Qk == np.arange(100)).all()


def test_faiss_agrees_where_float32_can_tell() -> None:
    faiss = pytest.importorskip("faiss")
    rng = RNG(5)
    vectors, queries = unit_rows(rng, 3000, (64,)), unit_rows(rng, 20, (64,))
    found = nearest(queries, ArrayEmbeddings(vectors, (64,)), 30)
    scores, items = faiss.knn(queries.astype(np.float32), vectors.astype(np.float32), 30, faiss.METRIC_INNER_PRODUCT)
    assert np.allclose(scores, found.scores_Qk, rtol=0, atol=1e-6)
    clear = np.ones(items.shape, bool)
    close = np.diff(found.scores_Qk, axis=1) > -1e-6
    clear[:, 1:] &= ~close
    clear[:, :-1] &= ~close
    clear[:, -1] = False
    assert clear.mean() > 0.9
    assert (items == found.items_Qk)[clear].all()
