"""The policy of a gallery (the paper's section B.2): view 0 is the whole image, the others are random crops of it.

The whole image is its largest central square, by which originals are compared; crops are random resized crops with
RandAugment. Both are policies of version 1 with the same seed, so that a crop is regenerated from its key and index.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, cast

from reinforce.errors import StoreError, UsageError
from reinforce.views.policy import ViewPolicy, check_document, document_digest, resolve_policy

GALLERY_KIND = "gallery"
GALLERY_VERSION = 1
WHOLE_VIEW = 0


@dataclass(frozen=True, kw_only=True)
class GalleryPolicy:
    """A fully resolved policy of a gallery, version 1. Raises UsageError where its two parts do not belong together."""

    name: str
    """Label for people; part of the digest."""
    whole: ViewPolicy
    """Of view 0."""
    crops: ViewPolicy
    """Of every other view."""
    version: int = GALLERY_VERSION
    """Version of the rule that says which view is of which part."""
    kind: str = GALLERY_KIND
    """What tells such a document from other policies."""

    is_dense: ClassVar[bool] = False
    """Whether views have pixels that are not the image's."""
    mixes: ClassVar[bool] = False
    """Whether a view may need another row's."""
    moves_masks: ClassVar[bool] = False
    """Whether a mask can follow the image."""

    def __post_init__(self) -> None:
        if self.whole.mixes or self.crops.mixes:
            raise UsageError(f"view policy '{self.name}': a gallery's views are of one image each")
        for shared in ("seed", "size_px", "max_pixels", "fill"):
            if getattr(self.whole, shared) != getattr(self.crops, shared):
                raise UsageError(f"view policy '{self.name}': its two parts have another {shared}")

    @property
    def seed(self) -> int:
        return self.whole.seed

    @property
    def size_px(self) -> int:
        return self.whole.size_px

    @property
    def working_px(self) -> int:
        """Side that decoding keeps the detail for."""
        return self.whole.working_px

    @property
    def max_pixels(self) -> int:
        return self.whole.max_pixels

    @property
    def fill(self) -> tuple[int, int, int]:
        return self.whole.fill

    def part(self, view: int) -> ViewPolicy:
        """The policy that draws a view."""
        return self.whole if view == WHOLE_VIEW else self.crops

    def to_json(self) -> dict[str, Any]:
        """Every field under its own name, the parts as documents of their own."""
        return {"name": self.name, "whole": self.whole.to_json(), "crops": self.crops.to_json(),
                "version": self.version, "kind": self.kind}  # fmt: skip

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> GalleryPolicy:
        """The inverse of `to_json`. Raises StoreError for another version, wrong fields and values no policy has."""
        check_document(document, cls, GALLERY_VERSION)
        try:
            parts = {name: ViewPolicy.from_json(document[name]) for name in ("whole", "crops")}
            return cls(**cast("dict[str, Any]", {**document, **parts}))
        except (TypeError, ValueError, AttributeError) as error:
            raise StoreError(f"the view policy is not valid: {error}") from error

    def digest(self) -> str:
        """SHA-256, hex, of the canonical JSON: keys sorted, no spaces, ASCII."""
        return document_digest(self.to_json())


def resolve_gallery_policy(*, size_px: int, seed: int = 0, crop_scale: tuple[float, float] = (0.08, 1.0)
                           ) -> GalleryPolicy:  # fmt: skip
    """The paper's: crops take 0.08 to 1 of the area, RandAugment with 2 operations of magnitude 9, no flip.

    Raises UsageError for a scale out of range.
    """
    part = partial(resolve_policy, size_px=size_px, seed=seed, flip_prob=0)
    return GalleryPolicy(
        name="gallery",
        whole=part(name="center", crop_scale=None, crop_ratio=(1, 1)),
        crops=part(name="gallery-crops", crop_scale=crop_scale, num_ops=2),
    )
