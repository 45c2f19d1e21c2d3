"""A teacher that costs nothing: what a build then takes is what everything but the teacher takes.

B = batch, S = view size, C = classes
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reinforce.build import BuildConfig
from reinforce.models import ModelInfo, create_model
from reinforce.models.info import BATCH_SIZE
from reinforce.store import LOGITS, RowShape

NUM_ROWS = 4096


@dataclass(frozen=True, kw_only=True)
class SyntheticRequest(BuildConfig):
    """A build whose teacher answers each view with one of a few thousand rows of logits."""

    num_classes: int = 10
    view_px: int = 16

    def open_teacher(self, threads: int) -> SyntheticTeacher:
        return SyntheticTeacher(self.num_classes, self.view_px, self.batch_size or BATCH_SIZE)


class SyntheticTeacher:
    """See TargetSource. Which row it is, the pixels say."""

    name, target, dtype = "synthetic", LOGITS, "float32"
    device = torch.device("cpu")

    def __init__(self, num_classes: int, view_px: int, batch_size: int) -> None:
        self.batch_size = batch_size
        names = [f"class {index}" for index in range(num_classes)]
        self.info: ModelInfo = create_model("test_vit", class_names=names, image_size=view_px)[1]
        rng = np.random.Generator(np.random.Philox(0))
        mixing = rng.standard_normal((num_classes, num_classes)) / np.sqrt(np.arange(1, num_classes + 1))[:, None]
        self.rows = np.asarray(rng.standard_normal((NUM_ROWS, num_classes)) @ mixing, np.float32)

    def target_shape(self, size_px: int) -> RowShape:
        return RowShape(self.rows.shape[1])

    def targets(self, views: NDArray[Any]) -> NDArray[np.float32]:
        """(B, S, S, 3) uint8 -> (B, C)."""
        sums = views.reshape(len(views), -1).astype(np.int64).sum(axis=1)
        rows: NDArray[np.float32] = self.rows[sums % NUM_ROWS]
        return rows

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, "architecture": "none", "weights_sha256": "0" * 64, "license": "CC0-1.0"}
