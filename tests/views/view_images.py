"""Pictures for the tests of views: made in code, in every format and mode that the wild holds.

Run as a program it replays views of `small_unit` in this other process and prints their checksums.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import zlib
from typing import Any

import numpy as np
from PIL import Image

from reinforce.views import UnitReplayer, named_policy
from reinforce.views.fingerprint import pixels_checksum


def pattern(width: int, height: int, number: int = 0) -> np.ndarray:
    """uint8 (H, W, 3), an integer formula that other languages can repeat: the images of vectors.json."""
    y, x, c = np.mgrid[:height, :width, :3].astype(np.int64)
    return ((x * 5 + y * 3 + c * 60 + x * y * (number + 1) // 9 + 40 * number) % 256).astype(np.uint8)


def smooth(width: int, height: int, number: int = 0) -> Image.Image:
    """Like a photograph: few high frequencies."""
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, number: int = 0) -> bytes:
    return encode(Image.fromarray(pattern(width, height, number)), "PNG")


def jpeg(width: int, height: int, number: int = 0, **options: Any) -> bytes:
    return encode(smooth(width, height, number), "JPEG", quality=90, **options)


def png_header(width: int, height: int) -> bytes:
    """A PNG that says it is huge and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def small_unit() -> tuple[list[str], list[bytes]]:
    """Eight rows of several formats, one of them broken."""
    rgba = np.dstack([pattern(45, 60, 3), pattern(45, 60, 4)[..., 0]])
    rows = [
        jpeg(80, 60, 0),
        png(33, 90, 1),
        jpeg(300, 200, 2),
        encode(Image.fromarray(rgba), "PNG"),
        jpeg(64, 64, 5)[:500],
        encode(smooth(70, 50, 6), "WEBP", lossless=True),
        encode(smooth(50, 70, 7).convert("P"), "GIF"),
        encode(smooth(40, 40, 8).convert("L"), "BMP"),
    ]
    return [f"pictures/{n}.img" for n in range(len(rows))], rows


BROKEN_ROW = 4


def replayed_checksums(policy: str, num: int, budget_bytes: int, order_seed: int) -> list[str]:
    """Checksums of `num` views of `small_unit`, replayed in a shuffled order with that much memory."""
    keys, rows = small_unit()
    replayer = UnitReplayer(named_policy(policy, size_px=24, seed=5), keys, rows.__getitem__, budget_bytes)
    places = [(row, view) for view in range(num) for row in range(len(rows)) if row != BROKEN_ROW][:num]
    checksums = [""] * num
    for index in np.random.default_rng(order_seed).permutation(num).tolist():
        checksums[index] = pixels_checksum(replayer.view(*places[index]))
    return checksums


if __name__ == "__main__":
    print(json.dumps(replayed_checksums(sys.argv[1], *map(int, sys.argv[2:5]))))  # noqa: T201
