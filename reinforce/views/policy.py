"""The view policy: everything that decides a view's pixels besides the image, as integers.

A store keeps `ViewPolicy.to_json()`; it is all that a reader needs. `resolve_policy` makes one from the usual float
settings.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, cast

from reinforce.errors import StoreError, UnknownNameError, UsageError
from reinforce.views.ops import OP_ARITY
from reinforce.views.tables import (
    MAGNITUDE_BINS,
    NUM_LAMBDAS,
    NUM_RATIOS,
    lambda_table,
    q32,
    randaugment_table,
    ratio_table,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Bounded = tuple[str, int, int, int]
"""What it is, value, least, greatest."""

POLICY_VERSION = 1
MAX_PIXELS = 89_478_485
"""Pillow's own limit (1 GiB / 4 / 3): a policy may lower it, not raise it."""
MAX_OPS = 8
MAX_CROP_ATTEMPTS = 10

_ONE_Q32 = 1 << 32
IMAGENET_MEAN_RGB = (124, 116, 104)


@dataclass(frozen=True, kw_only=True)
class RandomOp:
    """One operation that RandAugment may draw, with its integer arguments for either sign."""

    name: str
    plus: tuple[int, ...]
    """Arguments if the sign drawn is 0; their meaning is in `reinforce.views.ops`."""
    minus: tuple[int, ...]
    """Arguments if the sign drawn is 1; equal to `plus` for operations without a sign."""

    def __post_init__(self) -> None:
        if self.name not in OP_ARITY:
            raise UnknownNameError("image operation", self.name, OP_ARITY)
        if not len(self.plus) == len(self.minus) == OP_ARITY[self.name]:
            raise UsageError(f"the image operation {self.name} takes {OP_ARITY[self.name]} integers a sign")


@dataclass(frozen=True, kw_only=True)
class ViewPolicy:
    """A fully resolved policy, version 1. Tables of parts that are never drawn are empty.

    Raises UsageError when a value is out of its range.
    """

    name: str
    """Label for people; part of the digest."""
    seed: int
    """First word of the Philox key, 0..2^53 - 1 so that every JSON reader keeps it exact."""
    size_px: int
    """Side of the square views, 1..4096."""
    crop_attempts: int
    """Random crops tried before the central one, 0..10; 0 makes every view the central crop."""
    crop_scale_q32: tuple[int, int]
    """Least and greatest share of the image's area that a random crop takes."""
    crop_ratios_q16: tuple[int, ...]
    """257 widths over heights to draw from, ascending; the first and last also bound the central crop."""
    flip_q32: int
    """Probability of a horizontal flip."""
    num_ops: int
    """RandAugment operations a view, 0..8."""
    ops: tuple[RandomOp, ...]
    """What they are drawn from, evenly, with replacement."""
    erase_q32: int
    """Probability that one rectangle is erased."""
    erase_scale_q32: tuple[int, int]
    """Least and greatest share of the view's area that is erased."""
    erase_ratios_q16: tuple[int, ...]
    """257 widths over heights of the erased rectangle."""
    mixup_q32: int
    """Probability of MixUp; with `cutmix_q32` at most 2^32, as a view is mixed in one way or none."""
    mixup_lambdas: tuple[int, ...]
    """256 weights (of 256) of the own image to draw from, evenly."""
    cutmix_q32: int
    """Probability of CutMix."""
    cutmix_lambdas: tuple[int, ...]
    """256 shares (of 256) of the area that stays the own image's."""
    fill: tuple[int, int, int]
    """RGB of erased pixels and of what shears, shifts and rotations uncover."""
    max_pixels: int = MAX_PIXELS
    """Images that would be decoded to more pixels are skipped."""
    version: int = POLICY_VERSION
    """Version of the rules in docs/store-format.md that give these numbers their meaning."""

    is_dense: ClassVar[bool] = False
    """Whether views have pixels that are not the image's, see `UnitReplayer.valid`."""

    def __post_init__(self) -> None:
        check_bounds(self.name, self._bounded())
        for what, table, length, drawn in self._tables():
            if len(table) != length and (drawn or table):
                raise UsageError(f"view policy '{self.name}': {what} has {len(table)} entries instead of {length}")
        if self.mixup_q32 + self.cutmix_q32 > _ONE_Q32:
            raise UsageError(f"view policy '{self.name}': the mixup and cutmix probabilities exceed 1 together")
        for low, high in (self.crop_scale_q32, self.erase_scale_q32):
            if low > high:
                raise UsageError(f"view policy '{self.name}': a scale's low end is over its high end")
        if self.num_ops and not self.ops:
            raise UsageError(f"view policy '{self.name}': num_ops is {self.num_ops}, but there are no ops to draw from")

    @property
    def working_px(self) -> int:
        """Side that decoding keeps the detail for."""
        return self.size_px

    @property
    def mixes(self) -> bool:
        """Whether a view may need another row's."""
        return self.mixup_q32 + self.cutmix_q32 > 0

    @property
    def moves_masks(self) -> bool:
        """Whether a mask can follow the image: views are cropped and flipped only."""
        return not (self.num_ops or self.erase_q32 or self.mixes)

    def _bounded(self) -> list[Bounded]:
        shares = [*self.crop_scale_q32, *self.erase_scale_q32]
        chances = [self.flip_q32, self.erase_q32, self.mixup_q32, self.cutmix_q32]
        return [
            ("version", self.version, POLICY_VERSION, POLICY_VERSION),
            ("seed", self.seed, 0, (1 << 53) - 1),
            ("size_px", self.size_px, 1, 4096),
            ("crop_attempts", self.crop_attempts, 0, MAX_CROP_ATTEMPTS),
            ("num_ops", self.num_ops, 0, MAX_OPS),
            ("max_pixels", self.max_pixels, 1, MAX_PIXELS),
            *(("a scale (q32)", value, 0, _ONE_Q32) for value in shares),
            *(("a probability (q32)", value, 0, _ONE_Q32) for value in chances),
            *(("a ratio (q16)", value, 1, 1 << 24) for value in self.crop_ratios_q16 + self.erase_ratios_q16),
            *(("a lambda", value, 0, 256) for value in self.mixup_lambdas + self.cutmix_lambdas),
            *(("fill", value, 0, 255) for value in self.fill),
        ]

    def _tables(self) -> list[tuple[str, tuple[int, ...], int, bool]]:
        return [
            ("crop_scale_q32", self.crop_scale_q32, 2, True),
            ("crop_ratios_q16", self.crop_ratios_q16, NUM_RATIOS, True),
            ("erase_scale_q32", self.erase_scale_q32, 2, True),
            ("erase_ratios_q16", self.erase_ratios_q16, NUM_RATIOS, self.erase_q32 > 0),
            ("mixup_lambdas", self.mixup_lambdas, NUM_LAMBDAS, self.mixup_q32 > 0),
            ("cutmix_lambdas", self.cutmix_lambdas, NUM_LAMBDAS, self.cutmix_q32 > 0),
            ("fill", self.fill, 3, True),
        ]

    def to_json(self) -> dict[str, Any]:
        """Every field under its own name; operations as [name, plus, minus]."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        lists = {name: list(value) for name, value in fields.items() if isinstance(value, tuple)}
        ops = [[op.name, list(op.plus), list(op.minus)] for op in self.ops]
        return fields | lists | {"ops": ops}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ViewPolicy:
        """The inverse of `to_json`.

        Raises StoreError for another version, for missing or unknown fields, and for values that no policy has.
        """
        check_document(document, cls, POLICY_VERSION)
        try:
            fields = {name: tuple(v) if isinstance(v, list) else v for name, v in document.items()}
            fields["ops"] = tuple(RandomOp(name=n, plus=tuple(p), minus=tuple(m)) for n, p, m in document["ops"])
            return cls(**cast("dict[str, Any]", fields))
        except (TypeError, ValueError) as error:
            raise StoreError(f"the view policy is not valid: {error}") from error

    def digest(self) -> str:
        """SHA-256, hex, of the canonical JSON: keys sorted, no spaces, ASCII."""
        return document_digest(self.to_json())


def check_bounds(name: str, bounded: Iterable[Bounded]) -> None:
    """Raises UsageError for the first value that is no integer in its bounds."""
    for what, value, low, high in bounded:
        if type(value) is not int or not low <= value <= high:
            raise UsageError(f"view policy '{name}': {what} is {value}, type an integer from {low} to {high}")


def check_document(document: Mapping[str, Any], policy: type[DataclassInstance], version: int) -> None:
    """Raises StoreError for another version and for missing or unknown fields."""
    if document.get("version") != version:
        raise StoreError(
            f"the views are of policy version {document.get('version')}, this reinforce replays version {version}: "
            "type pip install -U reinforce-vision"
        )
    names = {field.name for field in dataclasses.fields(policy)}
    if set(document) != names:
        raise StoreError(f"the view policy has wrong fields: {', '.join(sorted(set(document) ^ names))}")


def document_digest(document: Mapping[str, Any]) -> str:
    """SHA-256, hex, of the canonical JSON: keys sorted, no spaces, ASCII."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def resolve_policy(
    *,
    name: str,
    size_px: int,
    seed: int = 0,
    crop_scale: tuple[float, float] | None = (0.08, 1.0),
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip_prob: float = 0.5,
    num_ops: int = 0,
    magnitude: int = 9,
    erase_prob: float = 0.0,
    erase_scale: tuple[float, float] = (0.02, 0.33),
    erase_ratio: tuple[float, float] = (0.3, 3.3),
    mixup_prob: float = 0.0,
    mixup_alpha: float = 0.2,
    cutmix_prob: float = 0.0,
    cutmix_alpha: float = 1.0,
    fill: tuple[int, int, int] = IMAGENET_MEAN_RGB,
    max_pixels: int = MAX_PIXELS,
) -> ViewPolicy:
    """A policy from the usual settings, rounded once to integers. `crop_scale=None` takes the central crop always.

    Raises UsageError for settings out of range.
    """
    for what, (low, high) in {"crop_ratio": crop_ratio, "erase_ratio": erase_ratio}.items():
        if not 1 / 256 <= low <= high <= 256:
            raise UsageError(f"{what} is {low},{high}: type two ascending numbers from 1/256 to 256")
    scales = {"crop_scale": crop_scale or (1.0, 1.0), "erase_scale": erase_scale}
    for what, (low, high) in scales.items():
        if not 0 < low <= high <= 1:
            raise UsageError(f"{what} is {low},{high}: type two ascending numbers over 0 and up to 1, such as 0.08,1")
    if not 0 <= magnitude < MAGNITUDE_BINS:
        raise UsageError(f"magnitude is {magnitude}: type an integer from 0 to {MAGNITUDE_BINS - 1}")
    if not (1 / 64 <= mixup_alpha <= 64 and 1 / 64 <= cutmix_alpha <= 64):
        raise UsageError("mixup_alpha and cutmix_alpha must lie between 1/64 and 64")
    table = randaugment_table(size_px, magnitude) if num_ops else ()
    return ViewPolicy(
        name=name,
        seed=seed,
        size_px=size_px,
        crop_attempts=0 if crop_scale is None else MAX_CROP_ATTEMPTS,
        crop_scale_q32=_pair_q32(scales["crop_scale"]),
        crop_ratios_q16=ratio_table(*crop_ratio),
        flip_q32=q32(flip_prob),
        num_ops=num_ops,
        ops=tuple(RandomOp(name=op, plus=plus, minus=minus) for op, plus, minus in table),
        erase_q32=q32(erase_prob),
        erase_scale_q32=_pair_q32(erase_scale),
        erase_ratios_q16=ratio_table(*erase_ratio) if erase_prob else (),
        mixup_q32=q32(mixup_prob),
        mixup_lambdas=lambda_table(mixup_alpha) if mixup_prob else (),
        cutmix_q32=q32(cutmix_prob),
        cutmix_lambdas=lambda_table(cutmix_alpha) if cutmix_prob else (),
        fill=fill,
        max_pixels=max_pixels,
    )


def _pair_q32(pair: tuple[float, float]) -> tuple[int, int]:
    return q32(pair[0]), q32(pair[1])
