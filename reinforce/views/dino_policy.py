"""The policy of one kind of crop of DINO's multi-crop (Caron et al. 2021, arXiv:2104.14294): integers, as the others.

Augmentations and chances are DINO's (its paper takes them from BYOL, arXiv:2006.07733): a random resized crop, flip,
colour jitter, greyscale, Gaussian blur, solarisation. Where it has pixels of its own 224 px views in mind, which is the
blur, they are scaled with the view. Resizing is this project's (antialiased bilinear), so is turning the hue.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

from reinforce.errors import StoreError, UsageError
from reinforce.views.policy import (
    IMAGENET_MEAN_RGB,
    MAX_PIXELS,
    Bounded,
    check_bounds,
    check_document,
    document_digest,
)
from reinforce.views.tables import NUM_RATIOS, blur_table, hue_table, q32, ratio_table

DINO_KIND = "dino"
DINO_VERSION = 1
MAX_BLUR_RADIUS_PX = 16

_ONE_Q32 = 1 << 32
_MAX_TABLE = 257


@dataclass(frozen=True, kw_only=True)
class DinoPolicy:
    """A fully resolved policy of crops of one kind, version 1. Raises UsageError when a value is out of its range."""

    name: str
    """Label for people; part of the digest."""
    seed: int
    """First word of the Philox key, 0..2^53 - 1."""
    size_px: int
    """Side of the square crops, 1..4096."""
    working_px: int
    """Side that decoding keeps the detail for: that of the large crops, so that all are cut from one working image."""
    crop_scale_q32: tuple[int, int]
    """Least and greatest share of the image's area."""
    crop_ratios_q16: tuple[int, ...]
    """257 widths over heights to draw from, ascending."""
    flip_q32: int
    """Probability of a horizontal flip."""
    jitter_q32: int
    """Probability of brightness, contrast, saturation and hue, all four, in a drawn order."""
    brightness_q8: tuple[int, int]
    """Least and greatest factor in 1/256."""
    contrast_q8: tuple[int, int]
    """Least and greatest factor in 1/256."""
    saturation_q8: tuple[int, int]
    """Least and greatest factor in 1/256."""
    hues_q12: tuple[tuple[int, int, int], ...]
    """Turns of the hue to draw from, as in a `DensePolicy`."""
    grey_q32: int
    """Probability that the colours go."""
    blur_q32: int
    """Probability of a blur."""
    blurs_px: tuple[int, ...]
    """Radii of the binomial filter to draw from, 0..16; 0 leaves the crop as it is."""
    solarize_q32: int
    """Probability that levels from 128 on are inverted."""
    max_pixels: int = MAX_PIXELS
    """Images that would be decoded to more pixels are skipped."""
    version: int = DINO_VERSION
    """Version of the rules in `reinforce.views.dino_params`."""
    kind: str = DINO_KIND
    """What tells such a document from other policies."""

    is_dense: ClassVar[bool] = False
    """Whether views have pixels that are not the image's."""
    mixes: ClassVar[bool] = False
    """Whether a view may need another row's."""
    moves_masks: ClassVar[bool] = False
    """Whether a mask can follow the image."""
    fill: ClassVar[tuple[int, int, int]] = IMAGENET_MEAN_RGB
    """No crop shows it."""

    def __post_init__(self) -> None:
        check_bounds(self.name, self._bounded())
        for what, (low, high) in self._ranges():
            if low > high:
                raise UsageError(f"view policy '{self.name}': the low end of {what} is over its high end")
        for what, table, length in self._tables():
            if not 1 <= len(table) <= (length or _MAX_TABLE) or (length and len(table) != length):
                raise UsageError(f"view policy '{self.name}': {what} has {len(table)} entries")
        if any(len(hue) != 3 or sum(hue) != 1 << 12 for hue in self.hues_q12):
            raise UsageError(f"view policy '{self.name}': a hue is not three numbers that are 4096 together")
        if self.kind != DINO_KIND:
            raise UsageError(f"view policy '{self.name}': kind is not '{DINO_KIND}'")

    def _bounded(self) -> Iterable[Bounded]:
        chances = [self.flip_q32, self.jitter_q32, self.grey_q32, self.blur_q32, self.solarize_q32]
        factors = [*self.brightness_q8, *self.contrast_q8, *self.saturation_q8]
        return [
            ("version", self.version, DINO_VERSION, DINO_VERSION),
            ("seed", self.seed, 0, (1 << 53) - 1),
            ("size_px", self.size_px, 1, 4096),
            ("working_px", self.working_px, self.size_px, 4096),
            ("max_pixels", self.max_pixels, 1, MAX_PIXELS),
            *(("a scale (q32)", value, 0, _ONE_Q32) for value in self.crop_scale_q32),
            *(("a ratio (q16)", value, 1, 1 << 24) for value in self.crop_ratios_q16),
            *(("a probability (q32)", value, 0, _ONE_Q32) for value in chances),
            *(("a factor (q8)", value, 0, 1024) for value in factors),
            *(("a hue (q12)", value, -8192, 8192) for hue in self.hues_q12 for value in hue),
            *(("a blur's radius (px)", value, 0, MAX_BLUR_RADIUS_PX) for value in self.blurs_px),
        ]

    def _ranges(self) -> list[tuple[str, tuple[int, int]]]:
        names = ("crop_scale_q32", "brightness_q8", "contrast_q8", "saturation_q8")
        return [(name, getattr(self, name)) for name in names]

    def _tables(self) -> list[tuple[str, tuple[Any, ...], int | None]]:
        return [
            ("crop_ratios_q16", self.crop_ratios_q16, NUM_RATIOS),
            ("hues_q12", self.hues_q12, None),
            ("blurs_px", self.blurs_px, None),
        ]

    def to_json(self) -> dict[str, Any]:
        """Every field under its own name, tuples as lists."""
        lists = {"hues_q12": [list(hue) for hue in self.hues_q12]}
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()} | lists

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> DinoPolicy:
        """The inverse of `to_json`. Raises StoreError for another version, wrong fields and values no policy has."""
        check_document(document, cls, DINO_VERSION)
        try:
            fields = {name: tuple(v) if isinstance(v, list) else v for name, v in document.items()}
            fields["hues_q12"] = tuple(tuple(hue) for hue in document["hues_q12"])
            return cls(**cast("dict[str, Any]", fields))
        except (TypeError, ValueError) as error:
            raise StoreError(f"the view policy is not valid: {error}") from error

    def digest(self) -> str:
        """SHA-256, hex, of the canonical JSON: keys sorted, no spaces, ASCII."""
        return document_digest(self.to_json())


@dataclass(frozen=True, kw_only=True)
class MultiCrop:
    """The three kinds of crops of one image."""

    first: DinoPolicy
    """Large; always blurred."""
    second: DinoPolicy
    """Large; seldom blurred, at times solarised."""
    local: DinoPolicy
    """Small."""


def resolve_multi_crop(
    *,
    size_px: int,
    local_px: int,
    seed: int = 0,
    scale: tuple[float, float] = (0.4, 1.0),
    local_scale: tuple[float, float] = (0.05, 0.4),
) -> MultiCrop:
    """DINO's three kinds of crops, as in its published code: large ones of `size_px`, small ones of `local_px`.

    `scale` and `local_scale` bound the share of the image's area. Raises UsageError for settings out of range.
    """
    for what, (low, high) in {"crop scale": scale, "local scale": local_scale}.items():
        if not 0 < low <= high <= 1:
            raise UsageError(f"the {what} is {low:g},{high:g}: type two ascending numbers over 0 and up to 1")
    if not 1 <= local_px <= size_px:
        raise UsageError(f"small crops of {local_px} px are no smaller than large ones of {size_px} px: "
                         f"type --local-size with 1 to {size_px} px")  # fmt: skip
    large = partial(_resolve, size_px=size_px, working_px=size_px, seed=seed, scale=scale)
    small = partial(_resolve, size_px=local_px, working_px=size_px, seed=seed, scale=local_scale)
    return MultiCrop(
        first=large("dino-1", blur_prob=1.0, solarize_prob=0.0),
        second=large("dino-2", blur_prob=0.1, solarize_prob=0.2),
        local=small("dino-local", blur_prob=0.5, solarize_prob=0.0),
    )


def _resolve(name: str, *, size_px: int, working_px: int, seed: int, scale: tuple[float, float], blur_prob: float,
             solarize_prob: float) -> DinoPolicy:  # fmt: skip
    """Blurs of 0.1 to 2 px are those of large crops of 224 px, and of the small ones beside them."""
    return DinoPolicy(
        name=name,
        seed=seed,
        size_px=size_px,
        working_px=working_px,
        crop_scale_q32=(q32(scale[0]), q32(scale[1])),
        crop_ratios_q16=ratio_table(3 / 4, 4 / 3),
        flip_q32=q32(0.5),
        jitter_q32=q32(0.8),
        brightness_q8=_around_1(0.4),
        contrast_q8=_around_1(0.4),
        saturation_q8=_around_1(0.2),
        hues_q12=hue_table(36),
        grey_q32=q32(0.2),
        blur_q32=q32(blur_prob),
        blurs_px=blur_table(0.1 * working_px / 224, 2.0 * working_px / 224, MAX_BLUR_RADIUS_PX),
        solarize_q32=q32(solarize_prob),
    )


def _around_1(spread: float) -> tuple[int, int]:
    return round(256 * (1 - spread)), round(256 * (1 + spread))
