"""Slow and plain second implementation of DINO's crops, from the text of `reinforce.views.dino_params` alone."""

from __future__ import annotations

from fractions import Fraction
from itertools import permutations
from math import floor
from typing import Any

import dense_oracles
import numpy as np
import view_oracles


def params(policy: dict[str, Any], key: str, view: int, size: tuple[int, int]) -> dict[str, Any]:
    """What `dino_params(...).to_json()` must be, from the policy's JSON."""
    u = [w >> 32 for w in view_oracles.words(policy["seed"], key, view, 51)]
    below = [lambda n, value=value: floor(Fraction(value, 1 << 32) * n) for value in u]
    tried = (view_oracles._box(below[4 * a : 4 * a + 4], size, policy, "crop") for a in range(10))
    crop = next((box for box in tried if box), None) or view_oracles._central(size, policy["crop_ratios_q16"])
    ops: list[list[Any]] = []
    if u[41] < policy["jitter_q32"]:
        jitters = {}
        for word, name in ((43, "brightness"), (44, "contrast"), (45, "saturation")):
            low, high = policy[f"{name}_q8"]
            jitters[name] = [name, low + below[word](high - low + 1)]
        jitters["hue"] = ["hue", *policy["hues_q12"][below[46](len(policy["hues_q12"]))]]
        ops += [jitters[name] for name in list(permutations(jitters))[below[42](24)]]
    ops += [["grey"]] if u[47] < policy["grey_q32"] else []
    if u[48] < policy["blur_q32"]:
        radius = policy["blurs_px"][below[49](len(policy["blurs_px"]))]
        ops += [["blur", 4]] * (radius // 4) + ([["blur", radius % 4]] if radius % 4 else [])
    ops += [["solarize", 128]] if u[50] < policy["solarize_q32"] else []
    return {"crop": crop, "flip": u[40] < policy["flip_q32"], "ops": ops}


def view(image: np.ndarray, drawn: dict[str, Any], policy: dict[str, Any]) -> np.ndarray:
    """A crop of a working image, from `params` and the policy's JSON."""
    out = view_oracles.resize(image, tuple(drawn["crop"]), policy["size_px"])
    out = out[:, ::-1] if drawn["flip"] else out
    for name, *arguments in drawn["ops"]:
        if name == "grey":
            out = dense_oracles.op(out, ("saturation", 0))
        elif name == "solarize":
            out = np.where(out >= arguments[0], 255 - out, out)
        else:
            out = dense_oracles.op(out, (name, *arguments))
    return out
