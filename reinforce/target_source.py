"""What a build asks for targets: a teacher, the text half of a pair, or several encoders at once.

B = batch, S = view size
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reinforce.store import TargetShape

if TYPE_CHECKING:
    import torch

    from reinforce.models import ModelInfo


class TargetSource(Protocol):
    """The same bits for the same views every time, in an equal environment."""

    name: str
    target: str
    """One of `store.TARGETS`."""
    batch_size: int
    """Views a batch, which is part of what decides the bits."""
    device: torch.device

    @property
    def dtype(self) -> str:
        """Of the arithmetic."""

    @property
    def info(self) -> ModelInfo:
        """Of the model, or of the first of several: classes, task and input size."""

    def target_shape(self, size_px: int) -> TargetShape:
        """Of its targets of views of `size_px`."""

    def targets(self, views: NDArray[Any]) -> NDArray[np.float32]:
        """(B, S, S, 3) uint8 -> (B, *item_shape) float32, for any B up to the batch size."""

    def describe(self) -> dict[str, Any]:
        """What binds a store to it: weights, preprocessing."""
