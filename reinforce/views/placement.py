"""Where the pixels of a view come from: which of them are the image's, and a mask moved as the image was.

Shapes: S = side of the view, H x W = the original image, both in px. All in integers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IGNORE = 255
"""The class id of pixels that count for nothing."""

Rect = tuple[int, int, int, int]
"""left, top, width, height in px."""
Indices = npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """`box` of the working image is resized into `content` of the view, flipped there, and the view is rotated."""

    size_px: int
    box: Rect
    """Of the working image."""
    content: Rect
    """Of the view, before rotation; the rest is padding."""
    flip: bool
    rotate: tuple[int, int] | None
    """(cos, sin) in q16, with the meaning of the operation "rotate"."""

    def valid(self) -> npt.NDArray[np.bool_]:
        """(S, S), True where the pixel is the image's: the content's own all-True mask, moved by nearest sampling.

        The bilinear rotation of the image blends up to half of the padding's colour into valid pixels at its border.
        """
        left, top, width, height = self.content
        valid = np.zeros((self.size_px, self.size_px), dtype=np.bool_)
        valid[top : top + height, left : left + width] = True
        if self.rotate is None:
            return valid
        columns, rows, covered = _rotated_from(self.size_px, *self.rotate)
        return valid[rows, columns] & covered

    def labels(self, working_size: tuple[int, int], mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The mask (H, W) of the original image, moved as the image was: uint8 (S, S), 255 where it is not valid.

        `working_size` is the working image's (width, height). Every pixel takes the class at its own centre.
        """
        height, width = mask.shape
        left, top, inner_width, inner_height = self.content
        xs = _sources(self.box[0], self.box[2], inner_width, width, working_size[0])
        ys = _sources(self.box[1], self.box[3], inner_height, height, working_size[1])
        moved = np.full((self.size_px, self.size_px), IGNORE, dtype=np.uint8)
        inside = mask[ys[:, None], xs[::-1] if self.flip else xs]
        moved[top : top + inner_height, left : left + inner_width] = inside
        if self.rotate is None:
            return moved
        columns, rows, covered = _rotated_from(self.size_px, *self.rotate)
        return np.where(covered, moved[rows, columns], np.uint8(IGNORE))


def _sources(start: int, length: int, new_length: int, num_original: int, num_working: int) -> npt.NDArray[np.int64]:
    """For every pixel of one axis of the content, the pixel of the original under its centre.

    Content pixel j has its centre at x = start + (j + 1/2) * length / new_length of the working image, that is at
    x * num_original / num_working of the original, rounded down. Python's integers, as products may need 70 bits.
    """
    denominator = 2 * new_length * num_working
    centers = range(2 * new_length * start + length, 2 * new_length * (start + length), 2 * length)
    return np.array([center * num_original // denominator for center in centers], dtype=np.int64)


def _rotated_from(size_px: int, cos_q16: int, sin_q16: int) -> tuple[Indices, Indices, npt.NDArray[np.bool_]]:
    """For every pixel of the rotated view: column and row it samples, and whether that is inside the view.

    Columns and rows are clipped to the view. With X = 2 column + 1 - S, Y = 2 row + 1 - S (twice the distance from the
    centre) they are (cos X + sin Y + 2^16 S) >> 17 and (-sin X + cos Y + 2^16 S) >> 17, which int32 holds to S = 4096.
    """
    offsets = np.arange(1 - size_px, size_px, 2, dtype=np.int32)
    center = size_px << 16
    columns = (cos_q16 * offsets + center) + (sin_q16 * offsets)[:, None] >> 17
    rows = (-sin_q16 * offsets + center) + (cos_q16 * offsets)[:, None] >> 17
    covered = (columns >= 0) & (columns < size_px) & (rows >= 0) & (rows < size_px)
    return columns.clip(0, size_px - 1), rows.clip(0, size_px - 1), covered
