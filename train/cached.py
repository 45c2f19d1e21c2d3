"""Rows of a reinforced dataset as training batches: replayed views with their teacher's targets, rows or maps.

B batch, C channels, h, w sides of a map, S side of a view in px.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from reinforce.dataset import ReinforcedDataset
from reinforce.store import DENSE_LOGITS

from train.batches import Batch, Rows

EVALUATED_ROWS = {"logits": 2048, "dense-logits": 512, "global-features": 2048, "patch-features": 512}
"""Held-out rows that an evaluation looks at, evenly spaced; a map holds many pixels."""


class CachedViews:
    """Training rows of a store; epoch e shows the view that the dataset assigns to e. Pickles as the dataset does."""

    def __init__(self, dataset: ReinforcedDataset, *, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def epoch_order(self, epoch: int) -> Rows:
        return self.dataset.epoch_order(epoch, self.seed)

    @property
    def row_bytes(self) -> int:
        return row_bytes(self.dataset)

    def load(self, rows: Rows, epoch: int) -> Batch:
        """`inputs` uint8 (B, S, S, 3), `targets` the teacher's (B, C) or (B, h, w, C); `valid` (B, S, S) beside maps of
        logits.

        Raises TransferMismatchError.
        """
        return _loaded(self.dataset, rows, epoch)


class HeldOutViews:
    """Rows kept from training, each under the same view in every evaluation, so that figures can be compared."""

    def __init__(self, dataset: ReinforcedDataset) -> None:
        self.dataset = dataset
        held_out = dataset.held_out()
        count = min(len(held_out), EVALUATED_ROWS[dataset.store.target])
        self.rows = held_out[np.arange(count) * len(held_out) // max(count, 1)]

    def epoch_order(self, epoch: int) -> Rows:
        return self.rows

    @property
    def row_bytes(self) -> int:
        return row_bytes(self.dataset)

    def load(self, rows: Rows, epoch: int) -> Batch:
        return _loaded(self.dataset, rows, 0)


def row_bytes(dataset: ReinforcedDataset) -> int:
    """A loaded row: pixels, targets and, of a map of logits, the valid mask."""
    cells = math.prod(dataset.store.map_size or (1,))
    pixels = dataset.size_px**2
    mask = pixels if dataset.store.target == DENSE_LOGITS else 0
    return 3 * pixels + 4 * cells * dataset.num_channels + mask


def _loaded(dataset: ReinforcedDataset, rows: Rows, epoch: int) -> Batch:
    batch = dataset.load(rows, epoch)
    images, targets = torch.from_numpy(batch.images), torch.from_numpy(batch.targets)
    if batch.valid is None:
        return Batch(images, targets)
    return Batch(images, targets, valid=torch.from_numpy(batch.valid), num_counted=int(batch.valid.sum()))
