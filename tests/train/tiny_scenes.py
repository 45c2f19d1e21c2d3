"""Images with masks, 30 x 40 px, three classes: red and blue rectangles on a grey ground."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

RED, BLUE = (200, 50, 40), (30, 40, 200)


def write_scene(folder: Path, name: str, rng: np.random.Generator) -> None:
    """A noisy image with a rectangle of each colour, and its mask, whose left border has no labels."""
    pixels, mask = np.full((30, 40, 3), 120.0), np.zeros((30, 40), np.uint8)
    for label, colour in ((1, RED), (2, BLUE)):
        top, left = rng.integers(2, 12, 2)
        left += 18 * (label - 1)
        where = np.s_[top : top + 14, left : left + 14]
        pixels[where], mask[where] = colour, label
    mask[:, :1] = 255
    pixels += rng.normal(0, 15, pixels.shape)
    for kind, array in (("images", np.clip(pixels, 0, 255).astype(np.uint8)), ("masks", mask)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(folder / kind / f"{name}.png")
