"""De-duplication: every pair is found that a float64 comparison of all rows finds, and clusters show chains."""

from __future__ import annotations

import itertools
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforce.curate import duplicates, likeness
from reinforce.curate.disjoint_sets import DisjointSets
from reinforce.curate.duplicates import Pairs, connecting_pairs, duplicate_clusters, similar_pairs
from reinforce.curate.embeddings import cosines, similarity
from reinforce.errors import EmbeddingError, UsageError

WIDTHS = (5, 3)
FEW = settings(deadline=None, max_examples=30)


def unit(rows: np.ndarray, widths: tuple[int, ...] = WIDTHS) -> np.ndarray:
    """float16, every part of unit length."""
    cuts = np.cumsum(widths)[:-1]
    parts = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in np.split(rows, cuts, axis=1)]
    return np.concatenate(parts, axis=1).astype(np.float16)


def alike_rows(rng: np.random.Generator, count: int, widths: tuple[int, ...] = WIDTHS) -> np.ndarray:
    """A few directions, copies of them, and rows that lie about as near to them as the threshold."""
    centres = rng.normal(size=(max(1, count // 6), sum(widths)))
    noise = rng.choice([0.0, 0.02, 0.1, 0.5], size=(count, 1)) * rng.normal(size=(count, sum(widths)))
    return unit(centres[rng.integers(0, len(centres), count)] + noise, widths)


def likeness_of(a: np.ndarray, b: np.ndarray, widths: tuple[int, ...], reduce: str) -> float:
    one, other = a[None], b[None]
    return float(similarity(one, other, widths)[0] if reduce == "mean" else cosines(one, other, widths).max())


def all_pairs(a: np.ndarray, widths: tuple[int, ...], threshold: float, reduce: str = "mean") -> list[tuple]:
    scored = ((i, j, likeness_of(a[i], a[j], widths, reduce)) for i, j in combinations(range(len(a)), 2))
    return [pair for pair in scored if pair[2] > threshold]


def as_tuples(pairs: Pairs) -> list[tuple]:
    return list(zip(pairs.left.tolist(), pairs.right.tolist(), pairs.scores.tolist(), strict=True))


def components(num_rows: int, edges: list[tuple[int, int]]) -> set[frozenset[int]]:
    """By following edges."""
    near = {row: {row} for row in range(num_rows)}
    for i, j in edges:
        near[i].add(j)
        near[j].add(i)
    for _ in range(num_rows):
        near = {row: set().union(*(near[other] for other in own)) for row, own in near.items()}
    return {frozenset(own) for own in near.values() if len(own) > 1}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles and blocks of few rows, so that few rows cross many of them."""
    monkeypatch.setattr(likeness, "TILE_ROWS", 7)
    monkeypatch.setattr(duplicates, "TILE_ROWS", 7)
    monkeypatch.setattr(duplicates, "COMPARED_ROWS", 4)


thresholds = st.sampled_from([-1.0, 0.0, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0])
seeds = st.integers(0, 1 << 32)


class TestSimilarPairs:
    @FEW
    @given(seed=seeds, count=st.integers(0, 30), threshold=thresholds, reduce=st.sampled_from(["mean", "max"]),
           tile_rows=st.integers(1, 40), widths=st.sampled_from([(5, 3), (8,), (2, 3, 3)]))  # fmt: skip
    def test_are_those_of_a_float64_comparison(self, seed, count, threshold, reduce, tile_rows, widths):
        a = alike_rows(np.random.default_rng(seed), count, widths)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(likeness, "TILE_ROWS", tile_rows)
            patch.setattr(duplicates, "TILE_ROWS", tile_rows)
            found = similar_pairs(a, widths, threshold=threshold, reduce=reduce)
        assert as_tuples(found) == all_pairs(a, widths, threshold, reduce)

    @settings(FEW, max_examples=10)
    @given(seed=seeds, reduce=st.sampled_from(["mean", "max"]))
    def test_a_threshold_that_is_a_score_is_not_exceeded(self, seed, reduce):
        a = alike_rows(np.random.default_rng(seed), 20)
        for threshold in sorted({pair[2] for pair in all_pairs(a, WIDTHS, 0.9, reduce)})[::5]:
            found = as_tuples(similar_pairs(a, WIDTHS, threshold=threshold, reduce=reduce))
            assert found == all_pairs(a, WIDTHS, threshold, reduce)

    @FEW
    @given(seed=seeds, count=st.integers(1, 30), cuts=st.sets(st.integers(0, 30), max_size=3), threshold=thresholds)
    def test_found_round_by_round_are_those_found_at_once(self, seed, count, cuts, threshold):
        a = alike_rows(np.random.default_rng(seed), count)
        steps = [*sorted({cut for cut in cuts if cut < count} | {0}), count]
        rounds = [similar_pairs(a[:stop], WIDTHS, threshold=threshold, first_new=start)
                  for start, stop in itertools.pairwise(steps)]  # fmt: skip
        assert as_tuples(Pairs.concatenated(rounds)) == as_tuples(similar_pairs(a, WIDTHS, threshold=threshold))

    @FEW
    @given(seed=seeds, sizes=st.tuples(st.integers(0, 20), st.integers(0, 20)), first_new=st.integers(0, 20),
           threshold=thresholds, reduce=st.sampled_from(["mean", "max"]))  # fmt: skip
    def test_between_two_sets(self, seed, sizes, first_new, threshold, reduce):
        rows = alike_rows(np.random.default_rng(seed), sum(sizes) + 1)
        a, b = rows[: sizes[0]], rows[sizes[0] :]
        found = similar_pairs(a, WIDTHS, threshold=threshold, reduce=reduce, against_MD=b, first_new=first_new)
        scored = [(i, j, likeness_of(a[i], b[j], WIDTHS, reduce)) for i, j in product(range(len(a)), range(len(b)))]
        assert as_tuples(found) == [pair for pair in scored if pair[2] > threshold and pair[0] >= first_new]

    def test_wide_vectors_near_the_threshold(self):
        """Hundreds of dimensions, where the order in which float32 sums add up shows."""
        rng = np.random.default_rng(0)
        widths = (384, 384)
        centre = rng.normal(size=(1, 768))
        a = unit(centre + 0.1 * rng.normal(size=(60, 768)), widths)
        scores = np.sort([pair[2] for pair in all_pairs(a, widths, -1)])
        for threshold in scores[::200]:
            assert as_tuples(similar_pairs(a, widths, threshold=threshold)) == all_pairs(a, widths, threshold)

    def test_every_planted_copy_is_found(self):
        rng = np.random.default_rng(1)
        originals = unit(rng.normal(size=(200, 384)), (384,))
        copied = rng.permutation(200)[:80]
        a = np.concatenate([originals, originals[copied]])
        found = similar_pairs(a, (384,), threshold=0.99)
        assert set(zip(found.left.tolist(), found.right.tolist(), strict=True)) == {
            (int(row), 200 + place) for place, row in enumerate(copied)
        }

    def test_tells_how_many_pairs_it_has_compared(self):
        a, told = unit(np.random.default_rng(2).normal(size=(30, 8))), []
        similar_pairs(a, WIDTHS, threshold=0.9, first_new=10, progress=told.append)
        assert sum(told) == 30 * 29 // 2 - 10 * 9 // 2
        told.clear()
        similar_pairs(a, WIDTHS, threshold=0.9, against_MD=a[:4], progress=told.append)
        assert sum(told) == 30 * 4

    def test_more_pairs_than_fit_are_refused(self):
        equal = np.repeat(unit(np.ones((1, 8))), 30, axis=0)
        with pytest.raises(UsageError, match=r"more than 100 pairs are more alike than 0\.99"):
            similar_pairs(equal, WIDTHS, threshold=0.99, most=100)

    @pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 0.9])
    def test_vectors_that_are_not_of_unit_length_are_refused(self, value):
        good = unit(np.random.default_rng(3).normal(size=(9, 8)))
        bad = good.copy()
        bad[4, :5] = value
        with pytest.raises(EmbeddingError, match="row 4 of encoder 1"):
            similar_pairs(bad, WIDTHS, threshold=0.9)
        with pytest.raises(EmbeddingError, match="row 4 of encoder 1"):
            similar_pairs(good, WIDTHS, threshold=0.9, against_MD=bad)


class TestConnectingPairs:
    @FEW
    @given(seed=seeds, count=st.integers(0, 40), threshold=thresholds, first_new=st.integers(0, 40),
           reduce=st.sampled_from(["mean", "max"]))  # fmt: skip
    def test_connect_what_all_pairs_connect(self, seed, count, threshold, first_new, reduce):
        a = alike_rows(np.random.default_rng(seed), count)
        given_ = {"threshold": threshold, "first_new": first_new, "reduce": reduce}
        some, every = connecting_pairs(a, WIDTHS, **given_), similar_pairs(a, WIDTHS, **given_)
        assert set(as_tuples(some)) <= set(as_tuples(every))
        groups = components(count, [pair[:2] for pair in as_tuples(every)])
        assert components(count, [pair[:2] for pair in as_tuples(some)]) == groups
        assert len(some) == sum(len(group) - 1 for group in groups)

    def test_any_number_of_equal_images_will_do(self, monkeypatch):
        monkeypatch.setattr(likeness, "TILE_ROWS", 256)
        monkeypatch.setattr(duplicates, "TILE_ROWS", 256)
        equal = np.repeat(unit(np.ones((1, 8))), 1500, axis=0)
        assert len(connecting_pairs(equal, WIDTHS, threshold=0.99)) == 1499


class TestDuplicateClusters:
    @FEW
    @given(seed=seeds, count=st.integers(0, 30), threshold=thresholds)
    def test_are_components_with_their_weakest_pair(self, seed, count, threshold):
        rng = np.random.default_rng(seed)
        a, preference = alike_rows(rng, count), rng.integers(0, 5, count)
        clusters = duplicate_clusters(count, similar_pairs(a, WIDTHS, threshold=threshold), a, WIDTHS, preference)
        edges = [pair[:2] for pair in all_pairs(a, WIDTHS, threshold)]
        assert {frozenset(cluster.members) for cluster in clusters} == components(count, edges)
        assert [cluster.members for cluster in clusters] == sorted(cluster.members for cluster in clusters)
        for cluster in clusters:
            assert list(cluster.members) == sorted(cluster.members)
            assert cluster.kept == min(cluster.members, key=lambda row: (preference[row], row))
            scored = [(likeness_of(a[i], a[j], WIDTHS, "mean"), i, j) for i, j in combinations(cluster.members, 2)]
            assert (cluster.weakest.similarity, cluster.weakest.left, cluster.weakest.right) == min(scored)

    def test_a_chain_shows_how_far_apart_its_ends_are(self):
        """Steps of 6 degrees: each is above 0.99, fifteen of them are a right angle."""
        angles = np.deg2rad(6 * np.arange(16))
        a = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float16)
        (chain,) = duplicate_clusters(16, similar_pairs(a, (2,), threshold=0.99), a, (2,), np.arange(16)[::-1])
        assert chain.members == tuple(range(16))
        assert chain.kept == 15
        assert (chain.weakest.left, chain.weakest.right) == (0, 15)
        assert chain.weakest.similarity == pytest.approx(0, abs=1e-3)

    def test_alone_there_are_none(self):
        assert duplicate_clusters(3, Pairs.concatenated([]), unit(np.eye(3, 8) + 1), WIDTHS, np.arange(3)) == []


@FEW
@given(num_rows=st.integers(1, 30), data=st.data(), chunk=st.integers(1, 9))
def test_disjoint_sets_are_components_whose_joins_form_a_forest(num_rows, data, chunk):
    rows = st.integers(0, num_rows - 1)
    edges = data.draw(st.lists(st.tuples(rows, rows), max_size=40))
    left, right = np.array(edges, np.int64).reshape(-1, 2).T
    sets = DisjointSets(num_rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("reinforce.curate.disjoint_sets.CHUNK_EDGES", chunk)
        joined = sets.join(left, right)
    assert {frozenset(members.tolist()) for members in sets.members()} == components(num_rows, edges)
    forest = [edge for edge, is_joined in zip(edges, joined, strict=True) if is_joined]
    assert components(num_rows, forest) == components(num_rows, edges)
    assert len(forest) == num_rows - len(set(sets.labels_N.tolist()))
