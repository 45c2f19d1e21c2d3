"""The text half of an open_clip pair as the source of targets: one feature a caption, in the space of its images.

B = batch, L = tokens a caption, E = dimensions of the joint space
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reinforce.models import weights_sha256
from reinforce.models.open_clip_text import Tokenizer, load_text_tower
from reinforce.store import TEXT_FEATURES, RowShape
from reinforce.teacher import Teacher


class TextTeacher(Teacher):
    """Its image tower is loaded too: it says whose captions' features these are."""

    def __init__(self, name: str, **settings: Any) -> None:
        """As `Teacher`. Raises also what `load_text_tower` does."""
        super().__init__(name, target=TEXT_FEATURES, **settings)
        self.text = load_text_tower(name)
        self.tower = self.text.module.to(self.device).eval()

    @property
    def tokenizer(self) -> Tokenizer:
        return self.text.config.tokenizer

    def target_shape(self, size_px: int) -> RowShape:
        return RowShape(self.text.config.embed_dim, TEXT_FEATURES)

    @torch.inference_mode()
    def targets(self, tokens_BL: NDArray[Any]) -> NDArray[np.float32]:
        """(B, L) int64 -> (B, E) float32, not normalised, for any B up to the batch size (padded with zeros)."""
        padded = np.zeros((self.batch_size, *tokens_BL.shape[1:]), np.int64)
        padded[: len(tokens_BL)] = tokens_BL
        with self._arithmetic():
            features = self.tower(torch.from_numpy(padded).to(self.device))[: len(tokens_BL)]
        array: NDArray[np.float32] = features.float().contiguous().cpu().numpy()
        return array

    def describe(self) -> dict[str, Any]:
        """Also the text tower, and the scale of cosines, which is part of the pair's affinities."""
        config = self.text.config
        text = {"tower": config.name, "context_length": config.tokenizer.context_length,
                "weights_sha256": weights_sha256(self.tower)}  # fmt: skip
        return {**super().describe(), "text": text, "logit_scale": self.text.scale}


def open_teacher(name: str, *, target: str | None, **settings: Any) -> Teacher:
    """The teacher of a target: of captions' features, or of anything else. Raises as they do."""
    if target == TEXT_FEATURES:
        return TextTeacher(name, **settings)
    return Teacher(name, target=target, **settings)
