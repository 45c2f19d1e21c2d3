"""dense_vectors.json: the test vectors of dense policies, as vectors.json are those of the others.

`python tests/views/test_dense_vectors.py` writes it anew, for a new policy version only.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import dense_oracles
import numpy as np
import pytest
from PIL import Image
from view_images import pattern

from reinforce.views import DensePolicy, dense_params, replay_stages, resolve_dense_policy
from reinforce.views.fingerprint import pixels_checksum
from reinforce.views.words import draw_words, noise_words

PATH = Path(__file__).with_name("dense_vectors.json")
ROWS: list[tuple[str, int, int]] = [("a.jpg", 100, 75), ("b/ü 图.png", 40, 90), ("c", 33, 33), ("d.webp", 7, 120)]
NUM_VIEWS = 8
NUM_CLASSES = 10


def make_vectors() -> dict[str, Any]:
    policies = [
        resolve_dense_policy(
            name="all", size_px=32, seed=20, distort_prob=0.5, blur_prob=0.5, noise_prob=0.5, rotate_prob=0.75
        ),
        resolve_dense_policy(name="whole", size_px=32, short_side=None, flip_prob=0),
    ]
    return {
        "about": "Test vectors of dense view policies, version 1, explained in docs/store-format.md. Image n has at "
        "column x, row y, channel c (0 = red) the level (5x + 3y + 60c + (x y (n + 1)) div 9 + 40n) mod 256; it is the "
        "working image: nothing is decoded. Its mask has twice its size, and at column x, row y the class "
        "(x div 8 + y div 8) mod 10. The checksums of valid and labels are those of S x S images of one channel.",
        "images": [{"key": key, "size": [w, h]} for key, w, h in ROWS],
        "words": [f"{word:016x}" for word in draw_words(20, "a.jpg", 0, 20)],
        "noise_words": {"field": 7, "first": [f"{word:016x}" for word in noise_words(7, 6).tolist()]},
        "policies": [_vectors_of(policy) for policy in policies],
    }


def _vectors_of(policy: DensePolicy) -> dict[str, Any]:
    num_views = NUM_VIEWS if policy.short_px else 1
    views = [_view(policy, row, view) for row in range(len(ROWS)) for view in range(num_views)]
    return {"policy": policy.to_json(), "policy_digest": policy.digest(), "views": views}


def mask_of(row: int) -> np.ndarray:
    _, width, height = ROWS[row]
    y, x = np.mgrid[: 2 * height, : 2 * width]
    return ((x // 8 + y // 8) % NUM_CLASSES).astype(np.uint8)


def _view(policy: DensePolicy, row: int, view: int) -> dict[str, Any]:
    key, width, height = ROWS[row]
    params = dense_params(policy, key, view, (width, height))
    placement = params.placement(policy.size_px)
    stages = replay_stages(Image.fromarray(pattern(width, height, row)), params, policy)
    return {
        "row": row,
        "view": view,
        "params": params.to_json(),
        "stages": [[stage, pixels_checksum(pixels)] for stage, pixels in stages],
        "valid": _plane_checksum(placement.valid()),
        "labels": _plane_checksum(placement.labels((width, height), mask_of(row))),
    }


def _plane_checksum(plane: np.ndarray) -> str:
    return pixels_checksum(plane.astype(np.uint8)[..., None])


VECTORS = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}


def test_vectors_are_reproduced() -> None:
    assert json.loads(json.dumps(make_vectors())) == VECTORS


def test_vectors_show_every_kind_of_stage() -> None:
    kinds = {stage for part in VECTORS["policies"] for view in part["views"] for stage, _ in view["stages"]}
    assert kinds == {"decode", "crop", "flip", *dense_oracles.OPS, "pad", "rotate"}


@pytest.mark.parametrize(("part", "index"), [*((0, i) for i in range(0, len(ROWS) * NUM_VIEWS, 3)), (1, 0), (1, 3)])
def test_the_oracle_reproduces_them_without_this_library(part: int, index: int) -> None:
    """The test's own second implementation reads the JSON alone: what the document says is enough."""
    policy, entry = VECTORS["policies"][part]["policy"], VECTORS["policies"][part]["views"][index]
    row, side = entry["row"], policy["size_px"]
    size = tuple(VECTORS["images"][row]["size"])
    drawn = dense_oracles.params(policy, VECTORS["images"][row]["key"], entry["view"], size)
    assert drawn == entry["params"]
    pixels = dense_oracles.view(pattern(*size, row), drawn, policy)
    assert pixels_checksum(pixels) == entry["stages"][-1][1]
    assert _plane_checksum(dense_oracles.valid(drawn, side)) == entry["valid"]
    assert _plane_checksum(dense_oracles.labels(mask_of(row), drawn, side, size)) == entry["labels"]


if __name__ == "__main__":
    PATH.write_text(json.dumps(make_vectors(), ensure_ascii=False) + "\n", encoding="utf-8")
