"""Every kind of view policy: the project's own by name, a store's from its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reinforce.errors import UnknownNameError, UsageError
from reinforce.views.dense_policy import DensePolicy, resolve_dense_policy
from reinforce.views.dino_policy import DINO_KIND, DinoPolicy
from reinforce.views.gallery_policy import GALLERY_KIND, GalleryPolicy, resolve_gallery_policy
from reinforce.views.policy import ViewPolicy, resolve_policy

Policy = ViewPolicy | DensePolicy | DinoPolicy | GalleryPolicy

VIEW_POLICY_NAMES = ("classification", "randaugment", "crops", "center")
GALLERY_POLICY_NAMES = ("gallery",)
DENSE_POLICY_NAMES = ("segmentation", "segmentation-crops", "whole")
POLICY_NAMES = (*VIEW_POLICY_NAMES, *DENSE_POLICY_NAMES, *GALLERY_POLICY_NAMES)
_UNSCALED = {"center": "crops", "whole": "segmentation-crops"}


def named_policy(name: str, *, size_px: int, seed: int = 0, crop_scale: tuple[float, float] | None = None) -> Policy:
    """One of the project's policies; `crop_scale` replaces the default below.

    classification  the paper's (A.4: the augmentations of MobileViTv2's training recipe): random resized crop, flip,
                    RandAugment (2 operations, magnitude 9), random erasing (0.25), then MixUp (alpha 0.2) or CutMix
                    (alpha 1), evenly; crops take a share of the area, (0.08, 1)
    randaugment     the same without mixing
    crops           random resized crop and flip
    center          the largest central square: the same pixels in every view, and the transform for evaluation

    segmentation    the paper's for dense targets (A.4: those of MobileViTv2's segmentation recipe): the shorter side
                    resized to a share of `size_px`, (0.5, 1.5), a random crop, padded where it exceeds the image, flip,
                    photometric distortion, blur (0.5), noise (0.1), rotation up to 10 degrees
    segmentation-crops  resize, crop with padding and flip only
    whole           the whole image fitted into the square and padded: the same pixels in every view, for evaluation

    gallery         view 0 as in center, the others random crops with RandAugment (B.2): what retrieval searches

    Raises UnknownNameError, and UsageError for a `crop_scale` out of range or with "center" or "whole".
    """
    if name not in POLICY_NAMES:
        raise UnknownNameError("view policy", name, POLICY_NAMES)
    if name in _UNSCALED and crop_scale is not None:
        raise UsageError(f"the view policy '{name}' takes no crop scale: leave it out or choose '{_UNSCALED[name]}'")
    if name in GALLERY_POLICY_NAMES:
        return resolve_gallery_policy(size_px=size_px, seed=seed, crop_scale=crop_scale or (0.08, 1.0))
    make = _view_policy if name in VIEW_POLICY_NAMES else _dense_policy
    return make(name, size_px, seed, crop_scale)


def policy_from_json(document: Mapping[str, Any]) -> Policy:
    """The inverse of `to_json` of any kind. Raises StoreError for what is no policy of a known kind and version."""
    if "kind" not in document:
        return ViewPolicy.from_json(document)
    kinds: dict[object, type[Policy]] = {DINO_KIND: DinoPolicy, GALLERY_KIND: GalleryPolicy}
    kind = document["kind"]
    return (kinds.get(kind, DensePolicy) if isinstance(kind, str) else DensePolicy).from_json(document)


def _view_policy(name: str, size_px: int, seed: int, crop_scale: tuple[float, float] | None) -> ViewPolicy:
    if name == "center":
        return resolve_policy(name=name, size_px=size_px, seed=seed, crop_scale=None, crop_ratio=(1, 1), flip_prob=0)
    augment = name in {"classification", "randaugment"}
    mix_prob = 0.5 if name == "classification" else 0.0
    return resolve_policy(
        name=name,
        size_px=size_px,
        seed=seed,
        crop_scale=crop_scale or (0.08, 1.0),
        num_ops=2 if augment else 0,
        erase_prob=0.25 if augment else 0.0,
        mixup_prob=mix_prob,
        cutmix_prob=mix_prob,
    )


def _dense_policy(name: str, size_px: int, seed: int, short_side: tuple[float, float] | None) -> DensePolicy:
    if name == "whole":
        return resolve_dense_policy(name=name, size_px=size_px, seed=seed, short_side=None, flip_prob=0)
    augment = name == "segmentation"
    return resolve_dense_policy(
        name=name,
        size_px=size_px,
        seed=seed,
        short_side=short_side or (0.5, 1.5),
        distort_prob=0.5 if augment else 0.0,
        blur_prob=0.5 if augment else 0.0,
        noise_prob=0.1 if augment else 0.0,
        rotate_prob=1.0 if augment else 0.0,
    )
