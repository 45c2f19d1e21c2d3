"""Dense policies: resolved to integers once, checked when made, told apart from the other kind."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from reinforce.errors import StoreError, UsageError
from reinforce.views import DensePolicy, ViewPolicy, named_policy, policy_from_json, resolve_dense_policy


def segmentation(size_px: int = 512, **changes: Any) -> DensePolicy:
    policy = named_policy("segmentation", size_px=size_px, **changes)
    assert isinstance(policy, DensePolicy)
    return policy


def test_the_papers_set_at_512_px() -> None:
    policy = segmentation()
    assert policy.short_px == (256, 768)
    assert (policy.flip_q32, policy.distort_q32, policy.blur_q32) == (1 << 31,) * 3
    assert (policy.brightness_q8, policy.contrast_q8, policy.saturation_q8) == ((224, 288), (128, 384), (128, 384))
    assert policy.hues_q12[-1] == (3962, -664, 798)  # 18 degrees
    assert (policy.blur_px, policy.noise_q16) == ((1, 4), (887, 4434))  # noise of 2 to 10 levels
    assert policy.rotate_q32 == 1 << 32
    assert policy.rotations_q16[-1] == (64540, 11380)  # 10 degrees


@pytest.mark.parametrize(("size_px", "radius"), [(64, 1), (256, 1), (362, 2), (512, 4), (1024, 4)])
def test_blur_grows_with_the_view(size_px: int, radius: int) -> None:
    assert segmentation(size_px).blur_px == (1, radius)


@pytest.mark.parametrize("name", ["segmentation", "segmentation-crops"])
def test_crop_scale_bounds_the_shorter_side(name: str) -> None:
    policy = named_policy(name, size_px=100, crop_scale=(1.0, 4.0))
    assert isinstance(policy, DensePolicy)
    assert policy.short_px == (100, 400)


def test_parts_never_drawn_are_empty() -> None:
    crops, whole = named_policy("segmentation-crops", size_px=64), named_policy("whole", size_px=64)
    assert isinstance(crops, DensePolicy)
    assert isinstance(whole, DensePolicy)
    for policy in (crops, whole):
        parts = [policy.brightness_q8, policy.contrast_q8, policy.saturation_q8, policy.hues_q12]
        assert not any([*parts, policy.blur_px, policy.noise_q16, policy.rotations_q16])
    assert (crops.short_px, whole.short_px, whole.flip_q32) == ((32, 96), (), 0)


@pytest.mark.parametrize("scale", [(0.0, 1.0), (1.5, 0.5), (0.5, 4.5), (-1.0, 1.0), (float("nan"), 1.0)], ids=str)
def test_nonsense_crop_scales_are_refused_in_one_line(scale: tuple[float, float]) -> None:
    with pytest.raises(UsageError, match=r"the crop scale is .*: type two ascending numbers") as caught:
        named_policy("segmentation", size_px=64, crop_scale=scale)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "other"), [("whole", "segmentation-crops"), ("center", "crops")])
def test_views_for_evaluation_take_no_crop_scale(name: str, other: str) -> None:
    with pytest.raises(UsageError, match=f"'{name}' takes no crop scale: leave it out or choose '{other}'"):
        named_policy(name, size_px=64, crop_scale=(0.5, 1.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"size_px": 0}, "size_px is 0", id="no size"),
        pytest.param({"size_px": 4097}, "size_px is 4097", id="too large"),
        pytest.param({"seed": -1}, "seed is -1", id="negative seed"),
        pytest.param({"flip_prob": 1.5}, "probability", id="probability over 1"),
        pytest.param({"distort_prob": 1.0, "contrast": (1.5, 0.5)}, "low end of contrast_q8", id="descending factor"),
        pytest.param({"distort_prob": 1.0, "brightness": (1.0, 5.0)}, r"factor \(q8\) is 1280", id="factor"),
        pytest.param({"distort_prob": 1.0, "hue_degrees": 90.0}, "hue_degrees", id="hue"),
        pytest.param({"blur_prob": 1.0, "blur_px": (0, 2)}, "radius", id="no blur"),
        pytest.param({"blur_prob": 1.0, "blur_px": (1, 5)}, "radius", id="blur too wide"),
        pytest.param({"noise_prob": 1.0, "noise_levels": (0.0, 200.0)}, "noise", id="noise"),
        pytest.param({"rotate_prob": 1.0, "rotate_degrees": 90.0}, "rotate_degrees", id="rotation"),
        pytest.param({"max_pixels": 10**9}, "max_pixels", id="limit over Pillow's"),
        pytest.param({"fill": (0, 0)}, "no colour", id="fill"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        resolve_dense_policy(**{"name": "x", "size_px": 32, **settings})


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"kind": "depth"}, id="other kind"),
        pytest.param({"kind": None}, id="no kind"),
        pytest.param({"version": 2}, id="newer version"),
        pytest.param({"extra": 1}, id="unknown field"),
        pytest.param({"seed": 0.5}, id="float"),
        pytest.param({"seed": True}, id="bool"),
        pytest.param({"short_px": [32]}, id="one bound"),
        pytest.param({"short_px": [33, 32]}, id="descending bounds"),
        pytest.param({"short_px": [1, 257]}, id="shorter side over 4 views"),
        pytest.param({"short_px": 64}, id="no list"),
        pytest.param({"contrast_q8": []}, id="distorted without factors"),
        pytest.param({"blur_px": []}, id="blurred without radii"),
        pytest.param({"noise_q16": [1, 2, 3]}, id="three bounds"),
        pytest.param({"rotations_q16": []}, id="rotated without angles"),
        pytest.param({"rotations_q16": [[65536]]}, id="half an angle"),
        pytest.param({"rotations_q16": [[65537, 0]]}, id="no rotation"),
        pytest.param({"rotations_q16": [[65536, 0]] * 258}, id="long table"),
        pytest.param({"hues_q12": [[4096, 1, 0]]}, id="hue that changes grey"),
        pytest.param({"hues_q12": [4096]}, id="hue that is no list"),
        pytest.param({"fill": [0, 0, 256]}, id="fill"),
    ],
)
def test_foreign_json_is_refused(change: dict[str, Any]) -> None:
    document = segmentation(64).to_json() | change
    with pytest.raises(StoreError) as caught:
        policy_from_json(document)
    assert "\n" not in str(caught.value)


def test_missing_fields_are_refused() -> None:
    for field in dataclasses.fields(DensePolicy):
        with pytest.raises(StoreError):
            DensePolicy.from_json({k: v for k, v in segmentation(64).to_json().items() if k != field.name})


def test_kinds_are_told_apart_by_their_json() -> None:
    dense, view = segmentation(64), named_policy("crops", size_px=64)
    assert type(policy_from_json(dense.to_json())) is DensePolicy
    assert type(policy_from_json(view.to_json())) is ViewPolicy
    assert "kind" not in view.to_json()
    with pytest.raises(StoreError):
        ViewPolicy.from_json(dense.to_json())
    with pytest.raises(StoreError):
        DensePolicy.from_json(view.to_json())
