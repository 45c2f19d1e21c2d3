"""Policy, key and view index -> what happens to the pixels.

Every parameter has a word of its own, whether it is used or not, so no draw moves another:

    word            parameter
    4a + 0..3       crop attempt a = 0..9: area, ratio, left, top
    40              flip
    41              erase or not
    42              mix: MixUp below mixup_q32, CutMix in the next cutmix_q32, else none
    43, 44          mixing partner, lambda
    45, 46          CutMix centre x, y
    47              reserved
    48 + 2j, +1     operation j = 0..7: which, sign
    64 + 4a + 0..3  erase attempt a = 0..9: area, ratio, left, top

How words are drawn and read is said in `reinforce.views.words`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isqrt
from typing import Any, Literal

from PIL import Image

from reinforce.views import ops
from reinforce.views.ops import RGB
from reinforce.views.placement import Placement, Rect
from reinforce.views.policy import ViewPolicy
from reinforce.views.words import MAX_VIEW, below, draw_words, event

NUM_WORDS = 104
ERASE_ATTEMPTS = 10

FLIP_WORD = 40
ERASE_WORD = 41
MIX_WORD = 42
PARTNER_WORD = 43
LAMBDA_WORD = 44
CUTMIX_X_WORD = 45
CUTMIX_Y_WORD = 46
OPS_WORD = 48
ERASE_ATTEMPTS_WORD = 64

Op = tuple[str, *tuple[int, ...]]
"""Name and integer arguments of one operation of `reinforce.views.ops`."""
Mix = tuple[Literal["mixup"], int, int] | tuple[Literal["cutmix"], int, Rect]
"""("mixup", partner row, weight of the own image in 1/256) or ("cutmix", partner row, rectangle the partner fills)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ViewParams:
    """What is done to one sample's working image, in this order."""

    crop: Rect
    """Box of the working image (after decoding, reduction and rotation) that is resized to the view."""
    flip: bool
    ops: tuple[Op, ...]
    erase: Rect | None
    """Rectangle of the view that is filled."""
    mix: Mix | None
    """Mixing with another row's finished view of the same view index; rows are counted in the unit."""

    def to_json(self) -> dict[str, Any]:
        """Plain lists, as in the test vectors."""
        mix = None if self.mix is None else [list(part) if isinstance(part, tuple) else part for part in self.mix]
        return {
            "crop": list(self.crop),
            "flip": self.flip,
            "ops": [list(op) for op in self.ops],
            "erase": None if self.erase is None else list(self.erase),
            "mix": mix,
        }

    def unmixed(self) -> ViewParams:
        """The same without the other row."""
        return self if self.mix is None else replace(self, mix=None)

    def stages(self, image: Image.Image, size_px: int, fill: RGB) -> Iterator[tuple[str, Image.Image]]:
        """(stage, image after it) of all stages between "decode" and mixing, done to a working image."""
        view = ops.resize_crop(image, self.crop, size_px)
        yield "crop", view
        if self.flip:
            view = ops.flip(view)
            yield "flip", view
        for number, op in enumerate(self.ops, start=1):
            view = ops.apply_op(view, op, fill)
            yield f"op{number}:{op[0]}", view
        if self.erase is not None:
            yield "erase", ops.erase(view, self.erase, fill)

    def placement(self, size_px: int) -> Placement:
        """Where the view's pixels come from, as far as crop and flip decide it."""
        return Placement(size_px=size_px, box=self.crop, content=(0, 0, size_px, size_px), flip=self.flip, rotate=None)


def view_params(
    policy: ViewPolicy, key: str, view: int, image_size: tuple[int, int], num_rows: int, row: int
) -> ViewParams:
    """Parameters of view `view` (0..2^32 - 1) of the sample `key`, the `row`-th of `num_rows` in its unit.

    `image_size` is the working image's (width, height) in px. Raises ValueError for a view or row out of range.
    """
    if not (0 <= view <= MAX_VIEW and 0 <= row < num_rows):
        raise ValueError(f"view {view} or row {row} of {num_rows} is out of range")
    words = draw_words(policy.seed, key, view, NUM_WORDS)
    return ViewParams(
        crop=draw_crop(words, image_size, policy.crop_attempts, policy.crop_scale_q32, policy.crop_ratios_q16),
        flip=event(words[FLIP_WORD], policy.flip_q32),
        ops=_ops(policy, words),
        erase=_erase(policy, words),
        mix=_mix(policy, words, num_rows, row),
    )


def _rectangle(
    words: Sequence[int], area_px: int, scale_q32: tuple[int, int], ratios_q16: tuple[int, ...]
) -> tuple[int, int]:
    """Width and height of one attempt: a share of `area_px` at a ratio, both rounded down."""
    low, high = scale_q32
    share_px = area_px * (low + below(words[0], high - low + 1)) >> 32
    ratio = ratios_q16[below(words[1], len(ratios_q16))]
    return isqrt(share_px * ratio >> 16), isqrt((share_px << 16) // ratio)


def draw_crop(
    words: Sequence[int],
    image_size: tuple[int, int],
    attempts: int,
    scale_q32: tuple[int, int],
    ratios_q16: tuple[int, ...],
) -> Rect:
    """The first attempt's box that lies inside the image, four words each; else the largest central one."""
    image_width, image_height = image_size
    for attempt in range(attempts):
        own = words[4 * attempt : 4 * attempt + 4]
        width, height = _rectangle(own, image_width * image_height, scale_q32, ratios_q16)
        if 0 < width <= image_width and 0 < height <= image_height:
            return below(own[2], image_width - width + 1), below(own[3], image_height - height + 1), width, height
    return _central_crop(image_width, image_height, ratios_q16[0], ratios_q16[-1])


def _central_crop(image_width: int, image_height: int, lowest_q16: int, highest_q16: int) -> Rect:
    """The largest central box whose width / height lies in the bounds."""
    width, height = image_width, image_height
    if image_width << 16 < lowest_q16 * image_height:
        height = min(image_height, max(1, (image_width << 16) // lowest_q16))
    elif image_width << 16 > highest_q16 * image_height:
        width = min(image_width, max(1, image_height * highest_q16 >> 16))
    return (image_width - width) // 2, (image_height - height) // 2, width, height


def _ops(policy: ViewPolicy, words: Sequence[int]) -> tuple[Op, ...]:
    drawn: list[Op] = []
    for slot in range(OPS_WORD, OPS_WORD + 2 * policy.num_ops, 2):
        op = policy.ops[below(words[slot], len(policy.ops))]
        drawn.append((op.name, *(op.minus if below(words[slot + 1], 2) else op.plus)))
    return tuple(drawn)


def _erase(policy: ViewPolicy, words: Sequence[int]) -> Rect | None:
    if not event(words[ERASE_WORD], policy.erase_q32):
        return None
    side = policy.size_px
    for slot in range(ERASE_ATTEMPTS_WORD, ERASE_ATTEMPTS_WORD + 4 * ERASE_ATTEMPTS, 4):
        own = words[slot : slot + 4]
        width, height = _rectangle(own, side * side, policy.erase_scale_q32, policy.erase_ratios_q16)
        if 0 < width < side and 0 < height < side:
            return below(own[2], side - width + 1), below(own[3], side - height + 1), width, height
    return None


def _mix(policy: ViewPolicy, words: Sequence[int], num_rows: int, row: int) -> Mix | None:
    """None also where the draw changes nothing: no other row, a weight of 256, an empty rectangle."""
    draw = words[MIX_WORD] >> 32
    if num_rows == 1 or draw >= policy.mixup_q32 + policy.cutmix_q32:
        return None
    partner = (row + 1 + below(words[PARTNER_WORD], num_rows - 1)) % num_rows
    if draw < policy.mixup_q32:
        weight = policy.mixup_lambdas[below(words[LAMBDA_WORD], len(policy.mixup_lambdas))]
        return None if weight == 256 else ("mixup", partner, weight)
    share = policy.cutmix_lambdas[below(words[LAMBDA_WORD], len(policy.cutmix_lambdas))]
    rect = _cutmix_rectangle(policy.size_px, share, words[CUTMIX_X_WORD], words[CUTMIX_Y_WORD])
    return None if rect is None else ("cutmix", partner, rect)


def _cutmix_rectangle(side: int, share: int, word_x: int, word_y: int) -> Rect | None:
    """A square of (256 - share) / 256 of the area around a centre drawn anywhere, cut off at the view's border."""
    cut = isqrt(side * side * (256 - share) >> 8)
    left, top = below(word_x, side) - cut // 2, below(word_y, side) - cut // 2
    right, bottom = min(side, left + cut), min(side, top + cut)
    left, top = max(0, left), max(0, top)
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None
