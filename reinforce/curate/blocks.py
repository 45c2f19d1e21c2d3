"""A gallery as blocks of equal size on a device, read ahead of their use.

    B = vectors of a block, D = dimensions of all encoders together
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch

from reinforce.curate.embeddings import NORM_TOLERANCE, Block, Embeddings, Items, Vectors, check_unit_length, parts

BLOCK_ROWS = 4096
"""With a tile of queries 16 MB of products: they stay in a shared cache until they are compared, and what a block costs
apart from its products is little beside them (measured: docs/benchmarks/search.md)."""


@dataclass(frozen=True)
class GalleryBlock:
    """Items, ascending, and their vectors; valid until the next block is taken."""

    items: torch.Tensor
    """(B,)"""
    vectors: torch.Tensor
    """(B, D) float32"""


def gallery_blocks(gallery: Embeddings, units: Iterable[int], device: torch.device, *, excluded: Items,
                   block_rows: int = BLOCK_ROWS, readers: int = 1) -> Iterator[GalleryBlock]:  # fmt: skip
    """The units' items that are not `excluded` (sorted), in blocks that cross units; the last may be smaller.

    `readers` threads each read one unit ahead. Raises EmbeddingError for vectors that are not of unit length.
    """
    items_B = torch.empty(block_rows, dtype=torch.int64, device=device)
    vectors_BD = torch.empty((block_rows, sum(gallery.widths)), device=device)
    filled = 0
    for unit, block in _read_ahead(gallery, units, readers):
        if block.vectors.shape[1:] != vectors_BD.shape[1:]:
            check_unit_length(block.vectors, gallery.widths, _name(unit))
        items, vectors = _without(block, excluded)
        done = 0
        while done < len(items):
            count = min(block_rows - filled, len(items) - done)
            here, there = slice(filled, filled + count), slice(done, done + count)
            items_B[here] = torch.from_numpy(items[there])
            vectors_BD[here] = torch.from_numpy(vectors[there]).to(device)
            if not _is_unit_length(vectors_BD[here], gallery.widths):
                check_unit_length(block.vectors, gallery.widths, _name(unit))
            filled, done = filled + count, done + count
            if filled == block_rows:
                yield GalleryBlock(items_B, vectors_BD)
                filled = 0
    if filled:
        yield GalleryBlock(items_B[:filled], vectors_BD[:filled])


def _read_ahead(gallery: Embeddings, units: Iterable[int], readers: int) -> Iterator[tuple[int, Block]]:
    waiting: deque[tuple[int, Future[Block]]] = deque()
    left = iter(units)
    with ThreadPoolExecutor(readers) as threads:
        try:
            waiting.extend((unit, threads.submit(gallery.unit, unit)) for unit in islice(left, readers))
            while waiting:
                unit, reading = waiting.popleft()
                block = reading.result()
                waiting.extend((later, threads.submit(gallery.unit, later)) for later in islice(left, 1))
                del reading
                yield unit, block
        finally:
            threads.shutdown(cancel_futures=True)


def _without(block: Block, excluded: Items) -> tuple[Items, Vectors]:
    if not len(excluded) or not len(block.items):
        return block.items, block.vectors
    first, stop = np.searchsorted(excluded, [block.items[0], block.items[-1] + 1])
    if first == stop:
        return block.items, block.vectors
    kept = ~np.isin(block.items, excluded[first:stop])
    return block.items[kept], block.vectors[kept]


def _is_unit_length(vectors_BD: torch.Tensor, widths: Sequence[int]) -> bool:
    """As `check_unit_length`, at little cost; that one finds the words. The kernel's margin rests on it."""
    lengths = [torch.linalg.vector_norm(vectors_BD[:, start:stop], dim=1) for start, stop in parts(widths)]
    return bool(((torch.stack(lengths) - 1).abs() <= NORM_TOLERANCE).all())


def _name(unit: int) -> str:
    return f"the gallery's unit {unit}"
