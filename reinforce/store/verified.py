"""Reading objects that a manifest lists: each is hashed before its first byte is used, and only then read in parts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.errors import CorruptStoreError
from reinforce.store.canonical import MAX_JSON_BYTES, parse_object
from reinforce.store.codecs import array_sha256, check_calibration
from reinforce.store.inventory import mending_advice
from reinforce.store.layout import ArrayLayout
from reinforce.store.manifest import Manifest
from reinforce.store.marker import ObjectDigest
from reinforce.store.objects import Objects
from reinforce.store.schema import Schema
from reinforce.store.shard import chunk_range, decode_chunk, decode_chunks, index_bytes, parse_index

_BLOCK_BYTES = 4 << 20


def hash_object(objects: Objects, path: str) -> str:
    """SHA-256 of an object of any size, in bounded memory. Raises FileNotFoundError."""
    digest = hashlib.sha256()
    start = 0
    while block := objects.get_range(path, start, _BLOCK_BYTES):
        digest.update(block)
        start += len(block)
        if len(block) < _BLOCK_BYTES:
            break
    return digest.hexdigest()


def holds(objects: Objects, path: str, expected: ObjectDigest) -> bool:
    """Whether an object is there with this size and hash."""
    try:
        return objects.size(path) == expected.num_bytes and hash_object(objects, path) == expected.sha256
    except FileNotFoundError:
        return False


def read_object(objects: Objects, manifest: Manifest, path: str) -> bytes:
    """A listed object whole, by one request. Raises DamagedObjectError where it is not what the manifest says."""
    try:
        data = objects.get(path)
    except FileNotFoundError:
        raise DamagedObjectError(objects.name, path, "missing") from None
    if ObjectDigest.of(data) != manifest.objects[path]:
        raise DamagedObjectError(objects.name, path, "its SHA-256 differs from the manifest's")
    return data


class DamagedObjectError(CorruptStoreError):
    """One listed object is not what the manifest says; `path` and `reason` are the message's parts."""

    def __init__(self, store: str, path: str, reason: object) -> None:
        super().__init__(f"{store}: {path}: {reason}; {mending_advice(store)}")
        self.store, self.path, self.reason = store, path, str(reason)

    def __reduce__(self) -> tuple[type[DamagedObjectError], tuple[str, str, str]]:
        return (DamagedObjectError, (self.store, self.path, self.reason))


class VerifiedObjects:
    """The objects of a finished store, as its manifest says they are; anything else is a DamagedObjectError.

    Keeps nothing but the chunk index of every shard it has checked: 16 bytes a chunk.
    """

    def __init__(self, objects: Objects, manifest: Manifest) -> None:
        self.objects = objects
        self.manifest = manifest
        self._indices: dict[str, NDArray[np.uint64]] = {}

    def error(self, path: str, reason: object) -> DamagedObjectError:
        return DamagedObjectError(self.objects.name, path, reason)

    def check(self, path: str) -> int:
        """Compare size and hash with the manifest; returns the size."""
        expected = self.manifest.objects.get(path)
        if expected is None:
            raise self.error(path, "not in the manifest")
        try:
            size = self.objects.size(path)
            digest = hash_object(self.objects, path) if size == expected.num_bytes else ""
        except FileNotFoundError:
            raise self.error(path, "missing") from None
        if size != expected.num_bytes:
            raise self.error(path, f"has {size} bytes, not {expected.num_bytes}")
        if digest != expected.sha256:
            raise self.error(path, "its SHA-256 differs from the manifest's")
        return size

    def read(self, path: str) -> bytes:
        """A small object (JSON) whole."""
        if self.check(path) > MAX_JSON_BYTES:
            raise self.error(path, f"over the limit of {MAX_JSON_BYTES} bytes")
        return self.objects.get(path)

    def read_json(self, path: str) -> dict[str, Any]:
        """The object in one of the store's own JSON files."""
        return parse_object(self.read(path), path)

    def layout(self, array_path: str) -> ArrayLayout:
        path = f"{array_path}/zarr.json"
        data = self.read(path)
        try:
            return ArrayLayout.parse(array_path, data)
        except CorruptStoreError as error:
            raise self.error(path, error) from error

    def chunk(self, layout: ArrayLayout, shard: tuple[int, ...], chunk: int) -> NDArray[Any]:
        """Values of the `chunk`-th chunk of a shard, shape `layout.chunk_shape`."""
        return self.chunk_of(layout, layout.object_path(*shard), chunk)

    def chunk_of(self, layout: ArrayLayout, path: str, chunk: int) -> NDArray[Any]:
        values: NDArray[Any] = self.chunks_of(layout, path, [chunk])[0]
        return values

    def chunks_of(self, layout: ArrayLayout, path: str, chunks: Sequence[int]) -> NDArray[Any]:
        """(chunks, *chunk_shape) of a shard, read in one piece: they lie near each other."""
        index = self.index(layout, path)
        try:
            ranges = [chunk_range(index, chunk) for chunk in chunks]
            first = min(start for start, _ in ranges)
            piece = self.objects.get_range(path, first, max(start + length for start, length in ranges) - first)
            return decode_chunks(layout, [piece[start - first : start - first + length] for start, length in ranges])
        except (ValueError, FileNotFoundError) as error:
            raise self.error(path, error) from error

    def index(self, layout: ArrayLayout, path: str) -> NDArray[np.uint64]:
        """The chunk index of a shard, whose object is hashed the first time."""
        if path not in self._indices:
            self._indices[path] = self._checked_index(layout, path)
        return self._indices[path]

    def column(self, layout: ArrayLayout, start: int, stop: int) -> NDArray[Any]:
        """Values `start..stop` of a one-dimensional array."""
        (chunk_length,) = layout.chunk_shape
        per_shard = layout.chunks_per_shard
        parts = [np.empty(0, layout.numpy_dtype)]
        for number in range(start // chunk_length, -(-stop // chunk_length)):
            values = self.chunk(layout, (number // per_shard,), number % per_shard)
            begin = number * chunk_length
            parts.append(values[max(0, start - begin) : stop - begin])
        return np.concatenate(parts)

    def whole(self, layout: ArrayLayout) -> NDArray[Any]:
        """All values of an array that lies in one chunk."""
        return self.chunk(layout, (0,) * len(layout.shape), 0)

    def _checked_index(self, layout: ArrayLayout, path: str) -> NDArray[np.uint64]:
        size = self.check(path)
        length = index_bytes(layout)
        try:
            return parse_index(layout, self.objects.get_range(path, max(0, size - length), length), size)
        except ValueError as error:
            raise self.error(path, error) from error


def read_calibration(objects: Objects, schema: Schema) -> dict[str, NDArray[Any]]:
    """A codec's calibration arrays, checked against the hashes in the plan; there may be no manifest yet.

    Raises CorruptStoreError, FileNotFoundError where `create_store` has not ended; none is read that its codec does
    not have.
    """
    shapes = {name: shape for name, (_, shape, _) in schema.calibration.items()}
    check_calibration(schema.codec_name, schema.codec_parameters, shapes, schema.num_channels)
    arrays = {}
    for name, layout in schema.calibration_layouts().items():
        path = layout.object_path(*[0] * len(layout.shape))
        if objects.size(path) > 2 * layout.chunk_bytes + 4096:
            raise CorruptStoreError(f"{path} is longer than its values could need")
        data = objects.get(path)
        try:
            index = parse_index(layout, data[-index_bytes(layout) :], len(data))
            start, length = chunk_range(index, 0)
            values = decode_chunk(layout, data[start : start + length])
        except ValueError as error:
            raise CorruptStoreError(f"{path}: {error}") from error
        if array_sha256(values) != schema.calibration[name][2]:
            raise CorruptStoreError(f"{path} does not hold the plan's calibration")
        arrays[name] = values
    return arrays
