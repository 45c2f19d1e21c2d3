"""File bytes -> RGB working image, by one rule that belongs to the policy version.

1. The format is what the first bytes say: JPEG, PNG, WebP, GIF, BMP, TIFF or PNM (P1-P6). The first picture counts.
2. k = the largest power of two that is at most shorter side div (4 size_px), or 1.
3. JPEGs that are not progressive are decoded at 1/d, d = min(k, 8), by libjpeg's scaled inverse DCT, to ceil(side / d);
   others at d = 1. Images with more than max_pixels of width * height div d^2 are refused before anything is decoded.
4. RGB: 16- and 32-bit grey -> level >> 8; grey, palette, CMYK -> RGB; anything with alpha or a transparent
   colour is laid over white. Float and Lab samples are refused. Colour profiles are ignored.
5. Blocks of (k/d)^2 pixels become their mean, rounded half up; what is left over at the right and bottom is dropped.
6. The EXIF orientation (or XMP's, where EXIF has none) is applied.
"""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
    features,
)

from reinforce.errors import UndecodableImageError, UsageError
from reinforce.views.policies import Policy

BAND_PIXELS = 1 << 22
"""Larger images are turned into RGB and reduced in bands of rows, which gives the same pixels in less memory."""

_SUFFIXES = {"JPEG": "jpg", "PNG": "png", "WebP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif", "PNM": "ppm"}

# Pillow's classes are opened directly: Image.open would apply its own pixel limit, which only a global switches off.
_FORMATS: tuple[tuple[str, re.Pattern[bytes], Callable[[io.BytesIO], ImageFile.ImageFile], str], ...] = (
    ("JPEG", re.compile(rb"\xff\xd8\xff"), JpegImagePlugin.JpegImageFile, "jpg"),
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile, "zlib"),
    ("WebP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL), WebPImagePlugin.WebPImageFile, "webp"),
    ("GIF", re.compile(rb"GIF8[79]a"), GifImagePlugin.GifImageFile, "pil"),
    ("BMP", re.compile(rb"BM"), BmpImagePlugin.BmpImageFile, "pil"),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]"), TiffImagePlugin.TiffImageFile, "libtiff"),
    ("PNM", re.compile(rb"P[1-6][\s#]"), PpmImagePlugin.PpmImageFile, "pil"),
)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = range(5, 9)
_RGB_MODES = {"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"}


def decode_image(data: bytes, policy: Policy) -> Image.Image:
    """The RGB working image of an encoded image, all in memory, from which `policy` cuts its views.

    Raises as `decode_sized`.
    """
    return decode_sized(data, policy)[0]


def decode_sized(data: bytes, policy: Policy) -> tuple[Image.Image, tuple[int, int]]:
    """The RGB working image and the (width, height) in px that the image has after rule 6 without rules 3 and 5.

    Raises UndecodableImageError, its text being the reason to list, for anything that is not such an image, and
    UsageError where Pillow is set or built such that the rule cannot hold.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise UsageError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, truncated images must be refused: set it to False")
    kind, opener = _recognize(data)
    try:
        with _warnings_ignored():
            return _working_image(opener(io.BytesIO(data)), policy)
    except (UndecodableImageError, MemoryError):  # too little memory says nothing about the image
        raise
    except Exception as error:  # parsers of broken files raise nearly everything
        reason = re.sub(r"\s*<[^>]*>|\s+", " ", str(error)).strip() or type(error).__name__
        raise UndecodableImageError(f"broken {kind}: {reason}") from error


def reduction_factor(width: int, height: int, size_px: int) -> int:
    """k of rule 2: the image is decoded and reduced to 1/k, which leaves a shorter side of at least 4 `size_px`."""
    return 1 << max(1, min(width, height) // (4 * size_px)).bit_length() - 1


def image_kind(data: bytes) -> str:
    """JPEG, PNG, WebP, GIF, BMP, TIFF or PNM, by the first bytes. Raises UndecodableImageError for anything else."""
    return _recognize(data)[0]


def image_suffix(data: bytes) -> str:
    """By which a file of these bytes is known as an image, such as "jpg". Raises UndecodableImageError."""
    return _SUFFIXES[image_kind(data)]


def _recognize(data: bytes) -> tuple[str, Callable[[io.BytesIO], ImageFile.ImageFile]]:
    if not data:
        raise UndecodableImageError("the file is empty")
    for kind, signature, opener, feature in _FORMATS:
        if signature.match(data):
            if not _is_built(feature):
                raise UsageError(f"this Pillow cannot read {kind}: type pip install --force-reinstall pillow")
            return kind, opener
    raise UndecodableImageError("unknown format: not a JPEG, PNG, WebP, GIF, BMP, TIFF or PNM")


@cache
def _is_built(feature: str) -> bool:
    return bool(features.check(feature))


def _working_image(image: ImageFile.ImageFile, policy: Policy) -> tuple[Image.Image, tuple[int, int]]:
    width, height = image.size
    factor = reduction_factor(width, height, policy.working_px)
    # a progressive JPEG's coefficients are all held at full size, whatever the scale: it is decoded in full
    is_scaled = isinstance(image, JpegImagePlugin.JpegImageFile) and "progressive" not in image.info
    scale = min(factor, 8) if is_scaled else 1
    if width < 1 or height < 1:
        raise UndecodableImageError(f"{width}x{height} px holds no pixel")
    if width * height // (scale * scale) > policy.max_pixels:
        raise UndecodableImageError(f"{width}x{height} px is over the limit of {_pixel_count(policy.max_pixels)}")
    if scale > 1:
        # Pillow takes the largest of 1, 2, 4, 8 up to side // asked side, which lies in [scale, 2 scale) here
        image.draft(None, (width // scale, height // scale))
    image.load()
    working = _reduced_rgb(image, factor // scale)
    orientation = _orientation(image)
    turn = _TURNS.get(orientation)
    upright = working if turn is None else working.transpose(turn)
    return upright, (height, width) if orientation in _SIDEWAYS else (width, height)


def _pixel_count(pixels: int) -> str:
    return f"{pixels // 10**6} megapixels" if pixels >= 10**6 else f"{pixels} px"


def _reduced_rgb(image: Image.Image, factor: int) -> Image.Image:
    """RGB by rule 4 and block means by rule 5."""
    width, height = image.width // factor * factor, image.height // factor * factor
    band_rows = max(1, BAND_PIXELS // (image.width * factor)) * factor
    if height <= band_rows:
        return _block_means(_to_rgb(image), factor)
    reduced = Image.new("RGB", (width // factor, height // factor))
    for top in range(0, height, band_rows):
        band = image.crop((0, top, width, min(height, top + band_rows)))
        reduced.paste(_block_means(_to_rgb(band), factor), (0, top // factor))
    return reduced


def _block_means(image: Image.Image, factor: int) -> Image.Image:
    if factor == 1:
        return image
    box = (0, 0, image.width // factor * factor, image.height // factor * factor)
    return image.reduce(factor, box)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return _grey_to_rgb(image)
    if image.mode == "F":
        raise UndecodableImageError("float samples have no fixed range: convert it to 8 bit")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(rgba, mask=rgba)  # exactly round((c * a + 255 * (255 - a)) / 255)
        return white
    if image.mode not in _RGB_MODES:
        raise UndecodableImageError(f"colour mode {image.mode} has no exact conversion: convert it to RGB")
    rgb = image.convert("RGB")
    rgb.info = {}
    return rgb


def _grey_to_rgb(image: Image.Image) -> Image.Image:
    """16- or 32-bit grey; its transparent level, if there is one, becomes white like any transparent pixel."""
    levels = np.asarray(image)
    grey = np.clip(levels >> 8, 0, 255).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[levels == transparent] = 255
    return Image.fromarray(grey).convert("RGB")


def _orientation(image: ImageFile.ImageFile) -> int:
    try:
        orientation = image.getexif().get(0x0112, 1)  # Pillow turns TIFFs by itself and then says 1
    except Exception:  # broken metadata is no reason to lose an image
        return 1
    return orientation if isinstance(orientation, int) else 1


_quiet_lock = threading.Lock()
_quiet_depth = 0
_quiet_scope = warnings.catch_warnings()


@contextmanager
def _warnings_ignored() -> Iterator[None]:
    """Like `warnings.catch_warnings`, but the filters are also put back when several threads overlap."""
    global _quiet_depth, _quiet_scope  # noqa: PLW0603 - the filters are global too
    with _quiet_lock:
        if _quiet_depth == 0:
            _quiet_scope = warnings.catch_warnings()
            _quiet_scope.__enter__()
            warnings.simplefilter("ignore")
        _quiet_depth += 1
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            if _quiet_depth == 0:
                _quiet_scope.__exit__(None, None, None)
