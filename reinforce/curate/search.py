"""Exact search of a gallery, streamed: the k nearest items of every query, or the items nearest to any query.

    Q = queries, T = queries of a tile, B = vectors of a block, D = dimensions of all encoders together, n = pairs

The gallery goes by in blocks. A block's float32 products with a tile of queries are compared with what each query's
k-th best so far needs at least (`kernel`); the few that reach it are computed exactly while the block is at hand, and
kept if they are really better (`top_k`). So results are those of a sort of all exact similarities by (-similarity, tie
order), to the last bit, on any device and with any cut of the gallery; memory is what k asks for; the gallery is read
once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from reinforce.counting import counted
from reinforce.curate.blocks import BLOCK_ROWS, GalleryBlock, gallery_blocks
from reinforce.curate.embeddings import Embeddings, Items, Vectors, check_unit_length
from reinforce.curate.kernel import Columns, QueryTile, full_float32, margin, passing, tiles
from reinforce.curate.top_k import TopK, kth_largest
from reinforce.errors import UsageError

MOST_PAIRS = 1 << 18
"""Pairs that are likely to pass at once: each takes some hundred bytes while it is computed and added."""
NOTHING: Items = np.zeros(0, np.int64)
Advance = Callable[[int], object]
"""Is told how many more vectors were searched."""


@dataclass(frozen=True)
class Neighbours:
    """The k most similar items of every query, best first."""

    items_Qk: NDArray[np.signedinteger]
    """int32 where the gallery's items fit: of 10,000 queries with 5,000 neighbours it is 200 MB less."""
    scores_Qk: NDArray[np.float64]
    """Exact similarities."""


@dataclass(frozen=True)
class Matches:
    """The items most similar to any query, best first."""

    items_N: Items
    queries_N: Items
    """The query that each is most similar to; of equally similar ones, the first."""
    scores_N: NDArray[np.float64]


def nearest(queries_QD: Vectors, gallery: Embeddings, k: int, *, device: str = "cpu", excluded: Items = NOTHING,
            progress: Advance | None = None, block_rows: int = BLOCK_ROWS, readers: int = 1) -> Neighbours:  # fmt: skip
    """The k items of largest similarity to each query, by (-similarity, tie order), exactly.

    `queries_QD` is float16, every encoder's part of unit length. `excluded` items are not found: an array of them, or
    a mask of all items. `readers` threads read ahead, one unit each. Raises UsageError where k is not in 1 .. number
    of items with a vector, EmbeddingError for vectors that are not of unit length.
    """
    search = NearestSearch(queries_QD, gallery, k, device)
    search.run(range(gallery.num_units), excluded, progress, block_rows, readers)
    return search.result()


def best_matches(queries_QD: Vectors, gallery: Embeddings, count: int, *, device: str = "cpu",
                 excluded: Items = NOTHING, progress: Advance | None = None, block_rows: int = BLOCK_ROWS,
                 readers: int = 1) -> Matches:  # fmt: skip
    """The `count` items of largest similarity to any query (the paper's best-matches, B.5). Otherwise as `nearest`."""
    search = BestMatchSearch(queries_QD, gallery, count, device)
    search.run(range(gallery.num_units), excluded, progress, block_rows, readers)
    return search.result()


class Search(Protocol):
    """A search that can stop between units: what it has found so far lies in `found`."""

    found: list[TopK]
    ids_per_item: int
    """Ids in `found` are item * ids_per_item + something below it."""

    def run(self, units: Iterable[int], excluded: Items = NOTHING, progress: Advance | None = None,
            block_rows: int = BLOCK_ROWS, readers: int = 1) -> range:  # fmt: skip
        """Search some units, ascending, each only once; the range of their items."""

    def result(self) -> Neighbours | Matches:
        """Of all units searched. Gives the search's memory back. Raises UsageError where there were too few items."""


class _TiledSearch:
    """What both searches share: queries in tiles, and blocks that go by."""

    def __init__(self, queries_QD: Vectors, gallery: Embeddings, k: int, device: str) -> None:
        queries_QD = np.ascontiguousarray(queries_QD, np.float16)
        if len(queries_QD) == 0:
            raise UsageError("there are no queries: name a query set that has images")
        check_unit_length(queries_QD, gallery.widths, "the queries")
        if not 1 <= k <= gallery.num_embedded:
            raise too_many(k, gallery.num_embedded)
        self.gallery, self.k, self.num_queries = gallery, k, len(queries_QD)
        self.device, self.margin = torch.device(device), margin(gallery.widths)
        self.tiles = tiles(queries_QD, self.device)
        self.found: list[TopK] = []

    def run(self, units: Iterable[int], excluded: Items = NOTHING, progress: Advance | None = None,
            block_rows: int = BLOCK_ROWS, readers: int = 1) -> range:  # fmt: skip
        blocks = gallery_blocks(self.gallery, units, self.device, excluded=as_items(excluded), block_rows=block_rows,
                                readers=readers)  # fmt: skip
        first, stop = 0, 0
        with full_float32():
            for block in blocks:
                self._take(block)
                first, stop = first if stop else int(block.items[0]), int(block.items[-1]) + 1
                if progress is not None:
                    progress(len(block.items))
        return range(first, stop)

    def _take(self, block: GalleryBlock) -> None:
        raise NotImplementedError

    def _ranked(self) -> tuple[NDArray[np.signedinteger], NDArray[np.float64]]:
        """(rows, k) ids, as small as they are kept, and scores of all that was found, which is forgotten part by
        part."""
        fewest = min(top.fewest() for top in self.found)
        if fewest < self.k:
            raise too_many(self.k, fewest)
        rows = sum(map(len, self.found))
        ids, scores = np.empty((rows, self.k), self.found[0].id_dtype), np.empty((rows, self.k))
        while self.found:
            top = self.found.pop()
            top.rank(ids[rows - len(top) : rows], scores[rows - len(top) : rows])
            rows -= len(top)
        scores /= len(self.gallery.widths)
        return ids, scores


class NearestSearch(_TiledSearch):
    """The k nearest items of every query. See `Search`, `nearest`."""

    ids_per_item = 1

    def __init__(self, queries_QD: Vectors, gallery: Embeddings, k: int, device: str = "cpu") -> None:
        super().__init__(queries_QD, gallery, k, device)
        self._density = 1.0  # part of the last block's pairs that passed
        self.found = [TopK(len(tile), k, gallery.num_items, gallery.tie_order, self.device) for tile in self.tiles]

    def _take(self, block: GalleryBlock) -> None:
        num_pairs, columns = 0, Columns(block.vectors)
        for tile, top in zip(self.tiles, self.found, strict=True):
            products_TP = tile.products(block.vectors)
            if top.is_new and self.k <= len(block.items):  # the first block would be kept whole
                top.raise_bar(kth_largest(products_TP, self.k).double() - self.margin)
            floor_T = top.floor(self.margin)
            step = max(1, int(MOST_PAIRS / (self._density * len(block.items))))
            for start in range(0, len(tile), step):
                rows_n, columns_n = passing(products_TP[start : start + step], floor_T[start : start + step])
                if len(rows_n):
                    rows_n += start
                    top.add(rows_n, block.items[columns_n], tile.exact(columns, rows_n, columns_n))
                    num_pairs += len(rows_n)
        self._density = max(num_pairs, 1) / (self.num_queries * len(block.items))

    def result(self) -> Neighbours:
        return Neighbours(*self._ranked())


class BestMatchSearch(_TiledSearch):
    """The items nearest to any query. See `Search`, `best_matches`. An id is item * Q + query."""

    def __init__(self, queries_QD: Vectors, gallery: Embeddings, count: int, device: str = "cpu") -> None:
        super().__init__(queries_QD, gallery, count, device)
        self.ids_per_item = self.num_queries
        num_ids = gallery.num_items * self.num_queries
        self.found = [TopK(1, count, num_ids, lambda ids: gallery.tie_order(ids // self.num_queries), self.device)]

    def _take(self, block: GalleryBlock) -> None:
        floor = self.found[0].floor(self.margin)
        columns = Columns(block.vectors)
        pairs = [self._likely_pairs(tile, columns, floor) for tile in self.tiles]
        queries_n, columns_n, scores_n = (torch.cat(part) for part in zip(*pairs, strict=True))
        if len(queries_n):
            first = _best_of_each(columns_n, scores_n, queries_n)
            ids = block.items[columns_n[first]] * self.num_queries + queries_n[first]
            self.found[0].add(torch.zeros_like(ids), ids, scores_n[first])

    def _likely_pairs(self, tile: QueryTile, columns: Columns,
                      floor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
        """(n,) queries, columns and exact scores of the pairs that may be the tile's best of a column worth keeping."""
        products_TB = tile.products(columns.float32)[:, : len(columns.float32)]
        best_B = products_TB.amax(0)
        columns_b = (best_B >= floor).nonzero()[:, 0]
        least_b = torch.maximum(best_B[columns_b] - 2 * self.margin, floor)
        rows_n, places_n = (products_TB[:, columns_b] >= least_b).nonzero(as_tuple=True)
        columns_n = columns_b[places_n]
        return rows_n + tile.start, columns_n, tile.exact(columns, rows_n, columns_n)

    def result(self) -> Matches:
        ids_1N, scores_1N = self._ranked()
        items_N, queries_N = np.divmod(ids_1N[0].astype(np.int64), self.num_queries)
        return Matches(items_N, queries_N, scores_1N[0])


def too_many(k: int, largest: int) -> UsageError:
    items = counted(k, "item")
    return UsageError(f"{items} cannot be found: the gallery has {largest} to choose from; type 1 to {largest}")


def as_items(excluded: Items) -> Items:
    """Sorted items, of an array of them or of a mask."""
    return np.flatnonzero(excluded) if excluded.dtype == np.bool_ else np.unique(excluded).astype(np.int64)


def _best_of_each(columns_n: torch.Tensor, scores_n: torch.Tensor, queries_n: torch.Tensor) -> torch.Tensor:
    """Places of every column's pair of largest score, and of equal ones that of the first query."""
    order = torch.argsort(queries_n, stable=True)
    order = order[torch.argsort(scores_n[order], descending=True, stable=True)]
    order = order[torch.argsort(columns_n[order], stable=True)]
    is_first = torch.ones_like(order, dtype=torch.bool)
    is_first[1:] = columns_n[order][1:] != columns_n[order][:-1]
    return order[is_first]
