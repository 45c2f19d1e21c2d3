"""Fashion-MNIST, from the Debian package dataset-fashion-mnist into WebDataset tars.

Each sample is `00000123.png` (28x28, grey) and `00000123.cls` (the class number); `classes.txt` names the classes.
Tars of 10,000 keep the 60,000 + 10,000 images quick to list and read: train-00000.tar ... and test-00000.tar.
"""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from assets.download import check_files, debian_package
from reinforce.errors import DataError

SHA256 = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
CLASSES = ("t-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
SAMPLES_PER_TAR = 10_000


def make(downloads: Path, out: Path) -> None:
    """Raises DataError or MissingDataError when the package cannot be had or holds other files."""
    shutil.rmtree(out, ignore_errors=True)
    unpacked = debian_package("dataset-fashion-mnist", downloads, out / "package")
    folder = unpacked / "usr/share/datasets/fashion-mnist"
    check_files(folder, SHA256)
    for split, stem in (("train", "train"), ("test", "t10k")):
        images_NHW = read_idx((folder / f"{stem}-images-idx3-ubyte.gz").read_bytes())
        labels_N = read_idx((folder / f"{stem}-labels-idx1-ubyte.gz").read_bytes())
        write_tars(out, split, images_NHW, labels_N)
    (out / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES), encoding="utf-8")
    shutil.rmtree(unpacked)


def read_idx(data: bytes) -> NDArray[np.uint8]:
    """A gzipped idx file of bytes: magic 00 00 08 <ndim>, big-endian sizes, then the values."""
    raw = gzip.decompress(data)
    if raw[:3] != b"\0\0\x08":
        raise DataError("not an idx file of unsigned bytes")
    ndim = raw[3]
    shape = np.frombuffer(raw, ">u4", ndim, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def write_tars(out: Path, split: str, images_NHW: NDArray[np.uint8], labels_N: NDArray[np.uint8]) -> None:
    """Deterministic bytes: no times, owners or modes of this machine."""
    for number, start in enumerate(range(0, len(images_NHW), SAMPLES_PER_TAR)):
        with tarfile.open(out / f"{split}-{number:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
            stop = min(start + SAMPLES_PER_TAR, len(images_NHW))
            for index in range(start, stop):
                for suffix, data in _members(images_NHW[index], int(labels_N[index])):
                    member = tarfile.TarInfo(f"{index:08d}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def _members(image_HW: NDArray[np.uint8], label: int) -> Iterator[tuple[str, bytes]]:
    png = io.BytesIO()
    Image.fromarray(image_HW).save(png, "PNG", compress_level=6)
    yield "png", png.getvalue()
    yield "cls", str(label).encode()
