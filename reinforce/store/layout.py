"""The one kind of array that a store has: Zarr v3, sharded, `[transpose ->] bytes -> zstd (checksum) -> crc32c`.

An `ArrayLayout` says everything about an array but its values; its `zarr.json` is written from it and parsed back
into an equal one, so that an array which any other program described differently is refused before it is read.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reinforce.errors import CorruptStoreError
from reinforce.store.canonical import Fields, canonical_json, one_line, parse_object

DTYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64")
MAX_CHUNK_BYTES = 256 << 20
MAX_CHUNKS_PER_SHARD = 1 << 16
MAX_SIDE = 1 << 40


@dataclass(frozen=True, kw_only=True)
class ArrayLayout:
    """Shape, cut and coding of one array at `path`.

    `shape` is cut into shards (one object each) of `shard_shape`, these into chunks (one zstd frame each) of
    `chunk_shape`. With `order`, a chunk's axes are permuted before it is written (Zarr's transpose codec).
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    shard_shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    order: tuple[int, ...] | None = None
    zstd_level: int = 3

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise CorruptStoreError(f"{self.path}: no array of a store has data type {one_line(repr(self.dtype))}")
        num_axes = len(self.shape)
        if not 1 <= num_axes <= 8 or num_axes != len(self.shard_shape) or num_axes != len(self.chunk_shape):
            raise CorruptStoreError(f"{self.path}: shape, shards and chunks differ in their number of axes")
        sides = zip(self.shape, self.shard_shape, self.chunk_shape, strict=True)
        if not all(0 < n <= MAX_SIDE and 0 < c <= s <= MAX_SIDE and s % c == 0 for n, s, c in sides):
            raise CorruptStoreError(f"{self.path}: impossible shape {self.shape} in shards of {self.shard_shape}")
        if self.chunk_bytes > MAX_CHUNK_BYTES or self.chunks_per_shard > MAX_CHUNKS_PER_SHARD:
            raise CorruptStoreError(
                f"{self.path}: chunks {self.chunk_shape} in shards {self.shard_shape} are too large"
            )
        if self.order is not None and sorted(self.order) != list(range(num_axes)):
            raise CorruptStoreError(f"{self.path}: axis order {self.order} is no permutation")

    @property
    def numpy_dtype(self) -> np.dtype[Any]:
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def chunk_bytes(self) -> int:
        return math.prod(self.chunk_shape) * np.dtype(self.dtype).itemsize

    @property
    def chunks_per_shard(self) -> int:
        return math.prod(s // c for s, c in zip(self.shard_shape, self.chunk_shape, strict=True))

    @property
    def metadata_path(self) -> str:
        return f"{self.path}/zarr.json"

    def object_path(self, *shard: int) -> str:
        """The object that holds the shard at these grid coordinates."""
        return f"{self.path}/c/{'/'.join(map(str, shard))}"

    def shards(self) -> Iterator[tuple[int, ...]]:
        """Grid coordinates of every shard, in C order."""
        return itertools.product(*(range(-(-n // s)) for n, s in zip(self.shape, self.shard_shape, strict=True)))

    def chunks(self, shard: tuple[int, ...]) -> Iterator[int]:
        """Places in a shard's index of the chunks that hold a part of the array: at its end some may not."""
        grid = [s // c for s, c in zip(self.shard_shape, self.chunk_shape, strict=True)]
        for place, chunk in enumerate(itertools.product(*map(range, grid))):
            sides = zip(shard, self.shard_shape, chunk, self.chunk_shape, self.shape, strict=True)
            if all(s * shard_side + c * chunk_side < n for s, shard_side, c, chunk_side, n in sides):
                yield place

    def metadata(self) -> bytes:
        """The array's `zarr.json`."""
        return canonical_json(self._document())

    @classmethod
    def parse(cls, path: str, data: bytes) -> ArrayLayout:
        """The layout that a `zarr.json` describes. Raises CorruptStoreError for any array of another kind."""
        document = Fields(parse_object(data, f"{path}/zarr.json", canonical=False), f"{path}/zarr.json")
        try:
            sharding = document.items("codecs")[0]["configuration"]
            codecs = {codec["name"]: codec.get("configuration", {}) for codec in sharding["codecs"]}
            layout = cls(
                path=path,
                dtype=document.text("data_type"),
                shape=_integers(document.items("shape")),
                shard_shape=_integers(document.members["chunk_grid"]["configuration"]["chunk_shape"]),
                chunk_shape=_integers(sharding["chunk_shape"]),
                order=_integers(codecs["transpose"]["order"]) if "transpose" in codecs else None,
                zstd_level=int(codecs["zstd"]["level"]),
            )
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise CorruptStoreError(f"{path}/zarr.json describes no array of a store ({one_line(error)})") from error
        expected = layout._document()
        if any(document.members.get(name) != value for name, value in expected.items() if name != "attributes"):
            raise CorruptStoreError(f"{path}/zarr.json describes an array with other codecs than a store has")
        return layout

    def _document(self) -> dict[str, Any]:
        little = {"name": "bytes", "configuration": {"endian": "little"}}
        inner: list[dict[str, Any]] = [
            little if np.dtype(self.dtype).itemsize > 1 else {"name": "bytes"},
            {"name": "zstd", "configuration": {"checksum": True, "level": self.zstd_level}},
            {"name": "crc32c"},
        ]
        if self.order is not None:
            inner.insert(0, {"name": "transpose", "configuration": {"order": list(self.order)}})
        sharding = {
            "chunk_shape": list(self.chunk_shape),
            "codecs": inner,
            "index_codecs": [little, {"name": "crc32c"}],
            "index_location": "end",
        }
        return {
            "zarr_format": 3,
            "node_type": "array",
            "shape": list(self.shape),
            "data_type": self.dtype,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(self.shard_shape)}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": 0.0 if self.dtype.startswith("float") else 0,
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "attributes": {},
        }


def group_metadata(attributes: Mapping[str, object]) -> bytes:
    """A group's `zarr.json`."""
    return canonical_json({"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)})


def whole_layout(path: str, dtype: str, shape: tuple[int, ...], zstd_level: int = 3) -> ArrayLayout:
    """A small array in one chunk of one object."""
    return ArrayLayout(path=path, dtype=dtype, shape=shape, shard_shape=shape, chunk_shape=shape, zstd_level=zstd_level)


def column_layout(path: str, dtype: str, length: int, zstd_level: int = 3) -> ArrayLayout:
    """A column of any length: chunks of 64 KiB (never longer than the column), up to 1,024 of them in an object."""
    chunk = min(length, (64 << 10) // np.dtype(dtype).itemsize)
    shard = chunk * min(1024, -(-length // chunk))
    return ArrayLayout(
        path=path, dtype=dtype, shape=(length,), shard_shape=(shard,), chunk_shape=(chunk,), zstd_level=zstd_level
    )


def _integers(values: object) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
        raise TypeError(f"not a list of integers: {values!r}")
    return tuple(values)
