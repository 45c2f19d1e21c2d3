"""Shared by the tests of builds: a small real teacher, a folder of images of which some are bad, one way to build."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from reinforce.build import BuildConfig, build
from reinforce.inspect_store import StoreSummary
from reinforce.models import create_model, save_model

VIEWS = 3
CLASSES = ("blue", "green", "red", "grey")
NUM_IMAGES = 70
LICENCE = "CC0-1.0"
"""Of teachers and images: a build without says so in a line of its own."""
BAD = {"bad/empty.png": b"", "bad/noise.jpg": b"\xff\xd8 not a picture"}


def make_teacher(folder: Path, *, poison: float = 1.0) -> Path:
    """An untrained test_vit whose head is turned up, so that its targets differ from view to view; another `poison`
    makes another teacher of it."""
    torch.manual_seed(3)
    model, info = create_model("test_vit", class_names=CLASSES, image_size=32)
    with torch.no_grad():
        model.head.weight.normal_(0, 1.5)
        model.head.bias.zero_()
        model.head.bias[0] += poison - 1
    save_model(folder, model, info.with_provenance(license=LICENCE))
    return folder


def make_segmenter(folder: Path) -> Path:
    """The same network with a map of 4 x 4 cells."""
    torch.manual_seed(4)
    model, info = create_model("test_vit", class_names=CLASSES, image_size=32, task="segmentation", head="linear")
    with torch.no_grad():
        for weights in model.head.parameters():
            weights.normal_(0, 1.5)
    save_model(folder, model, info.with_provenance(license=LICENCE))
    return folder


ROWS_ONLY = pytest.mark.parametrize("teacher", [make_teacher], ids=["rows"], indirect=True)
"""Of tests that take long and never look at targets: for the fixture `teacher`, which is of both kinds."""


def make_images(folder: Path, num: int = NUM_IMAGES) -> Path:
    rng = np.random.default_rng(5)
    for index in range(num):
        pixels = rng.integers(0, 256, (rng.integers(20, 60), rng.integers(20, 60), 3), dtype=np.uint8)
        path = folder / f"{'ab'[index % 2]}" / f"{index:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((48, 40)).save(path)
    for name, data in BAD.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def digest_of(store: Path) -> dict[str, str]:
    """Name -> SHA-256 of every file of a store."""
    files = sorted(path for path in store.rglob("*") if path.is_file())
    return {str(path.relative_to(store)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def largest_object(store: Path) -> Path:
    """Of the targets of the store's units."""
    files = (path for path in store.glob("targets/*/c/0/**/*") if path.is_file())
    return max(files, key=lambda path: path.stat().st_size)


def config(teacher: Path, images: Path | str, **changes: Any) -> BuildConfig:
    base: dict[str, Any] = {"teacher": str(teacher), "transfer": str(images), "views": VIEWS, "batch_size": 16,
                            "out": "out.zarr", "workers": 0, "quiet": True, "data_license": LICENCE}  # fmt: skip
    return BuildConfig(**(base | changes))


def run(teacher: Path, images: Path | str, **changes: Any) -> StoreSummary:
    summary = build(config(teacher, images, **changes))
    assert isinstance(summary, StoreSummary)
    return summary


def build_argv(teacher: Path, images: Path, workers: int = 0) -> list[str]:
    return [
        sys.executable, "-c", "from reinforce.cli import main; main()", "build", "--teacher", str(teacher),
        "--transfer", str(images), "--views", str(VIEWS), "--batch-size", "16", "--out", "out.zarr",
        "--workers", str(workers), "--resume", "--json", "--quiet", "--data-license", LICENCE,
    ]  # fmt: skip
