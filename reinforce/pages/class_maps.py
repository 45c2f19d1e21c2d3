"""Classes of pixels -> a picture, over the image that they are said of.

H, W = sides of the picture in px, C = classes
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from reinforce.pages.palette import PADDING_RGB

OPACITY = 0.62
"""Of the classes' colours over the image."""
DARKEST = 90
"""Grey level of the image's black: an orange darkened further would be brown, another class's."""
HATCH_RGB = (74, 74, 74)
HATCH_PX = 6
_LUMA = (0.299, 0.587, 0.114)


def paint_classes(
    classes_HW: NDArray[np.integer],
    colours_C3: NDArray[np.uint8],
    *,
    under_HW3: NDArray[np.uint8] | None = None,
    valid_HW: NDArray[np.bool_] | None = None,
) -> NDArray[np.uint8]:
    """uint8 (H, W, 3): every pixel in its class's colour, blended over the grey levels of `under_HW3` if it is given.

    Grey, so that the colours stay the legend's. Pixels that are not valid are dark and hatched, whatever their class.
    """
    valid = np.ones(classes_HW.shape, np.bool_) if valid_HW is None else valid_HW
    painted = colours_C3[np.where(valid, classes_HW, 0)]
    if under_HW3 is not None:
        grey_HW1 = DARKEST + (1 - DARKEST / 255) * (under_HW3 @ np.array(_LUMA))[..., None]
        painted = np.rint(OPACITY * painted + (1 - OPACITY) * grey_HW1).astype(np.uint8)
    return np.where(valid[..., None], painted, _hatched(*classes_HW.shape))


def _hatched(height: int, width: int) -> NDArray[np.uint8]:
    """(H, W, 3) dark stripes from the lower left to the upper right."""
    rows, columns = np.indices((height, width))
    is_stripe = (rows + columns) % HATCH_PX < HATCH_PX // 3
    return np.where(is_stripe[..., None], HATCH_RGB, PADDING_RGB).astype(np.uint8)
