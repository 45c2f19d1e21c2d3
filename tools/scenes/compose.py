"""A scene: one to four objects over a background, and the class of every pixel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reinforce.data import IGNORE
from scenes.objects import FAINT, SOLID, Cutout

SIZES = {1: (0.50, 0.85), 2: (0.40, 0.65), 3: (0.35, 0.50), 4: (0.30, 0.45)}
"""Number of objects -> the range of an object's side, as a share of the scene's; the side of a square of its area."""

COUNT_WEIGHTS = {1: 0.30, 2: 0.35, 3: 0.20, 4: 0.15}
LONGEST_SHARE = 0.95
MAX_ANGLE_DEGREES = 20.0
OUTSIDE_SHARE = 0.15
"""By how much of its side an object may reach out of the scene."""

LEAST_VISIBLE = 0.65
"""Positions are drawn again until this much of every object can be seen, up to NUM_TRIES times; then the best is it."""

NUM_TRIES = 16

Mask = NDArray[np.uint8]
T = TypeVar("T")


@dataclass
class Canvas:
    """A scene in the making."""

    picture: Image.Image
    mask: Mask
    """Class ids, (H, W)."""
    owner: NDArray[np.int8]
    """(H, W): which object a pixel belongs to; -1 = none."""
    areas: list[int]
    """Of each object, in px, all of it in sight."""


def draw_casts(cutouts: Sequence[Cutout], num_scenes: int, random: Random) -> Iterator[list[Cutout]]:
    """The objects of each scene: every class equally often, and every object of a class."""
    by_class: dict[int, list[Cutout]] = {}
    for cutout in cutouts:
        by_class.setdefault(cutout.class_id, []).append(cutout)
    decks: Mapping[int, Iterator[Cutout]] = {
        class_id: _shuffled_forever(members, random) for class_id, members in by_class.items()
    }
    class_ids = _shuffled_forever(sorted(decks), random)
    for _ in range(num_scenes):
        [count] = random.choices(list(COUNT_WEIGHTS), list(COUNT_WEIGHTS.values()))
        yield [next(decks[next(class_ids)]) for _ in range(count)]


def compose(background: Image.Image, cast: Sequence[Cutout], random: Random) -> tuple[Image.Image, Mask]:
    """The scene, RGB, and class ids, uint8 (H, W): 0 = background, IGNORE where an object's edge is soft."""
    height, width = background.height, background.width
    canvas = Canvas(background, np.zeros((height, width), np.uint8), np.full((height, width), -1, np.int8), [])
    for cutout in cast:
        picture = _posed(cutout.picture, SIZES[len(cast)], background.width, random)
        _place(canvas, picture, cutout.class_id, random)
    return canvas.picture, canvas.mask


def _shuffled_forever(items: Sequence[T], random: Random) -> Iterator[T]:
    while True:
        deck = list(items)
        random.shuffle(deck)
        yield from deck


def _posed(picture: Image.Image, sizes: tuple[float, float], scene_px: int, random: Random) -> Image.Image:
    """Scaled, flipped, turned a bit and cropped to its box."""
    smallest, largest = sizes
    side = scene_px * (smallest + (largest - smallest) * random.random())
    scale = min(side / (picture.width * picture.height) ** 0.5, LONGEST_SHARE * scene_px / max(picture.size))
    is_flipped, angle = random.random() < 0.5, MAX_ANGLE_DEGREES * (2 * random.random() - 1)
    # turned before it is made small, so that its edges stay as sharp as they are
    turned = picture.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    turned = turned.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if is_flipped else turned
    size = (max(1, round(turned.width * scale)), max(1, round(turned.height * scale)))
    small = turned.resize(size, Image.Resampling.LANCZOS)
    return small.crop(small.getchannel("A").getbbox())


def _place(canvas: Canvas, picture: Image.Image, class_id: int, random: Random) -> None:
    alpha_hw = np.asarray(picture.getchannel("A"))
    best: tuple[float, int, int] = (-1.0, 0, 0)
    for _ in range(NUM_TRIES):
        left, top = (_position(length, canvas.picture.width, random) for length in picture.size)
        visible = _least_visible(canvas, _spread(alpha_hw, left, top, canvas.mask.shape) >= SOLID, alpha_hw)
        best = max(best, (visible, left, top), key=lambda item: item[0])
        if visible >= LEAST_VISIBLE:
            break
    _, left, top = best
    alpha_HW = _spread(alpha_hw, left, top, canvas.mask.shape)
    canvas.picture.paste(picture, (left, top), picture)
    canvas.mask[alpha_HW > FAINT] = IGNORE
    canvas.mask[alpha_HW >= SOLID] = class_id
    canvas.owner[alpha_HW > FAINT] = -1
    canvas.owner[alpha_HW >= SOLID] = len(canvas.areas)
    canvas.areas.append(int((alpha_hw >= SOLID).sum()))


def _position(length: int, scene_px: int, random: Random) -> int:
    outside = OUTSIDE_SHARE * length
    return round(-outside + (scene_px - length + 2 * outside) * random.random())


def _spread(alpha_hw: Mask, left: int, top: int, shape: tuple[int, ...]) -> Mask:
    """The alpha of a picture that lies at (left, top), on the whole scene."""
    alpha_HW = np.zeros(shape, np.uint8)
    y, x = max(0, top), max(0, left)
    part = alpha_hw[y - top : shape[0] - top, x - left : shape[1] - left]
    alpha_HW[y : y + part.shape[0], x : x + part.shape[1]] = part
    return alpha_HW


def _least_visible(canvas: Canvas, solid_HW: NDArray[np.bool_], alpha_hw: Mask) -> float:
    """The smallest share of any object that can be seen with the new one in place."""
    own = solid_HW.sum() / max(1, (alpha_hw >= SOLID).sum())
    left_HW = np.where(solid_HW, -1, canvas.owner)
    others = [(left_HW == number).sum() / max(1, area) for number, area in enumerate(canvas.areas)]
    return float(min([own, *others]))
