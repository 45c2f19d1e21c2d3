"""Small integers, several to a byte: an entropy coder that sees bytes one by one then sees digits together.

R = rows, K = digits a row, P = bytes a row.

zstd spends a bit or more on every literal byte, however predictable. Digits of three levels take 0.5 bits where nine in
ten are zero, so five of them share a byte: its 243 levels have an entropy that Huffman's code can follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDE, BYTE = 65536, 256
RADICES = (WIDE, BYTE, 15, 5, 3)
"""Levels a digit may have; digits of one radix lie together, in this order."""
DIGITS_PER_BYTE = {BYTE: 1, 15: 2, 5: 3, 3: 5}
"""A wide digit takes two bytes."""
_WIDE_ZERO = 128 * 256 + 128
"""Digits of -128..127 then differ in the low byte only; the high one, 128, packs to nothing."""


@dataclass(frozen=True)
class Digits:
    """Whole numbers in two parts, low + 256 * high: 8-bit ones multiply several times as fast."""

    low: NDArray[np.int8]
    """(..., K)"""
    high: NDArray[np.int16]
    """(..., H), of the leading columns: zero in all others"""

    def __add__(self, other: Digits) -> Digits:
        low = self.low + other.low  # modulo 256
        carried = (self.low ^ low) & (other.low ^ low) < 0
        columns = np.flatnonzero(carried.any(axis=tuple(range(carried.ndim - 1))))
        num_high = max(self.high.shape[-1], other.high.shape[-1], 1 + max(columns, default=-1))
        leading = (..., slice(num_high))
        high = np.where(low[leading] < 0, np.int16(1), np.int16(-1)) * carried[leading]
        for part in (self.high, other.high):
            high[..., : part.shape[-1]] += part
        return Digits(low, high)

    def whole(self) -> NDArray[np.float32]:
        """(..., K)"""
        digits = self.low.astype(np.float32)
        digits[..., : self.high.shape[-1]] += np.float32(256) * self.high
        return digits


@dataclass(frozen=True)
class Packing:
    """How K digits become P bytes: the first `counts[0]` have radix 65536, the next `counts[1]` radix 256, and so on.

    A digit of an odd radix b is -(b - 1) / 2 .. (b - 1) / 2, of radix 256 -128 .. 127, of radix 65536 -32896 .. 32639.
    """

    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.counts) != len(RADICES) or not all(0 <= count < 1 << 20 for count in self.counts):
            raise ValueError(f"a packing has {len(RADICES)} counts, not {self.counts}")

    @classmethod
    def fitting(cls, digits_RK: NDArray[np.floating], tolerance: float) -> Packing:
        """The narrowest whose limits cut off, in every column, at most `tolerance` of mean squared value.

        Radices never grow along the columns, since those of one radix lie together.
        """
        needed = [_radix_needed(np.abs(column), tolerance) for column in digits_RK.T]
        radices = np.maximum.accumulate(np.array(needed[::-1], np.int64))[::-1]
        return cls(tuple(int((radices == radix).sum()) for radix in RADICES))

    @classmethod
    def parse(cls, counts: Any) -> Packing:
        """From a plan. Raises ValueError."""
        if not isinstance(counts, list) or not all(type(count) is int for count in counts):
            raise ValueError(f"digits are {counts!r}, not a list of counts")
        return cls(tuple(counts))

    @property
    def num_digits(self) -> int:
        return sum(self.counts)

    @property
    def num_bytes(self) -> int:
        return sum(stop - start for _, _, start, stop in self._groups())

    def limits(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(K,) least and (K,) greatest value of every digit."""
        low = {WIDE: -_WIDE_ZERO, BYTE: -128}
        high = {WIDE: 65535 - _WIDE_ZERO, BYTE: 127}
        pairs = [(low.get(b, -(b - 1) // 2), high.get(b, (b - 1) // 2)) for b in RADICES]
        lows, highs = (np.repeat(np.array(values, np.float32), self.counts) for values in zip(*pairs, strict=True))
        return lows, highs

    def cut(self, digits: NDArray[np.float64]) -> NDArray[np.float64]:
        """(..., K) within the limits."""
        return np.clip(digits, *self.limits())

    def pack(self, digits: NDArray[np.floating]) -> NDArray[np.uint8]:
        """(..., K) whole numbers within the limits -> (..., P)."""
        packed = np.empty((*digits.shape[:-1], self.num_bytes), np.uint8)
        for radix, columns, start, stop in self._groups():
            packed[..., start:stop] = _pack_group(digits[..., columns].astype(np.int32), radix, stop - start)
        return packed

    def unpack(self, packed: NDArray[np.uint8]) -> Digits:
        """Inverse of `pack`: (..., P) -> (..., K), in memory column by column, as codes lie in their chunks."""
        if packed.shape[-1] != self.num_bytes:
            raise ValueError(f"{packed.shape[-1]} packed bytes a row, not {self.num_bytes}")
        bytes_first = np.moveaxis(packed, -1, 0)
        low = np.empty((self.num_digits, *packed.shape[:-1]), np.int8)
        for radix, columns, start, stop in self._groups():
            _unpack_group(bytes_first[start:stop], radix, low[columns])
        high = _signed(packed[..., self.counts[0] : 2 * self.counts[0]])
        return Digits(np.moveaxis(low, 0, -1), high.astype(np.int16))

    def _groups(self) -> Iterator[tuple[int, slice, int, int]]:
        """(radix, its columns, first and last + 1 of its bytes) of every radix in use."""
        column = byte = 0
        for radix, count in zip(RADICES, self.counts, strict=True):
            if count:
                num_bytes = 2 * count if radix == WIDE else -(-count // DIGITS_PER_BYTE[radix])
                yield radix, slice(column, column + count), byte, byte + num_bytes
                column, byte = column + count, byte + num_bytes


def _radix_needed(sizes_R: NDArray[np.floating], tolerance: float) -> int:
    for radix in reversed(RADICES[1:]):
        excess = np.maximum(sizes_R - (radix - 1) // 2, 0)
        if np.mean(excess * excess) <= tolerance:
            return radix
    return WIDE


def _pack_group(digits: NDArray[np.int32], radix: int, num_bytes: int) -> NDArray[np.uint8]:
    if radix == WIDE:
        shifted = (digits + _WIDE_ZERO).astype(np.uint16)
        return np.concatenate([shifted & 255, shifted >> 8], axis=-1).astype(np.uint8)
    per_byte = DIGITS_PER_BYTE[radix]
    padded = np.zeros((*digits.shape[:-1], num_bytes * per_byte), np.int32)
    padded[..., : digits.shape[-1]] = digits
    shifted = padded.reshape(*digits.shape[:-1], num_bytes, per_byte) + radix // 2
    return np.asarray((shifted * _powers(radix)).sum(axis=-1), np.uint8)


def _unpack_group(packed: NDArray[np.uint8], radix: int, low: NDArray[np.int8]) -> None:
    """Digits of one radix, (K, ...), of their bytes, (P, ...); of wide ones the low parts."""
    if radix in (WIDE, BYTE):
        low[:] = _signed(packed[: len(low)])
        return
    for place in range(DIGITS_PER_BYTE[radix]):
        digits, rest = low[place :: DIGITS_PER_BYTE[radix]], packed // np.uint8(radix)
        shifted = packed - rest * np.uint8(radix) - np.uint8(radix // 2)
        digits[:] = shifted[: len(digits)].view(np.int8)
        packed = rest


def _signed(packed: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Less 128."""
    return (packed ^ np.uint8(128)).view(np.int8)


def _powers(radix: int) -> NDArray[np.int32]:
    return np.array([radix**i for i in range(DIGITS_PER_BYTE[radix])], np.int32)
