"""The policy of views for segmentation: images and masks move together, and what is not the image is known.

As in `reinforce.views.policy`, integers only; a store keeps `DensePolicy.to_json()`, whose member "kind" tells it from
a `ViewPolicy`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
from reinforce.views.tables import hue_table, q32, rotation_table

DENSE_KIND = "dense"
DENSE_VERSION = 1
MAX_SHORT_SIDE = 4
"""Greatest shorter side as a multiple of the view's: the working image has no more detail (decoding rule 2)."""
MAX_BLUR_RADIUS_PX = 4

_ONE_Q32 = 1 << 32
_MAX_TABLE = 257
_BYTE_SUM_STD = (4 * (256**2 - 1) / 12) ** 0.5


@dataclass(frozen=True, kw_only=True)
class DensePolicy:
    """A fully resolved policy for dense targets, version 1. Bounds and tables of parts that are never drawn are empty.

    Raises UsageError when a value is out of its range.
    """

    name: str
    """Label for people; part of the digest."""
    seed: int
    """First word of the Philox key, 0..2^53 - 1."""
    size_px: int
    """Side of the square views, 1..4096."""
    short_px: tuple[int, ...]
    """Least and greatest length to which the image's shorter side is resized; empty to fit the whole image in."""
    flip_q32: int
    """Probability of a horizontal flip."""
    distort_q32: int
    """Probability of each of brightness, contrast, saturation and hue."""
    brightness_q8: tuple[int, ...]
    """Least and greatest factor in 1/256."""
    contrast_q8: tuple[int, ...]
    """Least and greatest factor in 1/256."""
    saturation_q8: tuple[int, ...]
    """Least and greatest factor in 1/256."""
    hues_q12: tuple[tuple[int, int, int], ...]
    """Turns of the hue to draw from: what R, G, B give to R, in 1/4096, together 4096."""
    blur_q32: int
    """Probability of a blur."""
    blur_px: tuple[int, ...]
    """Least and greatest radius of the binomial filter."""
    noise_q32: int
    """Probability of noise."""
    noise_q16: tuple[int, ...]
    """Least and greatest factor of a sum of four random bytes, whose standard deviation is 147.8."""
    rotate_q32: int
    """Probability of a rotation."""
    rotations_q16: tuple[tuple[int, int], ...]
    """(cos, sin) of the angles to draw from."""
    fill: tuple[int, int, int]
    """RGB of padding and of what a rotation uncovers."""
    max_pixels: int = MAX_PIXELS
    """Images that would be decoded to more pixels are skipped."""
    version: int = DENSE_VERSION
    """Version of the rules in docs/store-format.md that give these numbers their meaning."""
    kind: str = DENSE_KIND
    """What tells such a document from other policies."""

    is_dense: ClassVar[bool] = True
    """Whether views have pixels that are not the image's, see `UnitReplayer.valid`."""
    mixes: ClassVar[bool] = False
    """Whether a view may need another row's."""
    moves_masks: ClassVar[bool] = True
    """Whether a mask can follow the image."""

    @property
    def working_px(self) -> int:
        """Side that decoding keeps the detail for."""
        return self.size_px

    def __post_init__(self) -> None:
        check_bounds(self.name, self._bounded())
        for what, bounds, drawn in self._ranges():
            if len(bounds) != 2 and (drawn or bounds):
                raise UsageError(f"view policy '{self.name}': {what} has {len(bounds)} numbers instead of 2")
            if bounds and bounds[0] > bounds[1]:
                raise UsageError(f"view policy '{self.name}': the low end of {what} is over its high end")
        for what, table, width, drawn in self._tables():
            if not (1 if drawn else 0) <= len(table) <= _MAX_TABLE or any(len(entry) != width for entry in table):
                raise UsageError(f"view policy '{self.name}': {what} is no table of 1 to {_MAX_TABLE} entries")
        if any(sum(hue) != 1 << 12 for hue in self.hues_q12):
            raise UsageError(f"view policy '{self.name}': a hue's numbers are not 4096 together, grey would change")
        if self.kind != DENSE_KIND or len(self.fill) != 3:
            raise UsageError(f"view policy '{self.name}': kind is not '{DENSE_KIND}', or fill is no colour")

    def _bounded(self) -> Iterable[Bounded]:
        chances = [self.flip_q32, self.distort_q32, self.blur_q32, self.noise_q32, self.rotate_q32]
        factors = [*self.brightness_q8, *self.contrast_q8, *self.saturation_q8]
        return [
            ("version", self.version, DENSE_VERSION, DENSE_VERSION),
            ("seed", self.seed, 0, (1 << 53) - 1),
            ("size_px", self.size_px, 1, 4096),
            ("max_pixels", self.max_pixels, 1, MAX_PIXELS),
            *(("a shorter side (px)", value, 1, MAX_SHORT_SIDE * self.size_px) for value in self.short_px),
            *(("a probability (q32)", value, 0, _ONE_Q32) for value in chances),
            *(("a factor (q8)", value, 0, 1024) for value in factors),
            *(("a hue (q12)", value, -8192, 8192) for hue in self.hues_q12 for value in hue),
            *(("a blur's radius (px)", value, 1, MAX_BLUR_RADIUS_PX) for value in self.blur_px),
            *(("a noise's factor (q16)", value, 0, 65536) for value in self.noise_q16),
            *(("a rotation (q16)", value, -65536, 65536) for angle in self.rotations_q16 for value in angle),
            *(("fill", value, 0, 255) for value in self.fill),
        ]

    def _ranges(self) -> list[tuple[str, tuple[int, ...], bool]]:
        distorts = self.distort_q32 > 0
        return [
            ("short_px", self.short_px, False),
            ("brightness_q8", self.brightness_q8, distorts),
            ("contrast_q8", self.contrast_q8, distorts),
            ("saturation_q8", self.saturation_q8, distorts),
            ("blur_px", self.blur_px, self.blur_q32 > 0),
            ("noise_q16", self.noise_q16, self.noise_q32 > 0),
        ]

    def _tables(self) -> list[tuple[str, tuple[tuple[int, ...], ...], int, bool]]:
        return [
            ("hues_q12", self.hues_q12, 3, self.distort_q32 > 0),
            ("rotations_q16", self.rotations_q16, 2, self.rotate_q32 > 0),
        ]

    def to_json(self) -> dict[str, Any]:
        """Every field under its own name, tuples as lists."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: _listed(value) for name, value in fields.items()}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> DensePolicy:
        """The inverse of `to_json`.

        Raises StoreError for another kind or version, for missing or unknown fields, and for values that no policy has.
        """
        if document.get("kind") != DENSE_KIND:
            raise StoreError(
                f"the views are of the kind '{document.get('kind')}', which this reinforce cannot replay: type "
                "pip install -U reinforce-vision"
            )
        check_document(document, cls, DENSE_VERSION)
        try:
            return cls(**cast("dict[str, Any]", {name: _tupled(value) for name, value in document.items()}))
        except (TypeError, ValueError) as error:
            raise StoreError(f"the view policy is not valid: {error}") from error

    def digest(self) -> str:
        """SHA-256, hex, of the canonical JSON: keys sorted, no spaces, ASCII."""
        return document_digest(self.to_json())


def _listed(value: Any) -> Any:
    return [_listed(part) for part in value] if isinstance(value, tuple) else value


def _tupled(value: Any) -> Any:
    return tuple(_tupled(part) for part in value) if isinstance(value, list) else value


def resolve_dense_policy(
    *,
    name: str,
    size_px: int,
    seed: int = 0,
    short_side: tuple[float, float] | None = (0.5, 1.5),
    flip_prob: float = 0.5,
    distort_prob: float = 0.0,
    brightness: tuple[float, float] = (0.875, 1.125),
    contrast: tuple[float, float] = (0.5, 1.5),
    saturation: tuple[float, float] = (0.5, 1.5),
    hue_degrees: float = 18.0,
    blur_prob: float = 0.0,
    blur_px: tuple[int, int] | None = None,
    noise_prob: float = 0.0,
    noise_levels: tuple[float, float] = (2.0, 10.0),
    rotate_prob: float = 0.0,
    rotate_degrees: float = 10.0,
    fill: tuple[int, int, int] = IMAGENET_MEAN_RGB,
    max_pixels: int = MAX_PIXELS,
) -> DensePolicy:
    """A policy from the usual settings, rounded once to integers.

    `short_side` bounds the resized image's shorter side, as shares of `size_px`; None fits the whole image in.
    `hue_degrees` and `rotate_degrees` are drawn up to, on either side. `noise_levels` bound the noise's standard
    deviation. `blur_px` bounds the radius; by default it grows with the view, from 1 to 4 px at 512 px.

    Raises UsageError for settings out of range.
    """
    if short_side is not None and not 0 < short_side[0] <= short_side[1] <= MAX_SHORT_SIDE:
        low, high = short_side
        raise UsageError(
            f"the crop scale is {low:g},{high:g}: type two ascending numbers over 0 and up to {MAX_SHORT_SIDE}, such "
            "as 0.5,1.5, the least and greatest shorter side as a share of the view's"
        )
    if not (0 <= hue_degrees <= 60 and 0 <= rotate_degrees <= 45):
        raise UsageError("hue_degrees must lie between 0 and 60, rotate_degrees between 0 and 45")
    widest = max(1, min(MAX_BLUR_RADIUS_PX, round(MAX_BLUR_RADIUS_PX * (size_px / 512) ** 2)))
    return DensePolicy(
        name=name,
        seed=seed,
        size_px=size_px,
        short_px=()
        if short_side is None
        else (_at_least_1(short_side[0] * size_px), _at_least_1(short_side[1] * size_px)),
        flip_q32=q32(flip_prob),
        distort_q32=q32(distort_prob),
        brightness_q8=_rounded(brightness, 256) if distort_prob else (),
        contrast_q8=_rounded(contrast, 256) if distort_prob else (),
        saturation_q8=_rounded(saturation, 256) if distort_prob else (),
        hues_q12=hue_table(hue_degrees) if distort_prob else (),
        blur_q32=q32(blur_prob),
        blur_px=(blur_px or (1, widest)) if blur_prob else (),
        noise_q32=q32(noise_prob),
        noise_q16=_rounded(noise_levels, 65536 / _BYTE_SUM_STD) if noise_prob else (),
        rotate_q32=q32(rotate_prob),
        rotations_q16=rotation_table(rotate_degrees) if rotate_prob else (),
        fill=fill,
        max_pixels=max_pixels,
    )


def _at_least_1(length: float) -> int:
    return max(1, round(length))


def _rounded(bounds: tuple[float, float], unit: float) -> tuple[int, int]:
    return round(bounds[0] * unit), round(bounds[1] * unit)
