"""Pixels -> data URIs that keep a page small. S = the view's side, px."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_SIDE_PX = 224
JPEG_QUALITIES = (92, 85, 75, 60, 40)


def data_uri(pixels_SS3: NDArray[np.uint8], max_bytes: int) -> str:
    """`data:image/...` of a uint8 (S, S, 3) picture: PNG if it fits `max_bytes`, else the finest JPEG that does.

    Pictures over 224 px are scaled down; one that fits in no quality is halved until it does.
    """
    image = Image.fromarray(pixels_SS3)
    image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.LANCZOS)
    while True:
        for kind, quality in (("png", 0), *(("jpeg", quality) for quality in JPEG_QUALITIES)):
            data = _encode(image, kind, quality)
            if len(data) <= max_bytes or image.width == 1:
                return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        image = image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.LANCZOS)


def _encode(image: Image.Image, kind: str, quality: int) -> bytes:
    buffer = io.BytesIO()
    if kind == "png":
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=quality, optimize=True)
    return buffer.getvalue()
