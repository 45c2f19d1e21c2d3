"""What the benchmarks run on: pictures made here, networks without trained weights, stores of them.

Speed does not depend on weights, so anyone can run this without fetching any. S = side in px.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image

from reinforce.build import BuildConfig, build
from reinforce.models import create_model, save_model

PHOTO_SIZE = (500, 375)
"""Width and height in px, as many photographs of the web have."""
ROWS_A_TAR = 10_000
Task = Literal["classification", "segmentation"]


@dataclass(frozen=True, kw_only=True)
class Network:
    """An architecture at an input size."""

    architecture: str
    image_size: int
    task: Task = "classification"

    @property
    def name(self) -> str:
        return f"{self.architecture} at {self.image_size} px"


def make_photographs(folder: Path, count: int) -> Path:
    """JPEGs whose detail falls with frequency, as in photographs; none where they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        path = folder / f"{index:05d}.jpg"
        if not path.exists():
            _photograph(index).save(path, quality=90)
    return folder


def _photograph(seed: int) -> Image.Image:
    """Noise of 6 octaves."""
    rng = np.random.Generator(np.random.Philox(seed))
    width, height = PHOTO_SIZE
    total = np.full((height, width, 3), 128.0)
    for octave in range(1, 7):
        noise = rng.integers(0, 256, (3 * 2**octave // 2, 2 * 2**octave, 3), dtype=np.uint8)
        total += (np.asarray(Image.fromarray(noise).resize(PHOTO_SIZE, Image.Resampling.BICUBIC)) - 128.0) * 2 / octave
    return Image.fromarray(total.clip(0, 255).astype(np.uint8))


def make_tiles(folder: Path, count: int, size_px: int = 16) -> Path:
    """Tars of small PNGs, all different: many samples at little cost."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, count, ROWS_A_TAR):
        with tarfile.open(folder / f"{start // ROWS_A_TAR:05d}.tar", "w") as tar:
            for index, data in _tiles(start, min(count, start + ROWS_A_TAR), size_px):
                member = tarfile.TarInfo(f"{index:07d}.png")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return folder


def _tiles(start: int, stop: int, size_px: int) -> Iterator[tuple[int, bytes]]:
    rng = np.random.Generator(np.random.Philox(start))
    for index in range(start, stop):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (size_px, size_px, 3), dtype=np.uint8)).save(file, "PNG", compress_level=1)
        yield index, file.getvalue()


def make_teacher(folder: Path, network: Network, num_classes: int) -> Path:
    """A model directory of random weights, its head turned up so that classes differ from view to view."""
    torch.manual_seed(0)
    names = [f"class {index}" for index in range(num_classes)]
    head: Literal["linear"] | None = "linear" if network.task == "segmentation" else None
    module, info = create_model(network.architecture, class_names=names, image_size=network.image_size,
                                task=network.task, head=head)  # fmt: skip
    with torch.no_grad():
        for name, weights in module.named_parameters():
            if name.startswith(("head.", "classifier.")) and weights.ndim > 1:
                weights.normal_(0, 0.2)
    save_model(folder, module, info)
    return folder


@dataclass(frozen=True, kw_only=True)
class StoreRequest:
    """A store of a teacher's targets of photographs."""

    teacher: Network
    num_images: int
    views: int
    view_px: int
    num_classes: int = 100
    batch_size: int = 32

    def config(self, folder: Path, *, device: str = "auto", workers: int = 0) -> BuildConfig:
        """Of a build in `folder`; what it reads is made there where it lacks."""
        photographs = make_photographs(folder / "photographs", self.num_images)
        name = f"{self.teacher.architecture}-{self.teacher.image_size}-{self.teacher.task}"
        if not (folder / name).exists():
            make_teacher(folder / name, self.teacher, self.num_classes)
        policy = "classification" if self.teacher.task == "classification" else "segmentation"
        return BuildConfig(teacher=str(folder / name), transfer=str(photographs), views=self.views, policy=policy,
                           image_size=self.view_px, batch_size=self.batch_size, device=device, workers=workers,
                           limit=self.num_images, quiet=True, out=str(folder / f"{name}-{self.view_px}.zarr"),
                           overwrite=True)  # fmt: skip

    def built(self, folder: Path, device: str = "auto") -> BuildConfig:
        config = self.config(folder, device=device)
        build(config)
        return config
