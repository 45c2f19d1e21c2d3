"""A frozen listing: which images a set holds, in which order, with hashes of their bytes.

    shard digest = SHA-256 over, for every sample in order: key in UTF-8, one zero byte, sha64 in 16 hex digits, "\\n"
    digest       = SHA-256 over "reinforce listing 1\\n" and, for every shard in order, its digest in hex and "\\n"

Shard and folder names do not enter, so a set that is moved or renamed keeps its digest. sha64 is `hash64` of the file.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, islice

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from reinforce.data.keys import hash64, hex64
from reinforce.data.sources import FrozenColumns, FrozenSource, ImageSource, num_images, read_ahead
from reinforce.errors import DataError, UsageError

Progress = Callable[[int], object]
"""Called with the number of images read since its last call, about every hundred images and at the end."""

_HEADER_FORMATS = (
    JpegImagePlugin.JpegImageFile.format,
    PngImagePlugin.PngImageFile.format,
    WebPImagePlugin.WebPImageFile.format,
    GifImagePlugin.GifImageFile.format,
    BmpImagePlugin.BmpImageFile.format,
    TiffImagePlugin.TiffImageFile.format,
    PpmImagePlugin.PpmImageFile.format,
)
_MAX_SIDE_PX = 2**31 - 1
_PROGRESS_EVERY = 128
_NUM_CHECKED_SHARDS = 32


@dataclass(frozen=True, eq=False)
class Listing:
    """Columns in listing order, N samples: shard by shard, row by row."""

    shard_names: tuple[str, ...]
    shard_sizes: tuple[int, ...]
    """Samples of each shard; at least 1."""
    keys: tuple[str, ...]
    sha64: npt.NDArray[np.uint64]
    """(N,) `hash64` of the encoded bytes."""
    num_bytes: npt.NDArray[np.int64]
    """(N,) size of the encoded image."""
    width: npt.NDArray[np.int32]
    """(N,) px as the header says, before any EXIF rotation; 0 where the header cannot be read."""
    height: npt.NDArray[np.int32]
    shard_digests: tuple[str, ...]
    digest: str

    @classmethod
    def from_columns(
        cls,
        *,
        shard_names: Sequence[str],
        shard_sizes: Sequence[int],
        keys: Sequence[str],
        sha64: npt.ArrayLike,
        num_bytes: npt.ArrayLike,
        width: npt.ArrayLike,
        height: npt.ArrayLike,
    ) -> Listing:
        """Join columns and compute the digests. Raises DataError when their lengths do not fit."""
        hashes = np.asarray(sha64, dtype=np.uint64)
        counts = {len(keys), sum(shard_sizes), *(np.shape(x)[0] for x in (hashes, num_bytes, width, height))}
        if len(counts) != 1 or len(shard_names) != len(shard_sizes):
            raise DataError(f"the columns of a listing have different lengths: {sorted(counts)}")
        digests = tuple(_shard_digests(shard_sizes, keys, hashes))
        return cls(
            shard_names=tuple(shard_names),
            shard_sizes=tuple(shard_sizes),
            keys=tuple(keys),
            sha64=hashes,
            num_bytes=np.asarray(num_bytes, dtype=np.int64),
            width=np.asarray(width, dtype=np.int32),
            height=np.asarray(height, dtype=np.int32),
            shard_digests=digests,
            digest=listing_digest(digests),
        )

    def __len__(self) -> int:
        return len(self.keys)

    def with_keys(self, keys: Iterable[str]) -> Listing:
        """The same, of equal keys (of the first N), whose memory it then shares."""
        return replace(self, keys=tuple(islice(keys, len(self))))

    @property
    def shard_starts(self) -> tuple[int, ...]:
        """Position of each shard's first sample."""
        return tuple(accumulate(self.shard_sizes[:-1], initial=0)) if self.shard_sizes else ()

    def keys_by_shard(self) -> list[tuple[str, ...]]:
        return [self.keys[start : start + n] for start, n in zip(self.shard_starts, self.shard_sizes, strict=True)]


def freeze(source: ImageSource, *, limit: int | None = None, progress: Progress | None = None) -> Listing:
    """Read every image once, in listing order, and note its hash, its size and the width and height of its header.

    A source that knows all that, such as packed tars with their listing, is not read: only an image of each of some
    shards is compared with what it says. `limit` takes the first N samples only. Decodes nothing and accepts any bytes
    as an image; raises MissingDataError when a file has gone since the source was opened, DataError where what the
    source says of an image is not true.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit} leaves no samples: give 1 or more")
    total = min(num_images(source), limit or num_images(source))
    sizes = _limited_sizes(source, total)
    columns = source.frozen() if isinstance(source, FrozenSource) else None
    if columns is None:
        columns = _read_columns(source, sizes, progress)
    else:
        _check_some(source, sizes, columns)
        if progress:
            progress(total)
    shards = source.shards[: len(sizes)]
    return Listing.from_columns(
        shard_names=[shard.name for shard in shards],
        shard_sizes=sizes,
        keys=[key for shard, size in zip(shards, sizes, strict=True) for key in shard.keys[:size]],
        sha64=columns.sha64[:total],
        num_bytes=columns.num_bytes[:total],
        width=columns.width[:total],
        height=columns.height[:total],
    )


def _read_columns(source: ImageSource, sizes: Sequence[int], progress: Progress | None) -> FrozenColumns:
    total = sum(sizes)
    hashes = np.zeros(total, dtype=np.uint64)
    num_bytes = np.zeros(total, dtype=np.int64)
    pixels = np.zeros((total, 2), dtype=np.int64)
    for position, data in enumerate(_images(source, sizes)):
        hashes[position] = hash64(data)
        num_bytes[position] = len(data)
        pixels[position] = header_size(data)
        if progress and (position + 1) % _PROGRESS_EVERY == 0:
            progress(_PROGRESS_EVERY)
    if progress and total % _PROGRESS_EVERY:
        progress(total % _PROGRESS_EVERY)
    return FrozenColumns(source.name, hashes, num_bytes, pixels[:, 0].copy(), pixels[:, 1].copy())


def _check_some(source: ImageSource, sizes: Sequence[int], columns: FrozenColumns) -> None:
    """Compare the last image of some shards, spread evenly, with what is said of it."""
    ends = list(accumulate(sizes))
    for shard in np.unique(np.linspace(0, len(sizes) - 1, _NUM_CHECKED_SHARDS).astype(int)).tolist():
        data = source.read(shard, sizes[shard] - 1)
        if hash64(data) != int(columns.sha64[ends[shard] - 1]):
            key = source.shards[shard].keys[sizes[shard] - 1]
            raise DataError(f"{columns.where} is of other images than are there, such as '{key}': delete it, and every "
                            "image is read once to be frozen")  # fmt: skip


def header_size(data: bytes) -> tuple[int, int]:
    """(width, height) in px from the header alone; (0, 0) for what is no image. Never warns and never raises.

    Asks Pillow's format plugins directly: `Image.open` would warn of, and refuse, images of many megapixels, whose size
    is just what has to be known here. Whether such an image is decoded is for the view policy to say.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for format_name in _HEADER_FORMATS:
            factory, accept = Image.OPEN[format_name]
            try:
                if accept is None or accept(data[:16]) is True:
                    with factory(io.BytesIO(data), "") as image:
                        return image.size if max(image.size) <= _MAX_SIDE_PX else (0, 0)
            except Exception:  # plugins raise anything from SyntaxError to struct.error on hostile bytes
                continue
    return 0, 0


def _limited_sizes(source: ImageSource, total: int) -> list[int]:
    sizes: list[int] = []
    for shard in source.shards:
        if total == 0:
            break
        sizes.append(min(len(shard.keys), total))
        total -= sizes[-1]
    return sizes


def _images(source: ImageSource, sizes: Sequence[int]) -> Iterator[bytes]:
    return read_ahead(source, [(shard, row) for shard, size in enumerate(sizes) for row in range(size)])


def _shard_digests(sizes: Sequence[int], keys: Sequence[str], sha64: npt.NDArray[np.uint64]) -> Iterator[str]:
    start = 0
    for size in sizes:
        rows = zip(keys[start : start + size], sha64[start : start + size].tolist(), strict=True)
        yield hashlib.sha256("".join(f"{key}\0{hex64(value)}\n" for key, value in rows).encode()).hexdigest()
        start += size


def listing_digest(shard_digests: Sequence[str]) -> str:
    """The digest of a listing of these shards."""
    return hashlib.sha256("".join(["reinforce listing 1\n", *(f"{x}\n" for x in shard_digests)]).encode()).hexdigest()
