"""Shared by the tests of train/: one thread, a home folder of their own, small labelled images made here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_scenes import write_scene

COLOURS = {"blue": (30, 40, 200), "green": (40, 180, 50), "red": (200, 50, 40)}
SPLITS = {"train": 8, "val": 4, "test": 5}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def reinforce_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    monkeypatch.setenv("REINFORCE_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return home


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Images with masks of three classes, learned in some steps: red and blue rectangles on a grey ground."""
    root = tmp_path / "scenes"
    rng = np.random.default_rng(0)
    for split, count in {"train": 12, "val": 4, "test": 5}.items():
        for index in range(count):
            write_scene(root / split, f"{split}-{index}", rng)
    (root / "classes.txt").write_text("ground\nred\nblue\n")
    return root


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """An ImageFolder of noisy coloured squares, 36 px, three classes: learned in a few steps."""
    root = tmp_path / "colours"
    rng = np.random.default_rng(0)
    for split, count in SPLITS.items():
        for name, colour in COLOURS.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = np.clip(np.array(colour) + rng.normal(0, 25, (36, 36, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{split}-{name}-{index}.png")
    return root
