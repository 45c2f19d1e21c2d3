"""Images with captions, and an open_clip configuration whose text tower fits into a test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

TOWER = "reinforce-test-tiny-pair"
COLOURS = {"red": (200, 50, 40), "green": (40, 180, 50), "blue": (30, 40, 200), "yellow": (210, 200, 40)}
SIZES = {"small": 8, "large": 24}


def register_tower(name: str = TOWER, embed_dim: int = 16) -> str:
    """Make open_clip know `name` in this process."""
    import open_clip

    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8}
    tower = {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    open_clip.factory._MODEL_CONFIGS[name] = {"embed_dim": embed_dim, "vision_cfg": vision, "text_cfg": tower}
    return name


def caption(number: int) -> str:
    """Of image `number`, which has one of eight."""
    colours, sizes = list(COLOURS), list(SIZES)
    return f"a {sizes[number // 4 % 2]} {colours[number % 4]} square"


def write_pairs(root: Path, count: int = 48) -> Path:
    """A folder of noisy 36 px images, each with a sidecar .txt."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        _, size, colour, _ = caption(number).split()
        pixels = np.full((36, 36, 3), 128.0)
        half = SIZES[size] // 2
        pixels[18 - half : 18 + half, 18 - half : 18 + half] = COLOURS[colour]
        noisy = np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(root / f"{number:03d}.png")
        (root / f"{number:03d}.txt").write_text(caption(number))
    return root
