"""Which images of a transfer set a pretraining learns from, and which few it is watched on. Reads names alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from reinforce.data import ImageSource

HELD_OUT_SHARE = 20


class Image(NamedTuple):
    """Where an image lies in its source, and what it is called."""

    shard: int
    row: int
    key: str


def list_images(source: ImageSource, limit: int | None) -> list[Image]:
    """All of a source in listing order, or the first `limit`."""
    every = (
        Image(number, row, key) for number, shard in enumerate(source.shards) for row, key in enumerate(shard.keys)
    )
    return list(islice(every, limit))


def hold_out(images: Sequence[Image], most: int) -> tuple[list[Image], list[Image]]:
    """(for training, kept from it): evenly spaced, one in twenty and at most `most`."""
    count = min(most, len(images) // HELD_OUT_SHARE)
    kept = {index * len(images) // count for index in range(count)}
    return (
        [image for index, image in enumerate(images) if index not in kept],
        [images[index] for index in sorted(kept)],
    )


def images_digest(images: Sequence[Image]) -> str:
    """What tells a set of images from another: SHA-256 over their keys."""
    return hashlib.sha256("\n".join(image.key for image in images).encode()).hexdigest()
