"""A mask's file -> the value of each pixel; and the size of the image that it must fit."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from reinforce.data.listing import header_size
from reinforce.errors import DataError

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_INDEX_MODES = {"1", "L", "P", "I", "I;16"}
_SCALED_LEVELS = {"L;2": 85, "L;4": 17}
"""Pillow spreads grey of 2 and 4 bits over 0..255; what is written there are the numbers divided by this."""

_TURNED = (5, 6, 7, 8)
_WITH_ORIENTATION = (
    (b"\xff\xd8\xff", JpegImagePlugin.JpegImageFile),
    (b"RIFF", WebPImagePlugin.WebPImageFile),
    (_PNG_SIGNATURE, PngImagePlugin.PngImageFile),
)
"""Formats whose header says another size than the image has once it is turned; Pillow turns TIFFs by itself."""

_PNG_METADATA = (b"eXIf", b"XML:com.adobe.xmp", b"Raw profile type")


def mask_values(data: bytes, where: object, image_size: tuple[int, int] | None = None) -> NDArray[Any]:
    """The integers that a PNG mask holds, (H, W): indices of a palette, not its colours; levels of grey.

    `image_size` (width, height) is checked before anything is decoded. Raises DataError naming the file `where`.
    """
    if not data.startswith(_PNG_SIGNATURE):
        raise DataError(f"{where} is not a PNG file: masks are PNG with one class id a pixel")
    try:
        image = PngImagePlugin.PngImageFile(io.BytesIO(data))
    except Exception as error:
        raise _unreadable(error, where) from error
    if image.mode not in _INDEX_MODES:
        raise DataError(f"{where} is {image.mode}, a mask holds one class id a pixel: look up each colour's id and "
                        "save Image.fromarray(ids_HW.astype('uint8')) as PNG")  # fmt: skip
    if image_size is not None and image.size != image_size:
        raise DataError(f"{where} is {image.width}x{image.height} px, its image {image_size[0]}x{image_size[1]} px: "
                        "write one mask pixel for each image pixel")  # fmt: skip
    divisor = _SCALED_LEVELS.get(str(image.tile[0][3]), 1) if image.tile else 1
    try:
        return np.asarray(image).astype(np.int32) // divisor
    except Exception as error:  # broken files raise nearly everything
        raise _unreadable(error, where) from error


def oriented_size(data: bytes) -> tuple[int, int]:
    """(width, height) in px after the EXIF orientation; (0, 0) for what is no image."""
    width, height = header_size(data)
    return (height, width) if width != height and _orientation(data) in _TURNED else (width, height)


def _orientation(data: bytes) -> object:
    opener = next((opener for signature, opener in _WITH_ORIENTATION if data.startswith(signature)), None)
    if opener is None:
        return 1
    if opener is PngImagePlugin.PngImageFile and not any(word in data for word in _PNG_METADATA):
        return 1  # Pillow would decode the whole image to look for more
    try:
        return opener(io.BytesIO(data)).getexif().get(0x0112, 1)
    except Exception:  # broken metadata is no reason to lose an image
        return 1


def _unreadable(error: Exception, where: object) -> DataError:
    reason = re.sub(r"\s*<[^>]*>|\s+", " ", str(error)).strip() or type(error).__name__
    return DataError(f"{where} cannot be read as a PNG ({reason}): write it again")
