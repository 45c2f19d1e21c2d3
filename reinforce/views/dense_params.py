"""Dense policy, key and view index -> what happens to the pixels, and doing it.

Words are drawn as `reinforce.views.words` says; every parameter has one of its own, whether it is used or not:

    word    parameter
    0       length of the shorter side
    1, 2    left, top of the window
    3       flip
    4       contrast before saturation and hue, or after
    5, 6    brightness or not, factor
    7, 8    contrast or not, factor
    9, 10   saturation or not, factor
    11, 12  hue or not, which
    13, 14  blur or not, radius
    15..17  noise or not, factor, field
    18, 19  rotation or not, which

Stages, in this order: decode, crop, flip, brightness, contrast, saturation, hue, contrast, blur, noise, pad, rotate. A
stage that a view does not have is left out; contrast has one of its two places. All up to "pad" is done to the content
alone, so neither padding nor its colour has a part in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from reinforce.views import dense_ops, ops
from reinforce.views.dense_policy import DensePolicy
from reinforce.views.ops import RGB
from reinforce.views.placement import Placement, Rect
from reinforce.views.words import MAX_VIEW, below, between, draw_words, event

NUM_WORDS = 20
MAX_RESIZED_PX = (1 << 31) - 1
"""Longer sides end here, so that products fit in 64 bits."""

SHORT_SIDE_WORD = 0
LEFT_WORD = 1
TOP_WORD = 2
FLIP_WORD = 3
CONTRAST_FIRST_WORD = 4
BRIGHTNESS_WORD = 5
CONTRAST_WORD = 7
SATURATION_WORD = 9
HUE_WORD = 11
BLUR_WORD = 13
NOISE_WORD = 15
ROTATE_WORD = 18

DenseOp = tuple[str, *tuple[int, ...]]
"""Name and integer arguments of one operation of `reinforce.views.dense_ops`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DenseParams:
    """What is done to one sample's working image, in this order."""

    box: Rect
    """Of the working image: the part that the view shows."""
    content: Rect
    """Of the view, before it is rotated: where that part is; the rest is padding."""
    flip: bool
    """Of the content, inside its rectangle."""
    ops: tuple[DenseOp, ...]
    rotate: tuple[int, int] | None
    """(cos, sin) in q16."""

    @property
    def mix(self) -> None:
        """Dense views are never mixed with another row's."""
        return None

    def unmixed(self) -> DenseParams:
        return self

    def to_json(self) -> dict[str, Any]:
        """Plain lists, as in the test vectors."""
        return {
            "box": list(self.box),
            "content": list(self.content),
            "flip": self.flip,
            "ops": [list(op) for op in self.ops],
            "rotate": None if self.rotate is None else list(self.rotate),
        }

    def stages(self, image: Image.Image, size_px: int, fill: RGB) -> Iterator[tuple[str, Image.Image]]:
        """(stage, image after it) of all stages after "decode", done to a working image."""
        view = ops.resize_box(image, self.box, self.content[2:])
        yield "crop", view
        if self.flip:
            view = ops.flip(view)
            yield "flip", view
        for op in self.ops:
            view = dense_ops.apply_dense_op(view, op)
            yield op[0], view
        if self.content != (0, 0, size_px, size_px):
            view = dense_ops.pad(view, self.content, size_px, fill)
            yield "pad", view
        if self.rotate is not None:
            yield "rotate", ops.apply_op(view, ("rotate", *self.rotate), fill)

    def placement(self, size_px: int) -> Placement:
        """Where the view's pixels come from."""
        return Placement(size_px=size_px, box=self.box, content=self.content, flip=self.flip, rotate=self.rotate)


def dense_params(policy: DensePolicy, key: str, view: int, image_size: tuple[int, int]) -> DenseParams:
    """Parameters of view `view` (0..2^32 - 1) of the sample `key`.

    `image_size` is the working image's (width, height) in px. Raises ValueError for a view out of range.
    """
    if not 0 <= view <= MAX_VIEW:
        raise ValueError(f"view {view} is out of range")
    words = draw_words(policy.seed, key, view, NUM_WORDS)
    resized = _resized(policy, words[SHORT_SIDE_WORD], image_size)
    axes = [
        _axis(policy, word, old, new)
        for word, old, new in zip(words[LEFT_WORD : TOP_WORD + 1], image_size, resized, strict=True)
    ]
    (left, width, x, inner_width), (top, height, y, inner_height) = axes
    return DenseParams(
        box=(left, top, width, height),
        content=(x, y, inner_width, inner_height),
        flip=event(words[FLIP_WORD], policy.flip_q32),
        ops=tuple(_ops(policy, words)),
        rotate=_rotation(policy, words),
    )


def _resized(policy: DensePolicy, word: int, image_size: tuple[int, int]) -> list[int]:
    """Width and height of the image as resized, rounded half up.

    The shorter side gets a drawn length; without bounds to draw from, the longer side gets the view's.
    """
    length = between(word, policy.short_px) if policy.short_px else policy.size_px
    side = min(image_size) if policy.short_px else max(image_size)
    return [min(MAX_RESIZED_PX, max(1, (2 * old * length + side) // (2 * side))) for old in image_size]


def _axis(policy: DensePolicy, word: int, image_px: int, resized_px: int) -> tuple[int, int, int, int]:
    """One axis: start and length in the working image, start and length in the view.

    The window of `size_px` lies anywhere in the resized image or, if that is smaller, around it; centred for "whole".
    """
    side = policy.size_px
    spare = resized_px - side
    window = min(0, spare) + below(word, abs(spare) + 1) if policy.short_px else -(-spare // 2)
    first, last = max(0, window), min(resized_px, window + side)
    start = min(image_px - 1, _scaled(first, image_px, resized_px))
    end = max(start + 1, _scaled(last, image_px, resized_px))
    return start, end - start, first - window, last - first


def _scaled(place: int, image_px: int, resized_px: int) -> int:
    """place * image_px / resized_px, rounded half up."""
    return (2 * place * image_px + resized_px) // (2 * resized_px)


def _rotation(policy: DensePolicy, words: Sequence[int]) -> tuple[int, int] | None:
    if not event(words[ROTATE_WORD], policy.rotate_q32):
        return None
    return policy.rotations_q16[below(words[ROTATE_WORD + 1], len(policy.rotations_q16))]


def _ops(policy: DensePolicy, words: Sequence[int]) -> Iterator[DenseOp]:
    contrast = list(_factor("contrast", words[CONTRAST_WORD:], policy.distort_q32, policy.contrast_q8))
    contrast_first = below(words[CONTRAST_FIRST_WORD], 2) == 0
    yield from _factor("brightness", words[BRIGHTNESS_WORD:], policy.distort_q32, policy.brightness_q8)
    yield from contrast if contrast_first else []
    yield from _factor("saturation", words[SATURATION_WORD:], policy.distort_q32, policy.saturation_q8)
    if event(words[HUE_WORD], policy.distort_q32):
        yield "hue", *policy.hues_q12[below(words[HUE_WORD + 1], len(policy.hues_q12))]
    yield from [] if contrast_first else contrast
    yield from _factor("blur", words[BLUR_WORD:], policy.blur_q32, policy.blur_px)
    for name, scale in _factor("noise", words[NOISE_WORD:], policy.noise_q32, policy.noise_q16):
        yield name, scale, words[NOISE_WORD + 2] >> 32


def _factor(name: str, words: Sequence[int], chance_q32: int, bounds: tuple[int, ...]) -> Iterator[tuple[str, int]]:
    """One operation with one argument drawn evenly, or none."""
    if event(words[0], chance_q32):
        yield name, between(words[1], bounds)
