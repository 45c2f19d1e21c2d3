"""What scenes are pasted onto: crops of photographs, gradients and plain colours; test has others than train."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from reinforce.data import hash64

PHOTOGRAPH_SHARE, GRADIENT_SHARE = 0.7, 0.15
MIN_CROP_PX = 160
TEST_SHARE = 0.2
COLOUR_STEP = 8

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Tile:
    """A part of a photograph."""

    name: str
    photograph: str
    sha256: str
    picture: Image.Image


def load_tiles(folder: Path) -> list[Tile]:
    """The tiles PHOTOGRAPH-ROW-COLUMN.jpg of the asset."""
    return [_read(path) for path in sorted(folder.glob("*.jpg"))]


def split_tiles(tiles: Iterable[Tile]) -> dict[str, list[Tile]]:
    """ "train" and "test": whole photographs by the hash of their name, whatever the seed."""
    listed = list(tiles)
    photographs = sorted({tile.photograph for tile in listed}, key=hash64)
    test = set(photographs[: max(1, round(TEST_SHARE * len(photographs)))])
    return {
        "train": [tile for tile in listed if tile.photograph not in test],
        "test": [tile for tile in listed if tile.photograph in test],
    }


def draw_background(tiles: list[Tile], split: str, size_px: int, random: Random) -> Image.Image:
    """RGB, `size_px` square."""
    kind = random.random()
    if kind < PHOTOGRAPH_SHARE:
        return _photograph(tiles[int(random.random() * len(tiles))].picture, size_px, random)
    first = _colour(split, random)
    if kind < PHOTOGRAPH_SHARE + GRADIENT_SHARE:
        return _gradient(first, _colour(split, random), size_px, random.random() * 2 * np.pi)
    return Image.new("RGB", (size_px, size_px), first)


def belongs_to(split: str, colour: Colour) -> bool:
    """Plain colours and the ends of gradients are split by their hash."""
    is_test = hash64(f"{colour}") < TEST_SHARE * 2**64
    return is_test == (split == "test")


def _read(path: Path) -> Tile:
    with Image.open(path) as image:
        picture = image.convert("RGB")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Tile(path.name, path.stem.rsplit("-", 2)[0], sha256, picture)


def _photograph(tile: Image.Image, size_px: int, random: Random) -> Image.Image:
    longest = min(tile.size)
    side = min(longest, MIN_CROP_PX + int(random.random() * (longest - MIN_CROP_PX + 1)))
    left, top = (int(random.random() * (length - side + 1)) for length in tile.size)
    crop = tile.resize((size_px, size_px), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else crop


def _colour(split: str, random: Random) -> Colour:
    while True:
        red, green, blue = (int(random.random() * (256 // COLOUR_STEP)) * COLOUR_STEP for _ in range(3))
        if belongs_to(split, (red, green, blue)):
            return red, green, blue


def _gradient(first: Colour, last: Colour, size_px: int, angle: float) -> Image.Image:
    across = np.linspace(-1, 1, size_px)
    slope_HW = np.cos(angle) * across[None, :] + np.sin(angle) * across[:, None]
    share_HW1 = ((slope_HW - slope_HW.min()) / np.ptp(slope_HW))[..., None]
    pixels_HW3 = np.round(np.asarray(first) * (1 - share_HW1) + np.asarray(last) * share_HW1)
    return Image.fromarray(pixels_HW3.astype(np.uint8))
