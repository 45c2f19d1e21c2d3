"""What several encoders together say of two items: the mean of their cosines (B.2, B.3) or the largest (B.4).

    T = rows of a tile, B = vectors of a block, P = B padded to whole segments, D = dimensions of all encoders together,
    n = pairs
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch

from reinforce.curate.embeddings import Items, Vectors, parts
from reinforce.curate.kernel import Columns, QueryTile, Space, margin

Reduce = Literal["mean", "max"]

TILE_ROWS = 1024
"""Products of a tile with a block of as many rows stay in a shared cache."""


class LikenessTile:
    """Some rows on a device, and their likeness to blocks: in float32 within `margin`, or exactly.

    The mean takes one product of whole rows, which sums over encoders; the largest takes one for each encoder.
    """

    def __init__(self, rows_TD: Vectors, widths: Sequence[int], reduce: Reduce, device: torch.device) -> None:
        """`rows_TD` is float16, every encoder's part of unit length."""
        groups = [tuple(widths)] if reduce == "mean" else [(width,) for width in widths]
        spans = [(0, sum(widths))] if reduce == "mean" else parts(widths)
        self._tiles = [(slice(start, stop), QueryTile(np.ascontiguousarray(rows_TD[:, start:stop]), 0, Space(device)))
                       for start, stop in spans]  # fmt: skip
        self.device, self._divisor = device, len(groups[0])
        self.margin = max(margin(group) for group in groups) / self._divisor + 2.0**-23
        """How far the fast likeness can be from the exact one; its last term is what dividing rounds."""

    def __len__(self) -> int:
        return len(self._tiles[0][1])

    def fast(self, block_BD: torch.Tensor) -> torch.Tensor:
        """(T, P) float32, valid until the next call; what pads the last segment is -inf."""
        first_TP, *others = [tile.products(block_BD[:, span]) for span, tile in self._tiles]
        for products_TP in others:
            torch.maximum(first_TP, products_TP, out=first_TP)
        return first_TP if self._divisor == 1 else first_TP.div_(self._divisor)

    def exact(self, block_BD: torch.Tensor, rows_n: torch.Tensor, columns_n: torch.Tensor) -> torch.Tensor:
        """(n,) float64 of pairs; rows ascending, no pair twice."""
        each = [tile.exact(Columns(block_BD[:, span]), rows_n, columns_n) for span, tile in self._tiles]
        return torch.stack(each).amax(0) / self._divisor

    def floor(self, threshold: float) -> torch.Tensor:
        """(T,) that the fast likeness reaches wherever the exact one is at least the threshold."""
        floor = np.nextafter(np.float32(threshold - self.margin), np.float32(-np.inf))
        return torch.full((len(self),), float(floor), device=self.device)


def float_blocks(rows_ND: Vectors, device: torch.device) -> Iterator[tuple[int, torch.Tensor]]:
    """(start, (B, D) float32) of all rows in blocks; each is valid until the next one."""
    buffer_BD = torch.empty((TILE_ROWS, rows_ND.shape[1]), device=device)
    for start in range(0, len(rows_ND), TILE_ROWS):
        rows_BD = torch.from_numpy(rows_ND[start : start + TILE_ROWS])
        yield start, buffer_BD[: len(rows_BD)].copy_(rows_BD)


def as_items(indices_n: torch.Tensor, start: int) -> Items:
    """Places within a block or tile as rows."""
    return np.asarray(indices_n.cpu().numpy() + start, np.int64)
