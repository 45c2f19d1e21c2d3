"""The pixel operations of dense views that `reinforce.views.ops` does not have, each exactly specified in integers.

All take and give uint8 RGB images of any size. `tests/views/dense_oracles.py` computes all of them again.
"""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import numpy as np
import numpy.typing as npt
from PIL import Image

from reinforce.views import ops
from reinforce.views.words import noise_words

MEAN_BYTE_SUM = 510


def apply_dense_op(image: Image.Image, op: tuple[str, *tuple[int, ...]]) -> Image.Image:
    """One operation, (name, *integer arguments); never changes `image`."""
    name, *args = op
    return _OPS[name](image, *args)


def pad(image: Image.Image, content: tuple[int, int, int, int], size_px: int, fill: ops.RGB) -> Image.Image:
    """`image` in the rectangle `content` (left, top, width, height) of a square of the colour `fill`."""
    square = Image.new("RGB", (size_px, size_px), fill)
    square.paste(image, content[:2])
    return square


def _brightness(image: Image.Image, factor: int) -> Image.Image:
    """v -> clip(factor * v >> 8)."""
    return ops.apply_op(image, ("brightness", factor), (0, 0, 0))


def _contrast(image: Image.Image, factor: int) -> Image.Image:
    """v -> clip((256 m + factor (v - m)) >> 8), m = the mean grey level of `image`, rounded half up."""
    return ops.apply_op(image, ("contrast", factor), (0, 0, 0))


def _saturation(image: Image.Image, factor: int) -> Image.Image:
    """v -> clip((256 g + factor (v - g)) >> 8), g = the pixel's grey level: the operation "color"."""
    return ops.apply_op(image, ("color", factor), (0, 0, 0))


def _hue(image: Image.Image, a: int, b: int, c: int) -> Image.Image:
    """R -> clip((a R + b G + c B + 2048) >> 12), G with (c, a, b), B with (b, c, a): a + b + c = 4096 keeps grey."""
    # multiples of 2^-12 below 2^11 are exact in Pillow's 32-bit floats
    rows = (a, b, c, 0), (c, a, b, 0), (b, c, a, 0)
    return image.convert("RGB", tuple(value / 4096 for row in rows for value in row))


def _blur(image: Image.Image, radius: int) -> Image.Image:
    """Along x, then along y: (sum over i of C(2r, i) * v[x + i - r] + 2^(2r - 1)) >> 2r, border pixels repeated.

    The standard deviation of the filter is sqrt(r / 2) px.
    """
    pixels = np.asarray(image)
    for axis in (1, 0):
        pixels = _binomial(pixels, radius, axis)
    return Image.fromarray(pixels)


def _binomial(pixels: npt.NDArray[np.uint8], radius: int, axis: int) -> npt.NDArray[np.uint8]:
    """One pass of the blur over one axis of (H, W, 3); uint16 holds the sums up to a radius of 4."""
    length = pixels.shape[axis]
    padded = np.moveaxis(_with_margin(pixels, radius, axis), axis, 0)
    total = padded[radius : radius + length] * np.uint16(comb(2 * radius, radius))
    for i in range(radius):
        pair = padded[i : i + length] + padded[2 * radius - i : 2 * radius - i + length]
        total += pair * np.uint16(comb(2 * radius, i))
    total += np.uint16(1 << 2 * radius - 1)
    total >>= np.uint16(2 * radius)
    return np.ascontiguousarray(np.moveaxis(total.astype(np.uint8), 0, axis))


def _with_margin(pixels: npt.NDArray[np.uint8], radius: int, axis: int) -> npt.NDArray[np.uint16]:
    """`pixels` with its border repeated `radius` times at both ends of an axis."""
    shape = list(pixels.shape)
    shape[axis] += 2 * radius
    padded = np.empty(shape, dtype=np.uint16)
    lines, inner = np.moveaxis(padded, axis, 0), np.moveaxis(pixels, axis, 0)
    lines[:radius], lines[radius:-radius], lines[-radius:] = inner[:1], inner, inner[-1:]
    return padded


def _noise(image: Image.Image, scale_q16: int, field: int) -> Image.Image:
    """v -> clip(v + ((scale * (n - 510) + 32768) >> 16)), n = the sum of four bytes of its own in the noise's words.

    Level j, counted row by row, RGB, has the lower four bytes of word j div 2 if j is even, else the upper four.
    """
    pixels = np.asarray(image)
    words = noise_words(field, -(-pixels.size // 2)).astype("<u8").view("<u4")[: pixels.size]
    pairs = (words & 0x00FF00FF) + (words >> 8 & 0x00FF00FF)
    pairs += pairs >> 16
    sums = (pairs & 0x7FF).astype(np.intp)
    added = (scale_q16 * (np.arange(1021) - MEAN_BYTE_SUM) + 32768 >> 16).astype(np.int16)
    noisy = added[sums].reshape(pixels.shape)
    noisy += pixels
    return Image.fromarray(noisy.clip(0, 255, out=noisy).astype(np.uint8))


_OPS: dict[str, Callable[..., Image.Image]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "saturation": _saturation,
    "hue": _hue,
    "blur": _blur,
    "noise": _noise,
}
