"""The classes of a map's pixels, as a picture and as shares.

N = h * w cells, C = classes, S = side of a view, L = side of its picture (S, at most 224 px)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reinforce.pages import MAX_SIDE_PX, paint_classes
from reinforce.store import MapShape
from reinforce.store.shapes import upsample

_BLOCK_VALUES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ClassMap:
    """What the teacher finds most likely at the pixels of a view's picture."""

    classes: NDArray[np.int64]
    """(L, L)."""
    valid: NDArray[np.bool_]
    """(L, L), False where the view shows no image; all True where that is not known."""
    num_classes: int

    @classmethod
    def of(cls, map_NC: NDArray[np.float32], shape: MapShape, valid_SS: NDArray[np.bool_] | None) -> ClassMap:
        places_L = picture_places(shape.size_px)
        classes_LL = likely_classes(map_NC, shape, places_L)
        valid_LL = np.ones(classes_LL.shape, np.bool_) if valid_SS is None else valid_SS[np.ix_(places_L, places_L)]
        return cls(classes=classes_LL, valid=valid_LL, num_classes=shape.num_channels)

    def count(self) -> NDArray[np.int64]:
        """(C,) valid pixels of each class."""
        return np.bincount(self.classes[self.valid], minlength=self.num_classes)

    def painted(self, colours_C3: NDArray[np.uint8], view_SS3: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
        """uint8 (L, L, 3): the classes' colours, over the view where it is known."""
        under = None if view_SS3 is None else np.array(Image.fromarray(view_SS3).resize(self.classes.shape))
        return paint_classes(self.classes, colours_C3, under_HW3=under, valid_HW=self.valid)


def picture_places(size_px: int) -> NDArray[np.int64]:
    """(L,) rows (and columns) of the view that its picture's pixels stand for: all, or the nearest to their centres."""
    side = min(size_px, MAX_SIDE_PX)
    return (2 * np.arange(side) + 1) * size_px // (2 * side)


def likely_classes(map_NC: NDArray[np.float32], shape: MapShape, places_L: NDArray[np.int64]) -> NDArray[np.int64]:
    """(L, L) arg-max of a map upsampled to the view, at some of its pixels; a block of classes at a time."""
    map_hwC = map_NC.reshape(shape.height, shape.width, shape.num_channels)
    block = max(1, _BLOCK_VALUES // len(places_L) ** 2)
    best_LL = np.full((len(places_L), len(places_L)), -np.inf, np.float32)
    classes_LL = np.zeros(best_LL.shape, np.int64)
    for start in range(0, shape.num_channels, block):
        logits_LLB = upsample(map_hwC[..., start : start + block], shape.size_px, places_L)
        top_LL, classes_top_LL = logits_LLB.max(axis=2), start + logits_LLB.argmax(axis=2)
        classes_LL = np.where(top_LL > best_LL, classes_top_LL, classes_LL)
        best_LL = np.maximum(best_LL, top_LL)
    return classes_LL
