"""Rows of a reinforced dataset as training batches: replayed views with their teacher's logits."""

from __future__ import annotations

import numpy as np
import torch
from reinforce.dataset import ReinforcedDataset

from train.batches import Batch, Rows

EVALUATED_ROWS = 2048
"""Held-out rows that an evaluation looks at, evenly spaced."""


class CachedViews:
    """Training rows of a store; epoch e shows the view that the dataset assigns to e. Pickles as the dataset does."""

    def __init__(self, dataset: ReinforcedDataset, *, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def epoch_order(self, epoch: int) -> Rows:
        return self.dataset.epoch_order(epoch, self.seed)

    def load(self, rows: Rows, epoch: int) -> Batch:
        """`inputs` uint8 (B, S, S, 3), `targets` the teacher's logits (B, C). Raises TransferMismatchError."""
        batch = self.dataset.load(rows, epoch)
        return Batch(torch.from_numpy(batch.images), torch.from_numpy(batch.logits))


class HeldOutViews:
    """Rows kept from training, each under the same view in every evaluation, so that figures can be compared."""

    def __init__(self, dataset: ReinforcedDataset) -> None:
        self.dataset = dataset
        held_out = dataset.held_out()
        count = min(len(held_out), EVALUATED_ROWS)
        self.rows = held_out[np.arange(count) * len(held_out) // max(count, 1)]

    def epoch_order(self, epoch: int) -> Rows:
        return self.rows

    def load(self, rows: Rows, epoch: int) -> Batch:
        batch = self.dataset.load(rows, 0)
        return Batch(torch.from_numpy(batch.images), torch.from_numpy(batch.logits))
