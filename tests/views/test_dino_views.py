"""DINO's crops: the published settings, parameters from fixed slots, pixels as an oracle makes them, test vectors.

`python tests/views/test_dino_views.py` writes dino_vectors.json anew, for a new policy version only.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import dino_oracles
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from view_images import pattern, png

from reinforce.errors import StoreError, UsageError
from reinforce.views import (
    DinoPolicy,
    MultiCrop,
    UnitReplayer,
    decode_image,
    dino_params,
    policy_from_json,
    replay,
    replay_stages,
    resolve_multi_crop,
)
from reinforce.views.fingerprint import pixels_checksum
from reinforce.views.tables import blur_table
from reinforce.views.words import MAX_VIEW

PATH = Path(__file__).with_name("dino_vectors.json")
ROWS = [("a.jpg", 100, 75), ("b/ü 图.png", 40, 90), ("d.webp", 7, 120)]
NUM_VIEWS = 5
KINDS = ("first", "second", "local")
KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
HALF = 1 << 31


def crops(size_px: int = 224, local_px: int = 96, **settings: Any) -> MultiCrop:
    return resolve_multi_crop(size_px=size_px, local_px=local_px, seed=3, **settings)


def policy_of(kind: str, **changes: Any) -> DinoPolicy:
    policy: DinoPolicy = getattr(crops(24, 12), kind)
    return dataclasses.replace(policy, **changes)


def vivid(kind: str) -> DinoPolicy:
    """With chances that show every stage in few views, and all radii."""
    return policy_of(kind, blur_q32=HALF, solarize_q32=HALF, blurs_px=tuple(range(11)))


def make_vectors() -> dict[str, Any]:
    return {
        "about": "Test vectors of the crops of DINO, version 1, explained in reinforce/views/dino_params.py. Image n "
        "is that of dense_vectors.json; nothing is decoded.",
        "images": [{"key": key, "size": [w, h]} for key, w, h in ROWS],
        "policies": [_vectors_of(vivid(kind)) for kind in ("second", "local")],
    }


def _vectors_of(policy: DinoPolicy) -> dict[str, Any]:
    views = [_view(policy, row, view) for row in range(len(ROWS)) for view in range(NUM_VIEWS)]
    return {"policy": policy.to_json(), "policy_digest": policy.digest(), "views": views}


def _view(policy: DinoPolicy, row: int, view: int) -> dict[str, Any]:
    key, width, height = ROWS[row]
    params = dino_params(policy, key, view, (width, height))
    stages = replay_stages(Image.fromarray(pattern(width, height, row)), params, policy)
    checksums = [[stage, pixels_checksum(pixels)] for stage, pixels in stages]
    return {"row": row, "view": view, "params": params.to_json(), "stages": checksums}


VECTORS = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}


def test_vectors_are_reproduced() -> None:
    assert json.loads(json.dumps(make_vectors())) == VECTORS


def test_vectors_show_every_kind_of_stage() -> None:
    kinds = {stage for part in VECTORS["policies"] for view in part["views"] for stage, _ in view["stages"]}
    jitters = {"brightness", "contrast", "saturation", "hue"}
    assert kinds == {"decode", "crop", "flip", *jitters, "grey", "blur", "solarize"}


@pytest.mark.parametrize(("part", "index"), [(0, 0), (0, 6), (0, 12), (1, 3), (1, 9), (1, 14)])
def test_the_oracle_reproduces_them_without_this_library(part: int, index: int) -> None:
    policy, entry = VECTORS["policies"][part]["policy"], VECTORS["policies"][part]["views"][index]
    row = entry["row"]
    size = tuple(VECTORS["images"][row]["size"])
    drawn = dino_oracles.params(policy, VECTORS["images"][row]["key"], entry["view"], size)
    assert drawn == entry["params"]
    assert pixels_checksum(dino_oracles.view(pattern(*size, row), drawn, policy)) == entry["stages"][-1][1]


@given(
    kind=st.sampled_from(KINDS),
    key=KEYS,
    view=st.integers(0, MAX_VIEW),
    size=st.tuples(st.integers(1, 5000), st.integers(1, 5000)),
)
@settings(max_examples=200, deadline=None)
def test_params_equal_the_oracle(kind: str, key: str, view: int, size: tuple[int, int]) -> None:
    policy = policy_of(kind, blurs_px=tuple(range(17)))
    drawn = dino_params(policy, key, view, size)
    assert drawn.to_json() == dino_oracles.params(policy.to_json(), key, view, size)
    left, top, width, height = drawn.crop
    assert 0 <= left < left + width <= size[0]
    assert 0 <= top < top + height <= size[1]


@given(key=KEYS, view=st.integers(0, 1000))
@settings(max_examples=60, deadline=None)
def test_every_parameter_keeps_its_slot(key: str, view: int) -> None:
    """Turning any part of a policy off changes no other part."""
    full = dino_params(vivid("first"), key, view, (90, 70))
    jitters = {"brightness", "contrast", "saturation", "hue"}
    for part, gone in {
        "flip": set(),
        "jitter": jitters,
        "grey": {"grey"},
        "blur": {"blur"},
        "solarize": {"solarize"},
    }.items():
        policy = dataclasses.replace(vivid("first"), **{f"{part}_q32": 0})
        other = dino_params(policy, key, view, (90, 70))
        assert other.crop == full.crop
        assert part == "flip" or other.flip == full.flip
        assert other.ops == tuple(op for op in full.ops if op[0] not in gone)


def test_chances_are_those_of_the_published_code() -> None:
    many, num = crops(224), 2000
    seen = {
        kind: [dino_params(getattr(many, kind), f"key {n % 100}", n // 100, (500, 375)) for n in range(num)]
        for kind in KINDS
    }
    common = {"brightness": 0.8, "hue": 0.8, "grey": 0.2}
    expected = {
        "first": {**common, "blur": 1.0, "solarize": 0.0},
        "second": {**common, "blur": 0.1, "solarize": 0.2},
        "local": {**common, "blur": 0.5, "solarize": 0.0},
    }
    for kind, chances in expected.items():
        zeros = getattr(many, kind).blurs_px.count(0) / 65  # radii too small to be seen
        for name, chance in chances.items():
            share = sum(any(op[0] == name for op in params.ops) for params in seen[kind]) / num
            assert share == pytest.approx(chance * (1 - zeros) if name == "blur" else chance, abs=0.035), (kind, name)
        areas = [p.crop[2] * p.crop[3] / (500 * 375) for p in seen[kind]]
        low, high = (0.05, 0.4) if kind == "local" else (0.4, 1.0)
        assert low - 0.01 <= min(areas) <= low + 0.05
        assert high - 0.05 <= max(areas) <= high
    orders = {tuple(op[0] for op in p.ops[:4]) for p in seen["first"] if len(p.ops) > 3 and p.ops[3][0] != "blur"}
    assert len({order for order in orders if len(set(order)) == 4 and "grey" not in order}) == 24


def test_the_published_settings_at_224_px() -> None:
    first, local = crops().first, crops().local
    assert (first.size_px, local.size_px, first.working_px, local.working_px) == (224, 96, 224, 224)
    assert (first.brightness_q8, first.contrast_q8, first.saturation_q8) == ((154, 358), (154, 358), (205, 307))
    assert (min(first.blurs_px), max(first.blurs_px)) == (0, 8)  # standard deviations up to 2 px
    assert local.blurs_px == first.blurs_px


@pytest.mark.parametrize(("size_px", "widest"), [(32, 1), (128, 3), (224, 8), (512, 16)])
def test_blur_grows_with_the_view(size_px: int, widest: int) -> None:
    assert max(crops(size_px, 16).first.blurs_px) == widest


def test_radii_have_evenly_spaced_deviations() -> None:
    assert blur_table(0.0, 2.0, 16, num=5) == (0, 0, 2, 4, 8)  # 2 s^2 of s = 0, 1/2, 1, 3/2, 2; halves to even


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_are_cut_from_one_working_image(kind: str) -> None:
    data, policies = png(400, 300), crops(24, 12)
    policy: DinoPolicy = getattr(policies, kind)
    np.testing.assert_array_equal(decode_image(data, policy), decode_image(data, policies.first))
    replayed = UnitReplayer(policy, ["k"], lambda row: data).view(0, 7)
    working = decode_image(data, policies.first)
    np.testing.assert_array_equal(replayed, replay(working, dino_params(policy, "k", 7, working.size), policy))
    assert replayed.shape == (policy.size_px, policy.size_px, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_json_round_trip(kind: str) -> None:
    policy = policy_of(kind)
    again = policy_from_json(json.loads(json.dumps(policy.to_json())))
    assert again == policy
    assert again.digest() == policy.digest()
    assert not any((policy.is_dense, policy.mixes, policy.moves_masks))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"version": 2}, id="newer version"),
        pytest.param({"extra": 1}, id="unknown field"),
        pytest.param({"seed": 0.5}, id="float"),
        pytest.param({"working_px": 23}, id="working image smaller than the crop"),
        pytest.param({"crop_scale_q32": [9, 8]}, id="descending scale"),
        pytest.param({"contrast_q8": [1]}, id="one bound"),
        pytest.param({"hues_q12": [[4096, 1, 0]]}, id="hue that changes grey"),
        pytest.param({"hues_q12": [4096]}, id="hue that is no list"),
        pytest.param({"hues_q12": []}, id="no hues"),
        pytest.param({"blurs_px": [17]}, id="blur too wide"),
        pytest.param({"blurs_px": []}, id="no blurs"),
        pytest.param({"crop_ratios_q16": [65536]}, id="short table"),
        pytest.param({"kind": "other"}, id="other kind"),
    ],
)
def test_foreign_json_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(StoreError) as caught:
        policy_from_json(policy_of("first").to_json() | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"scale": (0.0, 1.0)}, "the crop scale is 0,1", id="no crop"),
        pytest.param({"local_scale": (0.4, 0.3)}, "the local scale is 0.4,0.3", id="descending"),
        pytest.param({"local_px": 225}, "--local-size with 1 to 224 px", id="local larger"),
        pytest.param({"size_px": 5000}, "size_px is 5000", id="too large"),
    ],
)
def test_bad_settings_are_refused_in_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        crops(**settings)


@pytest.mark.parametrize("view", [-1, 1 << 32])
def test_indices_out_of_range_are_refused(view: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        dino_params(policy_of("local"), "k", view, (9, 9))


if __name__ == "__main__":
    PATH.write_text(json.dumps(make_vectors(), ensure_ascii=False) + "\n", encoding="utf-8")
