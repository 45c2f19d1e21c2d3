"""One shard without zarr: its index, a chunk of it, and the order of its chunks.

Zarr's own reader is correct but costs a second to import and a millisecond a read, starts threads (which a later
fork may wait on for ever), takes a missing chunk for zeros, and lets a frame decide how much memory it wants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from reinforce.store.layout import ArrayLayout

LONGEST_FRAME_HEADER = 18
"""Bytes, magic number included (RFC 8878, 3.1.1)."""
_MISSING = (1 << 64) - 1
_CRC_BYTES = 4


def index_bytes(layout: ArrayLayout) -> int:
    """Length of the index at a shard's end: 16 bytes a chunk and a checksum."""
    return 16 * layout.chunks_per_shard + _CRC_BYTES


def parse_index(layout: ArrayLayout, data: bytes, object_bytes: int) -> NDArray[np.uint64]:
    """(chunks, 2) start and length of every chunk, from a shard's last `index_bytes`.

    Chunks wholly past the array's end are missing (`chunk_range` refuses them). Raises ValueError where the checksum is
    wrong or a chunk lies outside the object.
    """
    if len(data) != index_bytes(layout):
        raise ValueError("the object is shorter than its index")
    index = np.frombuffer(_checked(data, "index"), "<u8").reshape(-1, 2)
    room = object_bytes - len(data)
    longest = layout.chunk_bytes + (layout.chunk_bytes >> 6) + 1024  # zstd never adds more than 1/256 and a header
    for start, length in index.tolist():
        if start == length == _MISSING:
            continue
        if start + length > room:
            raise ValueError("the index points outside the object")
        if length > longest:
            raise ValueError("a chunk is longer than its values could need")
    return index


def in_index_order(layout: ArrayLayout, shard: bytes) -> bytes:
    """The shard with its chunks in the order of its index, so that those of a view are one range.

    Zarr writes them along a Morton curve, on which a view's chunks lie between those of all others.
    """
    index = parse_index(layout, shard[-index_bytes(layout) :], len(shard))
    is_there = index[:, 0] != _MISSING
    lengths = np.where(is_there, index[:, 1], 0)
    ordered = np.where(is_there[:, None], np.stack([lengths.cumsum() - lengths, lengths], axis=1), index)
    entries = ordered.astype("<u8").tobytes()
    chunks = [shard[start : start + length] for start, length in index[is_there].tolist()]
    return b"".join([*chunks, entries, google_crc32c.value(entries).to_bytes(_CRC_BYTES, "little")])


def chunk_range(index: NDArray[np.uint64], chunk: int) -> tuple[int, int]:
    """Start and length of a chunk. Raises ValueError for one that was never written."""
    start, length = index[chunk].tolist()
    if start == _MISSING:
        raise ValueError("a chunk is missing from the index")
    return start, length


def decode_chunk(layout: ArrayLayout, data: bytes) -> NDArray[Any]:
    """One chunk's values, shape `layout.chunk_shape`. Raises ValueError as `decode_chunks`."""
    values: NDArray[Any] = decode_chunks(layout, [data])[0]
    return values


def decode_chunks(layout: ArrayLayout, pieces: Sequence[bytes]) -> NDArray[Any]:
    """Values of some chunks, shape (chunks, *layout.chunk_shape); their memory is in the order that is stored.

    Raises ValueError where a checksum is wrong or a frame does not hold exactly one chunk; never allocates more than
    the chunks' own bytes.
    """
    from numcodecs.zstd import decompress

    frames = [_checked(piece, "chunk") for piece in pieces]
    if any(frame_content_bytes(frame) != layout.chunk_bytes for frame in frames):
        raise ValueError("a zstd frame is not of the chunk's size")
    flat = np.empty(len(frames) * layout.chunk_bytes, np.uint8)
    try:
        decompress(b"".join(frames), flat)  # at once: a decoder's memory takes longer to set up than a frame to decode
    except RuntimeError as error:
        raise ValueError(f"a zstd frame is damaged ({error})") from error
    order = layout.order or range(len(layout.chunk_shape))
    stored = flat.view(layout.numpy_dtype).reshape(-1, *(layout.chunk_shape[axis] for axis in order))
    return stored.transpose(0, *(1 + np.argsort(order)))


def frame_content_bytes(frame: bytes) -> int | None:
    """The content size that a zstd frame's header states (RFC 8878, 3.1.1.1), None where it states none."""
    if len(frame) < 6 or frame[:4] != b"\x28\xb5\x2f\xfd":
        return None
    descriptor = frame[4]
    single_segment = bool(descriptor & 0x20)
    size_bytes = (1 if single_segment else 0, 2, 4, 8)[descriptor >> 6]
    if size_bytes == 0:
        return None
    start = 5 + (0 if single_segment else 1) + (0, 1, 2, 4)[descriptor & 3]
    size = int.from_bytes(frame[start : start + size_bytes], "little")
    return size + 256 if size_bytes == 2 else size


def _checked(data: bytes, what: str) -> bytes:
    if len(data) < _CRC_BYTES:
        raise ValueError(f"the {what} is shorter than its checksum")
    body = data[:-_CRC_BYTES]
    if google_crc32c.value(body) != int.from_bytes(data[-_CRC_BYTES:], "little"):
        raise ValueError(f"the {what}'s CRC-32C differs")
    return body
