"""DINO policy, key and view index -> what happens to the pixels, and doing it.

Words are drawn as `reinforce.views.words` says; every parameter has one of its own, whether it is used or not:

    word        parameter
    4a + 0..3   crop attempt a = 0..9: area, ratio, left, top, as in `reinforce.views.params`
    40          flip
    41, 42      colour jitter or not, order
    43..46      factors of brightness, contrast and saturation, which hue
    47          greyscale
    48, 49      blur or not, radius
    50          solarise

Stages, in this order: decode, crop, flip, the four jitters, grey, blur, solarize. The order of the jitters is the n-th,
in lexicographic order, of the 24 permutations of (brightness, contrast, saturation, hue). Blurs over 4 px are done in
steps of 4 px and what is left: the variance of binomial filters adds up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from PIL import Image

from reinforce.views import dense_ops, ops
from reinforce.views.dino_policy import DinoPolicy
from reinforce.views.ops import RGB
from reinforce.views.params import draw_crop
from reinforce.views.placement import Placement, Rect
from reinforce.views.policy import MAX_CROP_ATTEMPTS
from reinforce.views.words import MAX_VIEW, below, between, draw_words, event

NUM_WORDS = 51

FLIP_WORD = 40
JITTER_WORD = 41
ORDER_WORD = 42
BRIGHTNESS_WORD = 43
CONTRAST_WORD = 44
SATURATION_WORD = 45
HUE_WORD = 46
GREY_WORD = 47
BLUR_WORD = 48
SOLARIZE_WORD = 50

ORDERS = tuple(permutations(range(4)))
SOLARIZE_FROM = 128
BLUR_STEP_PX = 4

DinoOp = tuple[str, *tuple[int, ...]]
"""Name and integer arguments: of `reinforce.views.dense_ops`, "grey" or "solarize"."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DinoParams:
    """What is done to one sample's working image, in this order."""

    crop: Rect
    """Box of the working image that is resized to the crop."""
    flip: bool
    ops: tuple[DinoOp, ...]

    @property
    def erase(self) -> None:
        """Nothing of a crop is erased."""
        return None

    @property
    def mix(self) -> None:
        """Crops are never mixed with another row's."""
        return None

    def unmixed(self) -> DinoParams:
        return self

    def to_json(self) -> dict[str, Any]:
        """Plain lists, as in the test vectors."""
        return {"crop": list(self.crop), "flip": self.flip, "ops": [list(op) for op in self.ops]}

    def stages(self, image: Image.Image, size_px: int, fill: RGB) -> Iterator[tuple[str, Image.Image]]:
        """(stage, image after it) of all stages after "decode", done to a working image."""
        view = ops.resize_crop(image, self.crop, size_px)
        yield "crop", view
        if self.flip:
            view = ops.flip(view)
            yield "flip", view
        for op in self.ops:
            view = _applied(view, op, fill)
            yield op[0], view

    def placement(self, size_px: int) -> Placement:
        """Where the view's pixels come from."""
        return Placement(size_px=size_px, box=self.crop, content=(0, 0, size_px, size_px), flip=self.flip, rotate=None)


def dino_params(policy: DinoPolicy, key: str, view: int, image_size: tuple[int, int]) -> DinoParams:
    """Parameters of view `view` (0..2^32 - 1) of the sample `key`.

    `image_size` is the working image's (width, height) in px. Raises ValueError for a view out of range.
    """
    if not 0 <= view <= MAX_VIEW:
        raise ValueError(f"view {view} is out of range")
    words = draw_words(policy.seed, key, view, NUM_WORDS)
    return DinoParams(
        crop=draw_crop(words, image_size, MAX_CROP_ATTEMPTS, policy.crop_scale_q32, policy.crop_ratios_q16),
        flip=event(words[FLIP_WORD], policy.flip_q32),
        ops=tuple(_ops(policy, words)),
    )


def _ops(policy: DinoPolicy, words: Sequence[int]) -> Iterator[DinoOp]:
    if event(words[JITTER_WORD], policy.jitter_q32):
        jitters = _jitters(policy, words)
        yield from (jitters[place] for place in ORDERS[below(words[ORDER_WORD], len(ORDERS))])
    if event(words[GREY_WORD], policy.grey_q32):
        yield ("grey",)
    if event(words[BLUR_WORD], policy.blur_q32):
        yield from _blurs(policy.blurs_px[below(words[BLUR_WORD + 1], len(policy.blurs_px))])
    if event(words[SOLARIZE_WORD], policy.solarize_q32):
        yield "solarize", SOLARIZE_FROM


def _jitters(policy: DinoPolicy, words: Sequence[int]) -> tuple[DinoOp, ...]:
    return (
        ("brightness", between(words[BRIGHTNESS_WORD], policy.brightness_q8)),
        ("contrast", between(words[CONTRAST_WORD], policy.contrast_q8)),
        ("saturation", between(words[SATURATION_WORD], policy.saturation_q8)),
        ("hue", *policy.hues_q12[below(words[HUE_WORD], len(policy.hues_q12))]),
    )


def _blurs(radius_px: int) -> Iterator[DinoOp]:
    while radius_px > 0:
        yield "blur", min(radius_px, BLUR_STEP_PX)
        radius_px -= BLUR_STEP_PX


def _applied(image: Image.Image, op: DinoOp, fill: RGB) -> Image.Image:
    if op[0] == "grey":
        return dense_ops.apply_dense_op(image, ("saturation", 0))
    if op[0] == "solarize":
        return ops.apply_op(image, op, fill)
    return dense_ops.apply_dense_op(image, op)
