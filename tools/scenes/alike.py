"""Whether two pictures show the same thing: by their thumbnails, so that what is nearly a copy is found, too."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

THUMB_PX = 8
NEAR_LEVELS = 7.0
"""Mean difference of two objects' thumbnails, in levels, up to which they are the same object."""

Thumb = NDArray[np.float32]


def is_new(picture: Image.Image, thumbs: list[Thumb]) -> bool:
    """Whether an RGBA picture differs from all before and their mirror images, which it joins."""
    small = np.asarray(picture.resize((THUMB_PX, THUMB_PX), Image.Resampling.BOX), dtype=np.float32)
    alpha = small[..., 3:] / 255
    over_grey: Thumb = (small[..., :3] * alpha + 128 * (1 - alpha)).astype(np.float32)
    if any(np.abs(over_grey - other).mean() < NEAR_LEVELS for other in thumbs):
        return False
    thumbs += [over_grey, over_grey[:, ::-1]]
    return True
