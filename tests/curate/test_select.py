"""Which items a transfer set gets: the paper's algorithm against one that follows its words step by step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinforce.curate.select import BestMatches, Drawn, QueryBalanced, TooShallowError, random_order

NOTHING = np.array([], np.int64)


def ranked(seed: int, num_queries: int, num_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole lists of every query, by random scores."""
    scores = np.random.default_rng(seed).integers(0, 50, (num_queries, num_items)) / 50
    items = np.argsort(-scores, axis=1, kind="stable")
    return items, np.take_along_axis(scores, items, axis=1)


def by_the_letter(items_QK: np.ndarray, size: int, drop_order: list[int], banned: set[int]) -> set[int]:
    """Section 3.4: the smallest k whose union has N; then k-th neighbours of random queries go, until N are left."""
    lists = [[item for item in row.tolist() if item not in banned] for row in items_QK]
    k = next(k for k in range(1, len(lists[0]) + 1) if len({i for row in lists for i in row[:k]}) >= size)
    taken = [row[:k] for row in lists]
    for query in drop_order:
        if len({i for row in taken for i in row}) == size:
            break
        taken[query] = taken[query][: k - 1]
    return {i for row in taken for i in row}


@given(data=st.data(), num_queries=st.integers(1, 6), num_items=st.integers(1, 12), seed=st.integers(0, 1 << 20))
def test_query_balanced_is_the_papers_algorithm(
    data: st.DataObject, num_queries: int, num_items: int, seed: int
) -> None:
    items, scores = ranked(seed, num_queries, num_items)
    banned = data.draw(st.sets(st.integers(0, num_items - 1), max_size=num_items - 1))
    size = data.draw(st.integers(1, num_items - len(banned)))
    order = data.draw(st.permutations(range(num_queries)))
    items = items.astype(data.draw(st.sampled_from([np.int32, np.int64])))
    whole = QueryBalanced(items, scores, np.array(order), is_whole=True)
    selection = whole.select(size, np.array(sorted(banned), np.int64))
    assert set(selection.items.tolist()) == by_the_letter(items, size, order, banned)
    assert (len(selection), selection.items.dtype) == (size, np.int64)
    shallow = data.draw(st.integers(1, num_items))
    part = QueryBalanced(items[:, :shallow], scores[:, :shallow], np.array(order), is_whole=False)
    try:
        assert part.select(size, np.array(sorted(banned), np.int64)).items.tolist() == selection.items.tolist()
    except TooShallowError:
        assert shallow < num_items


def test_what_is_told_of_an_item_is_its_best_find() -> None:
    items = np.array([[4, 7, 5], [5, 4, 9]])
    scores = np.array([[0.9, 0.8, 0.5], [0.95, 0.9, 0.1]])
    selection = QueryBalanced(items, scores, np.array([1, 0]), is_whole=True).select(3, NOTHING)
    assert [*zip(selection.items.tolist(), selection.queries.tolist(), selection.ranks.tolist(), strict=True)] == [
        (5, 1, 1), (4, 0, 1), (7, 0, 2)]  # fmt: skip
    assert selection.depth == 2


def test_banned_items_leave_their_place_to_the_next() -> None:
    items = np.array([[4, 7, 5]])
    scores = np.array([[0.9, 0.8, 0.5]])
    selection = QueryBalanced(items, scores, np.array([0]), is_whole=True).select(2, np.array([7]))
    assert selection.items.tolist() == [4, 5]
    assert selection.ranks.tolist() == [1, 2]


def test_a_list_that_ended_early_is_too_shallow() -> None:
    items, scores = np.array([[0, 1], [2, 3]]), np.array([[0.9, 0.8], [0.7, 0.6]])
    part = QueryBalanced(items, scores, np.array([0, 1]), is_whole=False)
    assert len(part.select(4, NOTHING)) == 4
    with pytest.raises(TooShallowError):
        part.select(3, np.array([0, 1]))
    with pytest.raises(TooShallowError):
        part.select(3, np.array([0]))  # of query 0 the second neighbour is not known


def test_best_matches_and_drawn_skip_banned_items() -> None:
    best = BestMatches(np.array([3, 1, 2]), np.array([0, 1, 0]), is_whole=False)
    assert best.select(2, np.array([1])).items.tolist() == [3, 2]
    with pytest.raises(TooShallowError):
        best.select(3, np.array([1]))
    drawn = Drawn(np.array([5, 0, 2])).select(2, np.array([5]))
    assert (drawn.items.tolist(), drawn.queries.tolist()) == ([0, 2], [-1, -1])


def test_a_random_order_is_one_of_names_not_of_places() -> None:
    names = [f"image {number}" for number in range(50)]
    order = [names[place] for place in random_order(names, 1)]
    assert order == [names[::-1][place] for place in random_order(names[::-1], 1)]
    assert order != [names[place] for place in random_order(names, 2)]
    assert sorted(order) == sorted(names)
