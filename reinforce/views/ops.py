"""The pixel operations on uint8 RGB images, each exactly specified in integers.

Pillow does the work where its result provably equals the formula: blend factors are multiples of 1/256 and affine
coefficients multiples of 2^-17, so its float arithmetic is exact, and its 3x3 filter never meets a tie.
For an operation's arguments see its function; `tests/views/view_oracles.py` computes all of them again without Pillow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

RGB = tuple[int, int, int]
_BILINEAR = Image.Resampling.BILINEAR
_LEVELS = np.arange(256, dtype=np.int64)


def resize_crop(image: Image.Image, crop: tuple[int, int, int, int], size_px: int) -> Image.Image:
    """Box `crop` (left, top, width, height) resized to a square, as `resize_box` does it."""
    return resize_box(image, crop, (size_px, size_px))


def resize_box(image: Image.Image, box: tuple[int, int, int, int], size: tuple[int, int]) -> Image.Image:
    """`box` (left, top, width, height) resized to `size` (width, height): antialiased triangle filter.

    Columns first, then rows, each pass rounded to uint8. The filter may reach up to its support beyond the box, where
    the image goes on there.
    """
    (left, top, width, height), (new_width, new_height) = box, size
    around_x, around_y = (-(-max(old, new) // new) + 1 for old, new in ((width, new_width), (height, new_height)))
    x0, y0 = max(0, left - around_x), max(0, top - around_y)
    part = image.crop((x0, y0, min(image.width, left + width + around_x), min(image.height, top + height + around_y)))
    # two calls, as one call takes the passes in an order that depends on Pillow's version and the sizes
    wide = part.resize((new_width, part.height), _BILINEAR, box=(left - x0, 0, left - x0 + width, part.height))
    return wide.resize(size, _BILINEAR, box=(0, top - y0, new_width, top - y0 + height))


def flip(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def erase(image: Image.Image, rect: tuple[int, int, int, int], fill: RGB) -> Image.Image:
    """A copy whose rectangle `rect` (left, top, width, height) has the colour `fill`."""
    left, top, width, height = rect
    erased = image.copy()
    erased.paste(fill, (left, top, left + width, top + height))
    return erased


def apply_op(image: Image.Image, op: tuple[str, *tuple[int, ...]], fill: RGB) -> Image.Image:
    """One RandAugment operation, (name, *integer arguments); never changes `image`."""
    name, *args = op
    return _OPS[name](image, fill, *args)


def _identity(image: Image.Image, fill: RGB) -> Image.Image:
    return image


def _shear_x(image: Image.Image, fill: RGB, shear_q16: int) -> Image.Image:
    """Output (x, y) samples the input at x + shear * y, coordinates at pixel centres (x = column + 1/2)."""
    return _affine(image, fill, (65536, shear_q16, 0, 0, 65536, 0), 65536)


def _shear_y(image: Image.Image, fill: RGB, shear_q16: int) -> Image.Image:
    """Output (x, y) samples the input at y + shear * x."""
    return _affine(image, fill, (65536, 0, 0, shear_q16, 65536, 0), 65536)


def _translate_x(image: Image.Image, fill: RGB, shift_px: int) -> Image.Image:
    """To the right by `shift_px`."""
    return _shifted(image, fill, (shift_px, 0))


def _translate_y(image: Image.Image, fill: RGB, shift_px: int) -> Image.Image:
    """Down by `shift_px`."""
    return _shifted(image, fill, (0, shift_px))


def _rotate(image: Image.Image, fill: RGB, cos_q16: int, sin_q16: int) -> Image.Image:
    """About the centre c: samples at (cos (x - c) + sin (y - c) + c, -sin (x - c) + cos (y - c) + c)."""
    side = image.width
    cos, sin = 2 * cos_q16, 2 * sin_q16
    offset_x = side * (65536 - cos_q16 - sin_q16)
    offset_y = side * (65536 - cos_q16 + sin_q16)
    return _affine(image, fill, (cos, sin, offset_x, -sin, cos, offset_y), 131072)


def _brightness(image: Image.Image, fill: RGB, factor: int) -> Image.Image:
    """v -> clip(factor * v >> 8)."""
    return _point(image, factor * _LEVELS >> 8)


def _contrast(image: Image.Image, fill: RGB, factor: int) -> Image.Image:
    """v -> clip((256 m + factor (v - m)) >> 8), m = the mean grey level, rounded half up."""
    grey_sum = int(np.asarray(image.convert("L")).sum(dtype=np.int64))
    num_pixels = image.width * image.height
    mean = (2 * grey_sum + num_pixels) // (2 * num_pixels)
    return _point(image, 256 * mean + factor * (_LEVELS - mean) >> 8)


def _color(image: Image.Image, fill: RGB, factor: int) -> Image.Image:
    """v -> clip((256 g + factor (v - g)) >> 8), grey level g = (19595 R + 38470 G + 7471 B + 32768) >> 16."""
    return Image.blend(image.convert("L").convert("RGB"), image, factor / 256)


def _sharpness(image: Image.Image, fill: RGB, factor: int) -> Image.Image:
    """v -> clip((256 s + factor (v - s)) >> 8), s = (2 (5 v + its 8 neighbours) + 13) div 26, s = v on the border."""
    return Image.blend(image.filter(ImageFilter.SMOOTH), image, factor / 256)


def _posterize(image: Image.Image, fill: RGB, bits: int) -> Image.Image:
    """Keeps the upper `bits` bits."""
    return _point(image, _LEVELS >> 8 - bits << 8 - bits)


def _solarize(image: Image.Image, fill: RGB, threshold: int) -> Image.Image:
    """v -> 255 - v from `threshold` on."""
    return _point(image, np.where(threshold > _LEVELS, _LEVELS, 255 - _LEVELS))


def _autocontrast(image: Image.Image, fill: RGB) -> Image.Image:
    """Per channel, from its least and greatest level: v -> 255 (v - low) div (high - low); unchanged if they agree."""
    tables = []
    for band in _histograms(image):
        low, high = np.flatnonzero(band)[[0, -1]]
        tables.append(_LEVELS if low == high else 255 * (_LEVELS - low) // (high - low))
    return _point(image, np.concatenate(tables))


def _equalize(image: Image.Image, fill: RGB) -> Image.Image:
    """Per channel, from its histogram h: v -> min(255, (step div 2 + h[0] + ... + h[v - 1]) div step).

    step = (number of pixels - h[greatest level]) div 255; unchanged if step is 0.
    """
    tables = []
    for band in _histograms(image):
        step = int(band.sum() - band[np.flatnonzero(band)[-1]]) // 255
        below = np.cumsum(band) - band
        tables.append((step // 2 + below) // step if step else _LEVELS)
    return _point(image, np.concatenate(tables))


_OPS: dict[str, Callable[..., Image.Image]] = {
    "identity": _identity,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
    "rotate": _rotate,
    "brightness": _brightness,
    "color": _color,
    "contrast": _contrast,
    "sharpness": _sharpness,
    "posterize": _posterize,
    "solarize": _solarize,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
}

OP_ARITY = {name: op.__code__.co_argcount - 2 for name, op in _OPS.items()}
"""Operation -> how many integers it takes."""


def mixup(own: npt.NDArray[np.uint8], partner: npt.NDArray[np.uint8], weight: int) -> npt.NDArray[np.uint8]:
    """(weight * own + (256 - weight) * partner + 128) >> 8, uint8 (S, S, 3)."""
    total = own.astype(np.uint16) * np.uint16(weight)
    total += partner.astype(np.uint16) * np.uint16(256 - weight)
    total += np.uint16(128)
    total >>= np.uint16(8)
    return total.astype(np.uint8)


def cutmix(
    own: npt.NDArray[np.uint8], partner: npt.NDArray[np.uint8], rect: tuple[int, int, int, int]
) -> npt.NDArray[np.uint8]:
    """`own` with the partner's pixels inside `rect` (left, top, width, height), uint8 (S, S, 3)."""
    left, top, width, height = rect
    mixed = own.copy()
    mixed[top : top + height, left : left + width] = partner[top : top + height, left : left + width]
    return mixed


def _affine(image: Image.Image, fill: RGB, numerators: Sequence[int], denominator: int) -> Image.Image:
    """Bilinear, rounded down; `fill` outside 0 <= x < width, 0 <= y < height; border pixels repeat just inside."""
    data = tuple(n / denominator for n in numerators)
    return image.transform(image.size, Image.Transform.AFFINE, data, resample=_BILINEAR, fillcolor=fill)


def _shifted(image: Image.Image, fill: RGB, offset: tuple[int, int]) -> Image.Image:
    shifted = Image.new("RGB", image.size, fill)
    shifted.paste(image, offset)
    return shifted


def _histograms(image: Image.Image) -> npt.NDArray[np.int64]:
    """Pixels per channel and level, (3, 256)."""
    return np.asarray(image.histogram(), dtype=np.int64).reshape(3, 256)


def _point(image: Image.Image, table: npt.NDArray[np.int64]) -> Image.Image:
    """Levels looked up in 256 entries for all channels or 3 x 256, clipped to 0..255."""
    clipped = table.clip(0, 255).tolist()
    return image.point(clipped if len(clipped) == 768 else clipped * 3)
