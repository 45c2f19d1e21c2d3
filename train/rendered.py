"""Samples of an image source as views of a policy: rendered in the process that loads, bad images passed over.

S = side of a view in px
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from reinforce.counting import counted
from reinforce.data import ImageSource
from reinforce.errors import DataError, UndecodableImageError
from reinforce.views import Policy, UnitReplayer
from torch import Tensor

DECODED_BYTES = 256 << 20
"""Decoded images that a loading process keeps: few labelled images are decoded once, not once an epoch."""

Pixels = NDArray[np.uint8]
Problems = list[tuple[str, str]]
"""(key, reason) of images that could not be decoded."""


class Sample(Protocol):
    """Where an image lies in its source, and what it is called."""

    @property
    def shard(self) -> int: ...
    @property
    def row(self) -> int: ...
    @property
    def key(self) -> str: ...


class RenderedViews:
    """Views by (row, view); files are opened lazily. Picklable."""

    def __init__(self, source: ImageSource, samples: Sequence[Any], policy: Policy) -> None:
        """`samples` have a shard, row and key each; `policy.size_px` is the side of the views."""
        self.source, self.samples, self.policy = source, tuple(samples), policy
        self._replayer: UnitReplayer | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_replayer": None}

    @property
    def size_px(self) -> int:
        return self.policy.size_px

    @property
    def replayer(self) -> UnitReplayer:
        if self._replayer is None:
            keys = [sample.key for sample in self.samples]
            self._replayer = UnitReplayer(self.policy, keys, partial(_read, self.source, self.samples), DECODED_BYTES)
        return self._replayer

    def render(self, row: int, view: int) -> tuple[Pixels, int, Problems]:
        """The first row from `row` on that can be decoded, as shown in `view`: (image, that row, rows passed over).

        Raises DataError where there is none.
        """
        problems: Problems = []
        for offset in range(len(self)):
            shown = (row + offset) % len(self)
            try:
                return self.replayer.view(shown, view), shown, problems
            except UndecodableImageError as error:
                problems.append((self.samples[shown].key, str(error)))
        raise DataError(f"none of the {counted(len(self), 'training image')} can be decoded: {problems[0][1]}")

    def stacked(self, images: Sequence[Pixels]) -> Tensor:
        """uint8 (B, S, S, 3), also of no images."""
        size = self.size_px
        return torch.from_numpy(np.stack(images) if images else np.empty((0, size, size, 3), np.uint8))


def _read(source: ImageSource, samples: Sequence[Sample], row: int) -> bytes:
    return source.read(samples[row].shard, samples[row].row)
