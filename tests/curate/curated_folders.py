"""Curated folders written by hand: what `reinforce curate` leaves, from a few real images."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reinforce.curate.curated import ClusterRecord, Crop, CuratedItem, LeakRecord, QueryItem, Record, to_line
from reinforce.data import hash64, hex64

DIMENSIONS = 8
SUMMARY: dict[str, Any] = {
    "format": 1,
    "strategy": "query-balanced",
    "size": 9,
    "seed": 0,
    "depth": 4,
    "num_queries": 4,
    "encoders": [{"name": "first", "weights_sha256": "a" * 64, "dimensions": 3},
                 {"name": "second", "weights_sha256": "b" * 64, "dimensions": 5}],
    "gallery": {"name": "gallery", "digest": "c" * 64, "manifest_digest": "d" * 64, "crops": 2, "items": 40},
    "query": {"name": "queries"},
    "duplicates": {"threshold": 0.99, "clusters": 2, "removed": 3},
    "decontamination": {"data": "targets", "threshold": 0.95, "possible": 3, "removed": 3, "kept": 0},
    "digest": "e" * 64,
}  # fmt: skip


@dataclass(frozen=True)
class Brought:
    """A line of the manifest to be."""

    key: str
    query: str | None
    rank: int | None
    crop: Crop | None = None


def write_images(folder: Path, names: Iterable[str], seed: int) -> Path:
    """Photograph-like gradients of (64..96) x 64 px, all different."""
    rng = np.random.default_rng(seed)
    for number, name in enumerate(names):
        rows, columns = np.indices((64, 64 + number % 3 * 16))
        waves = np.sin(rows[..., None] / rng.uniform(4, 30, 3) + columns[..., None] / rng.uniform(4, 30, 3))
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((127 + 120 * waves).astype(np.uint8)).save(path)
    return folder


def write_set(
    folder: Path,
    gallery: Path,
    brought: Sequence[Brought],
    *,
    queries: Path | None = None,
    query_keys: Sequence[str] = (),
    clusters: Sequence[ClusterRecord] = (),
    leaks: Sequence[LeakRecord] = (),
    summary: dict[str, Any] = SUMMARY,
) -> Path:
    """A finished set whose items, and queries, are images of these folders by key."""
    images: list[bytes] = []
    items, asked = [], []
    for number, one in enumerate(brought):
        data = (gallery / one.key).read_bytes()
        images.append(data if one.crop is None else crop_png(data, one.crop))
        items.append(CuratedItem(key=one.key, source="gallery", crop=one.crop, query=one.query, rank=one.rank,
                                 cosines=() if one.query is None else (0.9 - number / 100, 0.8 - number / 100),
                                 sha64=hex64(hash64(data)), file=f"images/00000/{number:06d}"))  # fmt: skip
    for number, key in enumerate(query_keys, start=len(items)):
        assert queries is not None
        images.append((queries / key).read_bytes())
        asked.append(QueryItem(key=key, source="queries", sha64=hex64(hash64(images[-1])),
                               file=f"images/00000/{number:06d}"))  # fmt: skip
    write_tar(folder / "images" / "00000.tar", images)
    lines: dict[str, Sequence[Record]] = {"manifest": items, "queries": asked, "duplicates": clusters, "leaks": leaks}
    for name, records in lines.items():
        (folder / f"{name}.jsonl").write_text("".join(map(to_line, records)))
    write_vectors(folder / "map.npz")
    (folder / "curated.json").write_text(json.dumps(summary))
    return folder


def write_vectors(path: Path, counts: Sequence[int] = (4, 9, 12)) -> None:
    rng = np.random.default_rng(0)
    names = ("query", "curated", "gallery")
    np.savez(path, **{name: rng.normal(size=(n, DIMENSIONS)).astype(np.float16)
                      for name, n in zip(names, counts, strict=True)})  # fmt: skip


def write_tar(path: Path, images: Sequence[bytes]) -> None:
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w") as tar:
        for number, data in enumerate(images):
            member = tarfile.TarInfo(f"{number:06d}.png")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def crop_png(data: bytes, crop: Crop) -> bytes:
    left, top, width, height = crop
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).crop((left, top, left + width, top + height)).save(file, "PNG")
    return file.getvalue()
