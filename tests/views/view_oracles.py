"""Slow and plain second implementations of everything in reinforce.views, from the text of the store format alone.

No Pillow here: images are uint8 arrays (H, W, 3), coordinates are exact fractions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from fractions import Fraction
from math import floor, isqrt
from typing import Any

import numpy as np

MASK64 = (1 << 64) - 1


def philox4x64(counter: tuple[int, int, int, int], key: tuple[int, int]) -> tuple[int, int, int, int]:
    """Ten rounds of Philox4x64 (Salmon et al. 2011)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        product0, product1 = 0xD2E7470EE14C6C93 * c0, 0xCA5A826395121157 * c2
        c0, c1, c2, c3 = (product1 >> 64) ^ c1 ^ k0, product1 & MASK64, (product0 >> 64) ^ c3 ^ k1, product0 & MASK64
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) & MASK64, (k1 + 0xBB67AE8584CAA73B) & MASK64
    return c0, c1, c2, c3


def words(seed: int, key: str, view: int, num: int = 104) -> list[int]:
    key64 = int(hashlib.sha256(key.encode()).hexdigest()[:16], 16)
    return [philox4x64((1 + i // 4, view, 0, 0), (seed, key64))[i % 4] for i in range(num)]


def params(
    policy: dict[str, Any], key: str, view: int, size: tuple[int, int], num_rows: int, row: int
) -> dict[str, Any]:
    """What `view_params(...).to_json()` must be, from the policy's JSON."""
    u = [w >> 32 for w in words(policy["seed"], key, view)]
    side = policy["size_px"]
    below = [lambda n, value=value: floor(Fraction(value, 1 << 32) * n) for value in u]
    tried = (_box(below[4 * a : 4 * a + 4], size, policy, "crop") for a in range(policy["crop_attempts"]))
    crop = next((b for b in tried if b), None) or _central(size, policy["crop_ratios_q16"])
    ops = []
    for j in range(policy["num_ops"]):
        name, plus, minus = policy["ops"][below[48 + 2 * j](len(policy["ops"]))]
        ops.append([name, *(minus if u[49 + 2 * j] >= 1 << 31 else plus)])
    erase = None
    if u[41] < policy["erase_q32"]:
        tried = (_box(below[64 + 4 * a : 68 + 4 * a], (side, side), policy, "erase") for a in range(10))
        erase = next((b for b in tried if b), None)
    mix = _mix(policy, u, below, num_rows, row)
    return {"crop": crop, "flip": u[40] < policy["flip_q32"], "ops": ops, "erase": erase, "mix": mix}


def _box(below: list[Any], size: tuple[int, int], policy: dict[str, Any], part: str) -> list[int] | None:
    width, height = size
    low, high = policy[f"{part}_scale_q32"]
    area = floor(Fraction(low + below[0](high - low + 1), 1 << 32) * width * height)
    ratio = Fraction(policy[f"{part}_ratios_q16"][below[1](257)], 65536)
    w, h = isqrt(floor(area * ratio)), isqrt(floor(area / ratio))
    largest = 0 if part == "crop" else 1  # an erased box is smaller than the view
    if not (0 < w <= width - largest and 0 < h <= height - largest):
        return None
    return [below[2](width - w + 1), below[3](height - h + 1), w, h]


def _central(size: tuple[int, int], ratios: list[int]) -> list[int]:
    width, height = w, h = size
    low, high = Fraction(ratios[0], 65536), Fraction(ratios[-1], 65536)
    if Fraction(width, height) < low:
        h = max(1, min(height, floor(width / low)))
    elif Fraction(width, height) > high:
        w = max(1, min(width, floor(height * high)))
    return [(width - w) // 2, (height - h) // 2, w, h]


def _mix(policy: dict[str, Any], u: list[int], below: list[Any], num_rows: int, row: int) -> list[Any] | None:
    side = policy["size_px"]
    if num_rows == 1 or u[42] >= policy["mixup_q32"] + policy["cutmix_q32"]:
        return None
    others = [(row + step) % num_rows for step in range(1, num_rows)]
    partner = others[below[43](num_rows - 1)]
    if u[42] < policy["mixup_q32"]:
        weight = policy["mixup_lambdas"][below[44](256)]
        return ["mixup", partner, weight] if weight < 256 else None
    cut = isqrt(floor(Fraction(256 - policy["cutmix_lambdas"][below[44](256)], 256) * side * side))
    x, y = below[45](side), below[46](side)
    columns = [c for c in range(x - cut // 2, x - cut // 2 + cut) if 0 <= c < side]
    rows = [r for r in range(y - cut // 2, y - cut // 2 + cut) if 0 <= r < side]
    if not columns or not rows:
        return None
    return ["cutmix", partner, [columns[0], rows[0], len(columns), len(rows)]]


def resize(image: np.ndarray, crop: tuple[int, int, int, int], side: int) -> np.ndarray:
    return resize_box(image, crop, (side, side))


def resize_box(image: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, int]) -> np.ndarray:
    left, top, width, height = box
    wide = _resize_axis(image, left, width, size[0])
    return _resize_axis(wide.swapaxes(0, 1), top, height, size[1]).swapaxes(0, 1)


def _resize_axis(image: np.ndarray, start: int, length: int, side: int) -> np.ndarray:
    """Columns resampled by triangle weights in 2^-22, the sum rounded half up."""
    scale = Fraction(length, side)
    support = max(Fraction(1), scale)
    columns = []
    for x in range(side):
        center = start + (x + Fraction(1, 2)) * scale
        first = max(0, floor(center - support + Fraction(1, 2)))
        last = min(image.shape[1], floor(center + support + Fraction(1, 2)))
        weights = [max(Fraction(0), 1 - abs(i + Fraction(1, 2) - center) / support) for i in range(first, last)]
        fixed = [floor(w / sum(weights) * (1 << 22) + Fraction(1, 2)) for w in weights]
        total = sum(image[:, i].astype(np.int64) * w for i, w in zip(range(first, last), fixed, strict=True))
        columns.append(np.clip(total + (1 << 21) >> 22, 0, 255))
    return np.stack(columns, axis=1).astype(np.uint8)


def affine(image: np.ndarray, rows: list[list[Fraction]], fill: tuple[int, int, int]) -> np.ndarray:
    side = len(image)
    out = np.empty_like(image)
    half = Fraction(1, 2)
    for r in range(side):
        for c in range(side):
            x, y = (a * (c + half) + b * (r + half) + t for a, b, t in rows)
            out[r, c] = _bilinear(image, x, y) if 0 <= x < side and 0 <= y < side else fill
    return out


def _bilinear(image: np.ndarray, x: Fraction, y: Fraction) -> list[int]:
    last = len(image) - 1
    left, top = floor(x - Fraction(1, 2)), floor(y - Fraction(1, 2))
    dx, dy = x - Fraction(1, 2) - left, y - Fraction(1, 2) - top
    x0, x1 = max(0, left), min(last, left + 1)
    y0, y1 = max(0, top), min(last, top + 1)
    pixel = []
    for channel in image.transpose(2, 0, 1).tolist():
        upper = channel[y0][x0] * (1 - dx) + channel[y0][x1] * dx
        lower = channel[y1][x0] * (1 - dx) + channel[y1][x1] * dx
        pixel.append(floor(upper * (1 - dy) + lower * dy))
    return pixel


def grey(image: np.ndarray) -> np.ndarray:
    return (image.astype(np.int64) @ np.array([19595, 38470, 7471]) + 32768) >> 16


def _blend(base: Any, image: np.ndarray, factor: int) -> np.ndarray:
    values = image.astype(np.int64)
    return np.clip((256 * base + factor * (values - base)) >> 8, 0, 255).astype(np.uint8)


def _smooth(image: np.ndarray) -> np.ndarray:
    values = image.astype(np.int64)
    out = values.copy()
    height, width = image.shape[:2]
    for r in range(1, height - 1):
        for c in range(1, width - 1):
            total = values[r - 1 : r + 2, c - 1 : c + 2].sum(axis=(0, 1)) + 4 * values[r, c]
            out[r, c] = (2 * total + 13) // 26
    return out


def _shift(image: np.ndarray, fill: tuple[int, int, int], dx: int, dy: int) -> np.ndarray:
    side = len(image)
    out = np.empty_like(image)
    for r in range(side):
        for c in range(side):
            inside = 0 <= r - dy < side and 0 <= c - dx < side
            out[r, c] = image[r - dy, c - dx] if inside else fill
    return out


def _autocontrast(image: np.ndarray) -> np.ndarray:
    low, high = image.min(axis=(0, 1)).astype(np.int64), image.max(axis=(0, 1)).astype(np.int64)
    stretched = 255 * (image - low) // np.maximum(1, high - low)
    return np.where(high > low, stretched, image).astype(np.uint8)


def _equalize(image: np.ndarray) -> np.ndarray:
    out = image.copy()
    for c in range(3):
        band = image[..., c]
        step = int((band != band.max()).sum()) // 255
        if step:
            for v in range(256):
                out[..., c][band == v] = min(255, (step // 2 + int((band < v).sum())) // step)
    return out


def _sheared(image: np.ndarray, fill: tuple[int, int, int], x_from_y: int, y_from_x: int) -> np.ndarray:
    one, nil = Fraction(1), Fraction(0)
    return affine(image, [[one, Fraction(x_from_y, 65536), nil], [Fraction(y_from_x, 65536), one, nil]], fill)


def rotated(image: np.ndarray, fill: tuple[int, int, int], cos_q16: int, sin_q16: int) -> np.ndarray:
    cos, sin, half = Fraction(cos_q16, 65536), Fraction(sin_q16, 65536), Fraction(len(image), 2)
    rows = [[cos, sin, half - cos * half - sin * half], [-sin, cos, half + sin * half - cos * half]]
    return affine(image, rows, fill)


def _contrast(image: np.ndarray, fill: tuple[int, int, int], factor: int) -> np.ndarray:
    mean = floor(Fraction(int(grey(image).sum()), grey(image).size) + Fraction(1, 2))
    return _blend(mean, image, factor)


OPS: dict[str, Callable[..., np.ndarray]] = {
    "identity": lambda image, fill: image,
    "shear_x": lambda image, fill, shear: _sheared(image, fill, shear, 0),
    "shear_y": lambda image, fill, shear: _sheared(image, fill, 0, shear),
    "translate_x": lambda image, fill, shift: _shift(image, fill, shift, 0),
    "translate_y": lambda image, fill, shift: _shift(image, fill, 0, shift),
    "rotate": rotated,
    "brightness": lambda image, fill, factor: _blend(0, image, factor),
    "contrast": _contrast,
    "color": lambda image, fill, factor: _blend(grey(image)[..., None], image, factor),
    "sharpness": lambda image, fill, factor: _blend(_smooth(image), image, factor),
    "posterize": lambda image, fill, bits: image // (1 << 8 - bits) * (1 << 8 - bits),
    "solarize": lambda image, fill, threshold: np.where(image < threshold, image, 255 - image),
    "autocontrast": lambda image, fill: _autocontrast(image),
    "equalize": lambda image, fill: _equalize(image),
}


def op(image: np.ndarray, drawn: tuple[Any, ...], fill: tuple[int, int, int]) -> np.ndarray:
    return OPS[drawn[0]](image, fill, *drawn[1:])


def single(image: np.ndarray, drawn: dict[str, Any], policy: dict[str, Any]) -> np.ndarray:
    """A view before mixing, from `params` and the policy's JSON."""
    view = resize(image, tuple(drawn["crop"]), policy["size_px"])
    if drawn["flip"]:
        view = view[:, ::-1]
    for one in drawn["ops"]:
        view = op(view, tuple(one), tuple(policy["fill"]))
    if drawn["erase"]:
        left, top, width, height = drawn["erase"]
        view = view.copy()
        view[top : top + height, left : left + width] = policy["fill"]
    return view


def mixed(own: np.ndarray, partner: np.ndarray, mix: list[Any]) -> np.ndarray:
    if mix[0] == "mixup":
        return ((mix[2] * own.astype(int) + (256 - mix[2]) * partner.astype(int) + 128) // 256).astype(np.uint8)
    left, top, width, height = mix[2]
    inside = np.zeros(own.shape, dtype=bool)
    inside[top : top + height, left : left + width] = True
    return np.where(inside, partner, own)


def over_white(rgba: np.ndarray) -> np.ndarray:
    color, alpha = rgba[..., :3].astype(np.int64), rgba[..., 3:].astype(np.int64)
    return ((2 * (color * alpha + 255 * (255 - alpha)) + 255) // 510).astype(np.uint8)


def block_means(image: np.ndarray, factor: int) -> np.ndarray:
    height, width = (n // factor for n in image.shape[:2])
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor, 3).astype(np.int64)
    return ((blocks.sum(axis=(1, 3)) + factor * factor // 2) // (factor * factor)).astype(np.uint8)
