"""Slow and plain second implementations of dense views, from the text of the store format alone.

No Pillow here: images are uint8 arrays (H, W, 3), coordinates are exact fractions.
"""

from __future__ import annotations

from fractions import Fraction
from math import comb, floor
from typing import Any

import numpy as np
import view_oracles

HALF = Fraction(1, 2)


def params(policy: dict[str, Any], key: str, view: int, size: tuple[int, int]) -> dict[str, Any]:
    """What `dense_params(...).to_json()` must be, from the policy's JSON."""
    u = [w >> 32 for w in view_oracles.words(policy["seed"], key, view, 20)]

    def below(word: int, num: int) -> int:
        return floor(Fraction(u[word], 1 << 32) * num)

    def between(word: int, bounds: list[int]) -> int:
        return bounds[0] + below(word, bounds[1] - bounds[0] + 1)

    def distortion(name: str, word: int) -> list[list[Any]]:
        return [[name, between(word + 1, policy[f"{name}_q8"])]] if u[word] < policy["distort_q32"] else []

    side, bounds = policy["size_px"], policy["short_px"]
    scale = Fraction(between(0, bounds), min(size)) if bounds else Fraction(side, max(size))
    axes = []
    for axis in (0, 1):
        resized = max(1, min((1 << 31) - 1, floor(size[axis] * scale + HALF)))
        spare = resized - side
        place = min(spare, 0) + below(1 + axis, abs(spare) + 1) if bounds else -((side - resized) // 2)
        axes.append(_axis(size[axis], resized, place, side))
    contrast = distortion("contrast", 7)
    first = below(4, 2) == 0
    ops = distortion("brightness", 5) + (contrast if first else []) + distortion("saturation", 9)
    ops += [["hue", *policy["hues_q12"][below(12, len(policy["hues_q12"]))]]] if u[11] < policy["distort_q32"] else []
    ops += [] if first else contrast
    ops += [["blur", between(14, policy["blur_px"])]] if u[13] < policy["blur_q32"] else []
    ops += [["noise", between(16, policy["noise_q16"]), u[17]]] if u[15] < policy["noise_q32"] else []
    angles = policy["rotations_q16"]
    return {
        "box": [axes[0][0], axes[1][0], axes[0][1], axes[1][1]],
        "content": [axes[0][2], axes[1][2], axes[0][3], axes[1][3]],
        "flip": u[3] < policy["flip_q32"],
        "ops": ops,
        "rotate": angles[below(19, len(angles))] if u[18] < policy["rotate_q32"] else None,
    }


def _axis(num: int, resized: int, place: int, side: int) -> tuple[int, int, int, int]:
    """Start and length in the working image, start and length in the view: what lies in both window and image."""
    first, last = max(place, 0), min(place + side, resized)
    start = min(num - 1, floor(Fraction(first * num, resized) + HALF))
    end = max(start + 1, floor(Fraction(last * num, resized) + HALF))
    return start, end - start, first - place, last - first


def hue(image: np.ndarray, a: int, b: int, c: int) -> np.ndarray:
    matrix = np.array([[a, b, c], [c, a, b], [b, c, a]])
    return np.clip(image.astype(np.int64) @ matrix.T + 2048 >> 12, 0, 255).astype(np.uint8)


def blur(image: np.ndarray, radius: int) -> np.ndarray:
    for axis in (1, 0):
        image = np.apply_along_axis(_blurred_line, axis, image, radius)
    return image


def _blurred_line(line: np.ndarray, radius: int) -> np.ndarray:
    levels, out = line.tolist(), []
    for x in range(len(levels)):
        taken = [levels[min(max(x + i - radius, 0), len(levels) - 1)] for i in range(2 * radius + 1)]
        exact = Fraction(sum(comb(2 * radius, i) * v for i, v in enumerate(taken)), 4**radius)
        out.append(floor(exact + HALF))
    return np.array(out, dtype=np.uint8)


def noise(image: np.ndarray, scale: int, field: int) -> np.ndarray:
    out = image.astype(np.int64).reshape(-1)
    for j in range(len(out)):
        word = view_oracles.philox4x64((1 + j // 2 // 4, 0, 1, 0), (0, field))[j // 2 % 4]
        total = sum(word.to_bytes(8, "little")[4 * (j % 2) : 4 * (j % 2) + 4])
        out[j] += floor(Fraction(scale * (total - 510), 65536) + HALF)
    return np.clip(out, 0, 255).astype(np.uint8).reshape(image.shape)


OPS = {
    "brightness": lambda image, factor: view_oracles.OPS["brightness"](image, (0, 0, 0), factor),
    "contrast": lambda image, factor: view_oracles.OPS["contrast"](image, (0, 0, 0), factor),
    "saturation": lambda image, factor: view_oracles.OPS["color"](image, (0, 0, 0), factor),
    "hue": hue,
    "blur": blur,
    "noise": noise,
}


def op(image: np.ndarray, drawn: tuple[Any, ...]) -> np.ndarray:
    return OPS[drawn[0]](image, *drawn[1:])


def view(image: np.ndarray, drawn: dict[str, Any], policy: dict[str, Any]) -> np.ndarray:
    """A view of a working image, from `params` and the policy's JSON."""
    left, top, width, height = drawn["content"]
    content = view_oracles.resize_box(image, tuple(drawn["box"]), (width, height))
    if drawn["flip"]:
        content = content[:, ::-1]
    for one in drawn["ops"]:
        content = op(content, tuple(one))
    out = np.empty((policy["size_px"], policy["size_px"], 3), dtype=np.uint8)
    out[:] = policy["fill"]
    out[top : top + height, left : left + width] = content
    return view_oracles.rotated(out, tuple(policy["fill"]), *drawn["rotate"]) if drawn["rotate"] else out


def labels(mask: np.ndarray, drawn: dict[str, Any], side: int, working_size: tuple[int, int]) -> np.ndarray:
    """One pixel after the other, back through rotation, padding, flip, crop and reduction."""
    out = np.full((side, side), 255, dtype=np.uint8)
    for row in range(side):
        for column in range(side):
            place = _original(column, row, drawn, side)
            if place is not None:
                shares = [at / num for at, num in zip(place, working_size, strict=True)]
                out[row, column] = mask[floor(shares[1] * mask.shape[0]), floor(shares[0] * mask.shape[1])]
    return out


def valid(drawn: dict[str, Any], side: int) -> np.ndarray:
    return np.array(
        [[_original(column, row, drawn, side) is not None for column in range(side)] for row in range(side)]
    )


def _original(column: int, row: int, drawn: dict[str, Any], side: int) -> tuple[Fraction, Fraction] | None:
    """Where the working image is sampled for a pixel of the view; None where it is not."""
    x, y = column + HALF, row + HALF
    if drawn["rotate"]:
        cos, sin = (Fraction(q, 65536) for q in drawn["rotate"])
        c = Fraction(side, 2)
        x, y = cos * (x - c) + sin * (y - c) + c, -sin * (x - c) + cos * (y - c) + c
        x, y = floor(x) + HALF, floor(y) + HALF
    (left, top, width, height), box = drawn["content"], drawn["box"]
    if not (left < x < left + width and top < y < top + height):
        return None
    x, y = x - left, y - top
    x = width - x if drawn["flip"] else x
    return box[0] + x * Fraction(box[2], width), box[1] + y * Fraction(box[3], height)
