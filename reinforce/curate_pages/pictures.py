"""Thumbnails by key, from a source that may not be at hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from reinforce.curate.curated import Crop
from reinforce.data import ImageSource, hash64, hex64
from reinforce.errors import DataError
from reinforce.pages import data_uri
from reinforce.views import named_policy
from reinforce.views.decode import decode_sized

THUMBNAIL_PX = 176
MAX_BYTES = 7_000
"""Of a picture, before base64 makes four bytes of three."""
_POLICY = named_policy("center", size_px=THUMBNAIL_PX // 4)
"""Decoding leaves a shorter side of at least four times its size."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    uri: str
    frame_style: str
    """CSS of a frame of the picture's shape in a square."""
    box_style: str | None = None
    """CSS of a rectangle inside the frame."""


class Album:
    """Images of a source by key. An album without a source has no pictures."""

    def __init__(self, source: ImageSource | None, keys: Iterable[str]) -> None:
        """`keys`: all that may be asked for."""
        self._source = source
        wanted = set(keys)
        self._places = {key: (number, row) for number, shard in enumerate(source.shards if source else ())
                        for row, key in enumerate(shard.keys) if key in wanted}  # fmt: skip

    def picture(self, key: str, *, sha64: str | None = None, crop: Crop | None = None) -> Picture | None:
        """The image of a key, with a rectangle around `crop` (px of the image).

        None where there is none that can be read, and where its bytes are not those of `sha64`.
        """
        if self._source is None or key not in self._places:
            return None
        try:
            data = self._source.read(*self._places[key])
            if sha64 is not None and hex64(hash64(data)) != sha64:
                return None
            working, size = decode_sized(data, _POLICY)
        except DataError:
            return None
        return _thumbnail(working, size, crop)


def _thumbnail(working: Image.Image, size: tuple[int, int], crop: Crop | None) -> Picture:
    """`size`: (width, height) in px of the image that `working` is a reduction of."""
    working.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    width, height = size
    return Picture(uri=data_uri(np.asarray(working), MAX_BYTES),
                   frame_style=f"width: {100 * min(1, width / height):.2f}%; aspect-ratio: {width} / {height}",
                   box_style=None if crop is None else _box_style(crop, size))  # fmt: skip


def _box_style(crop: Crop, size: tuple[int, int]) -> str:
    """In percent of the image, inside of it whatever the crop says."""
    left, top, right, bottom = (
        min(max(100 * edge / side, 0.0), 100.0)
        for edge, side in zip((crop[0], crop[1], crop[0] + crop[2], crop[1] + crop[3]), size * 2, strict=True)
    )
    return f"left: {left:.2f}%; top: {top:.2f}%; width: {right - left:.2f}%; height: {bottom - top:.2f}%"
