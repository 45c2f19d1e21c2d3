"""What every source of images offers: named shards of unique keys, and the encoded bytes of any row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from reinforce.errors import DataError, MissingDataError

IMAGE_SUFFIXES = frozenset({"jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", "pgm", "jfif", "jpe"})
"""File name suffixes, lower case, that make a file an image."""

UNREAD_SUFFIXES = frozenset(
    {"avif", "heic", "heif", "jxl", "jp2", "j2k", "psd", "svg", "tga", "dng", "cr2", "nef", "arw"}
)
"""Images that are not read: they are counted, so that nobody misses them without notice."""

AHEAD_ROWS = 1024
"""How far ahead of its use an image is spoken of."""

Places = Sequence[tuple[int, int]]
"""(shard, row) of images."""

VIRTUAL_SHARD_ROWS = 8192
"""Loose files are cut into virtual shards of this many rows."""


@dataclass(frozen=True)
class Shard:
    """A named run of samples that are read together: a tar, or a block of a folder's sorted files."""

    name: str
    """Unique in its source, relative: "00017.tar", "folder-00003"."""
    keys: tuple[str, ...]
    """At least one; unique in the whole source."""


@runtime_checkable
class ImageSource(Protocol):
    """Encoded images by (shard, row). Read-only, deterministic in its order, picklable (files reopen lazily)."""

    @property
    def name(self) -> str:
        """A short name for people; never a path."""

    @property
    def shards(self) -> tuple[Shard, ...]:
        """All shards, in listing order."""

    def read(self, shard: int, row: int) -> bytes:
        """The file's bytes as they lie there; MissingDataError when they are gone, DataError when unreadable."""


@dataclass(frozen=True)
class FrozenColumns:
    """What is known of a source's images without reading them, in listing order; see `Listing`."""

    where: str
    """The file that says so, for messages."""
    sha64: npt.NDArray[np.uint64]
    num_bytes: npt.NDArray[np.int64]
    width: npt.NDArray[np.int64]
    height: npt.NDArray[np.int64]


@runtime_checkable
class FrozenSource(Protocol):
    """A source that may know its images without reading them."""

    def frozen(self) -> FrozenColumns | None: ...


@runtime_checkable
class PrefetchingSource(Protocol):
    """A source that may lie far away, and is faster where it knows what will be read next."""

    @property
    def is_remote(self) -> bool: ...

    def prefetch(self, places: Places) -> None:
        """Say which (shard, row) will be read next, in this order, in place of what was said before."""


def remote_source(source: ImageSource) -> PrefetchingSource | None:
    """The source itself, if it should be told what will be read next."""
    return source if isinstance(source, PrefetchingSource) and source.is_remote else None


def read_ahead(source: ImageSource, places: Places, start: int = 0) -> Iterator[bytes]:
    """The encoded bytes at (shard, row) places in their order, from the `start`-th on, asked for ahead of their use."""
    remote = remote_source(source)
    for number in range(start, len(places)):
        if remote is not None and (number - start) % AHEAD_ROWS == 0:
            remote.prefetch(places[number : number + 2 * AHEAD_ROWS])
        yield source.read(*places[number])


def num_images(source: ImageSource) -> int:
    """How many images all shards of `source` hold."""
    return sum(len(shard.keys) for shard in source.shards)


def suffix_of(name: str) -> str:
    """What follows the last dot of a path's base name, lower case; "" where there is no dot."""
    _, dot, suffix = name.rpartition("/")[2].rpartition(".")
    return suffix.lower() if dot else ""


def is_image_name(name: str) -> bool:
    """Whether a base name is that of a visible image file."""
    return suffix_of(name) in IMAGE_SUFFIXES and not name.startswith(".")


def virtual_shards(prefix: str, keys: Sequence[str]) -> tuple[Shard, ...]:
    """Cut `keys`, in order, into shards named "<prefix>-00000", ... of VIRTUAL_SHARD_ROWS rows."""
    starts = range(0, len(keys), VIRTUAL_SHARD_ROWS)
    return tuple(
        Shard(f"{prefix}-{number:05d}", tuple(keys[start : start + VIRTUAL_SHARD_ROWS]))
        for number, start in enumerate(starts)
    )


def read_image_file(path: Path) -> bytes:
    """A loose file's bytes. Raises MissingDataError when it is gone and DataError when it cannot be read."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MissingDataError(f"{path} is not there: put the file back, or drop it from the set") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
