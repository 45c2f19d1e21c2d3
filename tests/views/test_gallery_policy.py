"""A gallery's views: the whole image first, then crops, each exactly what the policy of its part gives."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from reinforce.errors import StoreError, UsageError
from reinforce.views import GalleryPolicy, UnitReplayer, named_policy, policy_from_json, resolve_policy

KEYS = ("a/0.png", "b/1.png")
POLICY = named_policy("gallery", size_px=24, seed=7)
assert isinstance(POLICY, GalleryPolicy)


def encoded(row: int) -> bytes:
    rng, file = np.random.default_rng(row), io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (50, 40 + 30 * row, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def views_of(policy: Any, row: int, views: range) -> list[np.ndarray]:
    replayer = UnitReplayer(policy, KEYS, encoded)
    return [replayer.view(row, view) for view in views]


@pytest.mark.parametrize("row", [0, 1])
def test_view_0_is_the_central_square_and_others_are_crops(row: int) -> None:
    whole, *crops = views_of(POLICY, row, range(4))
    np.testing.assert_array_equal(whole, views_of(named_policy("center", size_px=24), row, range(1))[0])
    np.testing.assert_array_equal(crops, views_of(POLICY.crops, row, range(1, 4)))
    assert len({crop.tobytes() for crop in crops}) == 3


def test_crops_are_the_papers() -> None:
    document = POLICY.crops.to_json()
    assert [share / (1 << 32) for share in document["crop_scale_q32"]] == pytest.approx([0.08, 1])
    assert (document["num_ops"], document["flip_q32"], document["erase_q32"], POLICY.mixes) == (2, 0, 0, False)


def test_json_round_trip() -> None:
    document = json.loads(json.dumps(POLICY.to_json()))
    assert policy_from_json(document) == POLICY
    assert policy_from_json(document).digest() == POLICY.digest()


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"whole": {}}, {"crops": None}, {"whole": []}, {"more": 1}, {"kind": ["gallery"]}],
)
def test_refuses_other_documents(change: dict[str, Any]) -> None:
    with pytest.raises((StoreError, UsageError)):
        policy_from_json(POLICY.to_json() | change)


def test_refuses_parts_that_do_not_belong_together() -> None:
    other = resolve_policy(name="crops", size_px=24, seed=8)
    with pytest.raises(UsageError, match="another seed"):
        GalleryPolicy(name="x", whole=POLICY.whole, crops=other)
    mixed = resolve_policy(name="mixed", size_px=24, seed=7, mixup_prob=0.5)
    with pytest.raises(UsageError, match="one image each"):
        GalleryPolicy(name="x", whole=POLICY.whole, crops=mixed)
