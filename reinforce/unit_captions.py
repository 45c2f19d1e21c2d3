"""Captions where a build has views: what the teacher of text features is shown. L = tokens a caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reinforce.data import CaptionedSource, UnitImages
from reinforce.data.captions import captions_sha256
from reinforce.errors import DataError, UndecodableImageError
from reinforce.views import UnitReplayer

if TYPE_CHECKING:  # decoding processes need no models
    from reinforce.models.open_clip_text import Tokenizer


@dataclass(frozen=True)
class Words:
    """The captions of a transfer set, as tokens. Picklable."""

    source: CaptionedSource
    tokenizer: Tokenizer

    def blank(self, count: int) -> NDArray[np.int64]:
        """(count, L) of nothing but padding."""
        return np.zeros((count, self.tokenizer.context_length), np.int64)

    def sha256(self, num_samples: int) -> str:
        """What a plan is bound to; reads the captions of the first samples."""
        return captions_sha256(self.source, num_samples)


class UnitCaptions:
    """Of a unit's rows, with the methods of `UnitReplayer` that a build needs. There is one view, the first caption."""

    def __init__(self, words: Words, images: UnitImages) -> None:
        self.words, self.images = words, images
        self.keys = images.keys

    def hold(self, rows: Sequence[int]) -> None:
        """Captions are read as they are needed."""

    def view(self, row: int, view: int) -> NDArray[np.int64]:
        """(L,) tokens. Raises UndecodableImageError where the row's caption cannot be used."""
        try:
            caption = self.words.source.captions(self.images.shard, self.images.first_row + row)[0]
        except DataError as error:
            raise UndecodableImageError(str(error)) from error
        tokens: NDArray[np.int64] = self.words.tokenizer([caption])[0].numpy()
        return tokens


UnitViews = UnitReplayer | UnitCaptions
"""What a teacher is shown of a unit."""
