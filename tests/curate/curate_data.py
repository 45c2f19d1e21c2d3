"""A task of three colours, and a gallery that has such images, others, copies, and images of the task's test split."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

SIZE_PX, CROPS = 32, 3
COLOURS = {"blue": (40, 60, 200), "green": (50, 170, 60), "red": (200, 60, 40)}
OTHERS = {"grey": (128, 128, 128), "white": (235, 235, 235), "black": (15, 15, 15)}
PER_COLOUR, PER_OTHER = 8, 6
COPIES = {"copies/a.png": "red/01.png", "copies/b.png": "red/01.png", "copies/c.png": "blue/02.png"}
"""Byte-equal."""
LEAKS = {"leaks/x.png": "test/green/00.png", "leaks/y.png": "test/blue/01.png"}
BAD = "bad/broken.png"


def make_task(folder: Path) -> Path:
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        for name, rgb in COLOURS.items():
            for index in range(count):
                _write(folder / split / name / f"{index:02d}.png", rgb, seed=f"{split}{name}{index}")
    return folder


def make_gallery(folder: Path, task: Path) -> Path:
    for names, count in ((COLOURS, PER_COLOUR), (OTHERS, PER_OTHER)):
        for name, rgb in names.items():
            for index in range(count):
                _write(folder / name / f"{index:02d}.png", rgb, seed=f"web{name}{index}")
    for copy, original in [*((copy, folder / source) for copy, source in COPIES.items()),
                           *((leak, task / source) for leak, source in LEAKS.items())]:  # fmt: skip
        (folder / copy).parent.mkdir(exist_ok=True)
        shutil.copy(original, folder / copy)
    (folder / BAD).parent.mkdir()
    (folder / BAD).write_bytes(b"no image")
    return folder


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _write(path: Path, rgb: tuple[int, int, int], seed: str) -> None:
    """A colour with a coarse pattern of its own."""
    rng = np.random.default_rng(list(seed.encode()))
    height, width = int(rng.integers(40, 70)), int(rng.integers(40, 70))
    pattern = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
    coarse = np.asarray(pattern.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(np.clip(0.7 * np.array(rgb) + 0.3 * coarse, 0, 255).astype(np.uint8)))
