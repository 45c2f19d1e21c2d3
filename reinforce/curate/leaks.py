"""Retrieved items whose original may be an image of the target dataset (the paper's section B.4).

    N = retrieved items, M = target images, D = dimensions of all encoders together, T = items of a tile, k = nearest
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from reinforce.curate.embeddings import Items, Vectors, check_unit_length
from reinforce.curate.kernel import full_float32, passing
from reinforce.curate.likeness import TILE_ROWS, LikenessTile, float_blocks
from reinforce.curate.top_k import TopK, kth_largest
from reinforce.errors import EmbeddingError

LEAK_COSINE = 0.95
NEAREST_SHOWN = 5

Advance = Callable[[int], object]
"""Is told how many more items were compared with all target images."""


@dataclass(frozen=True)
class Leak:
    """A retrieved item that some encoder finds too much like a target image."""

    row: int
    """Of the retrieved items."""
    max_cosine: float
    """The largest of any encoder with any target image."""
    nearest: tuple[int, ...]
    """Rows of the most similar target images, the most similar first, the lower row of equals."""
    scores: tuple[float, ...]
    """Their similarities by the measure that marks a leak: the largest of the encoders' cosines."""


def possible_leaks(retrieved_ND: Vectors, targets_MD: Vectors, widths: Sequence[int], *, threshold: float = LEAK_COSINE,
                   nearest: int = NEAREST_SHOWN, device: str = "cpu", progress: Advance | None = None
                   ) -> list[Leak]:  # fmt: skip
    """Retrieved items of which any encoder's cosine with any target image exceeds the threshold, by row.

    `retrieved_ND` are vectors of the original images, `targets_MD` those of every split of the target dataset, both
    float16. Exact, whatever the device. Raises EmbeddingError for vectors that are not of unit length, and where there
    are no target images.
    """
    check_unit_length(retrieved_ND, widths, "the retrieved images")
    check_unit_length(targets_MD, widths, "the target images")
    if not len(targets_MD):
        raise EmbeddingError("the target dataset has no images to compare with: name one that has")
    leaks: list[Leak] = []
    for start in range(0, len(retrieved_ND), TILE_ROWS):
        tile = LikenessTile(retrieved_ND[start : start + TILE_ROWS], widths, "max", torch.device(device))
        leaks += _above(threshold, start, *_nearest(tile, targets_MD, min(nearest, len(targets_MD))))
        if progress is not None:
            progress(len(tile))
    return leaks


def _nearest(tile: LikenessTile, targets_MD: Vectors, k: int) -> tuple[Items, NDArray[np.float64]]:
    """(T, k) rows and likeness of the nearest target images."""
    top = TopK(len(tile), k, len(targets_MD), lambda rows: rows, tile.device)
    for start, block_BD in float_blocks(targets_MD, tile.device):
        with full_float32():
            products_TP = tile.fast(block_BD)
        if top.is_new and k <= len(block_BD):  # else the first block would be kept whole
            top.raise_bar(kth_largest(products_TP, k).double() - tile.margin)
        rows_n, columns_n = passing(products_TP, top.floor(tile.margin))
        if len(rows_n):
            top.add(rows_n, columns_n + start, tile.exact(block_BD, rows_n, columns_n))
    rows_Tk, scores_Tk = np.empty((len(tile), k), np.int64), np.empty((len(tile), k))
    top.rank(rows_Tk, scores_Tk)
    return rows_Tk, scores_Tk


def _above(threshold: float, start: int, rows_Tk: Items, scores_Tk: NDArray[np.float64]) -> Iterator[Leak]:
    for row in np.flatnonzero(scores_Tk[:, 0] > threshold).tolist():
        scores = tuple(scores_Tk[row].tolist())
        yield Leak(start + row, scores[0], tuple(rows_Tk[row].tolist()), scores)
