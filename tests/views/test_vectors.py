"""vectors.json: what an implementation in another language must reproduce, and what this one must never change.

`python tests/views/test_vectors.py` writes it anew, for a new policy version only.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import view_oracles
from PIL import Image
from view_images import pattern

from reinforce.data.keys import hash64
from reinforce.views import ViewPolicy, named_policy, replay, replay_stages, view_params
from reinforce.views.decode import reduction_factor
from reinforce.views.fingerprint import pixels_checksum
from reinforce.views.params import ViewParams
from reinforce.views.words import draw_words

PATH = Path(__file__).with_name("vectors.json")
ROWS: list[tuple[str, int, int]] = [("a.jpg", 100, 75), ("b/ü 图.png", 40, 90), ("c", 33, 33), ("d.webp", 7, 120)]
NUM_VIEWS = 8


def make_vectors() -> dict[str, Any]:
    policy = named_policy("classification", size_px=32, seed=20)
    return {
        "about": "Test vectors of view policy version 1, explained in docs/store-format.md. Image n of the unit has at "
        "column x, row y, channel c (0 = red) the level (5x + 3y + 60c + (x y (n + 1)) div 9 + 40n) mod 256; "
        "it is the working image: nothing is decoded.",
        "policy": policy.to_json(),
        "policy_digest": policy.digest(),
        "unit": [{"key": key, "hash64": f"{hash64(key):016x}", "size": [w, h]} for key, w, h in ROWS],
        "words": [
            {"key": key, "view": view, "first": [f"{w:016x}" for w in draw_words(policy.seed, key, view, 6)]}
            for key, view in [("a.jpg", 0), ("a.jpg", 1), ("b/ü 图.png", (1 << 32) - 1)]
        ],
        "views": [_view(policy, row, view) for row in range(len(ROWS)) for view in range(NUM_VIEWS)],
        "reduction_factors": [
            {"size": [w, h], "size_px": s, "factor": reduction_factor(w, h, s)}
            for w, h, s in [(500, 375, 112), (896, 896, 112), (4000, 3000, 112), (13000, 13000, 224), (1, 1, 1)]
        ],
    }


def _image(row: int) -> Image.Image:
    return Image.fromarray(pattern(ROWS[row][1], ROWS[row][2], row))


def _params(policy: ViewPolicy, row: int, view: int) -> ViewParams:
    key, width, height = ROWS[row]
    return view_params(policy, key, view, (width, height), len(ROWS), row)


def _view(policy: ViewPolicy, row: int, view: int) -> dict[str, Any]:
    params = _params(policy, row, view)
    partner = None
    if params.mix is not None:
        row_params = replace(_params(policy, params.mix[1], view), mix=None)
        partner = replay(_image(params.mix[1]), row_params, policy)
    stages = replay_stages(_image(row), params, policy, partner)
    return {
        "row": row,
        "view": view,
        "params": params.to_json(),
        "stages": [[stage, pixels_checksum(pixels)] for stage, pixels in stages],
    }


VECTORS = json.loads(PATH.read_text(encoding="utf-8")) if PATH.exists() else {}


def test_vectors_are_reproduced() -> None:
    assert json.loads(json.dumps(make_vectors())) == VECTORS


def test_vectors_show_every_kind_of_stage() -> None:
    kinds = {stage.partition(":")[2] or stage for view in VECTORS["views"] for stage, _ in view["stages"]}
    assert kinds == {"decode", "crop", "flip", "erase", "mixup", "cutmix"} | {op[0] for op in VECTORS["policy"]["ops"]}


@pytest.mark.parametrize("index", range(0, len(ROWS) * NUM_VIEWS, 3))
def test_the_oracle_reproduces_them_without_this_library(index: int) -> None:
    """The test's own second implementation reads the JSON alone: what the document says is enough."""
    policy, unit, entry = VECTORS["policy"], VECTORS["unit"], VECTORS["views"][index]

    def finished(row: int) -> tuple[dict[str, Any], np.ndarray]:
        size = tuple(unit[row]["size"])
        drawn = view_oracles.params(policy, unit[row]["key"], entry["view"], size, len(unit), row)
        return drawn, view_oracles.single(pattern(*size, row), drawn, policy)

    drawn, pixels = finished(entry["row"])
    assert drawn == entry["params"]
    if drawn["mix"]:
        pixels = view_oracles.mixed(pixels, finished(drawn["mix"][1])[1], drawn["mix"])
    assert pixels_checksum(pixels) == entry["stages"][-1][1]


if __name__ == "__main__":
    PATH.write_text(json.dumps(make_vectors(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
