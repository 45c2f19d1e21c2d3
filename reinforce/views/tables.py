"""Float settings -> integer tables, computed once when a policy is made and kept in it.

Whoever replays a policy reads the tables and needs neither exp, log nor sin. Fixed point: `q32` means value * 2^32,
`q16` value * 2^16.
"""

from __future__ import annotations

import math
from functools import lru_cache

MAGNITUDE_BINS = 31  # RandAugment magnitudes are 0..30, as in torchvision
NUM_RATIOS = 257
NUM_LAMBDAS = 256


def q32(value: float) -> int:
    """`value` in 0..1 as an integer in 0..2^32, rounded to nearest."""
    return round(value * (1 << 32))


def ratio_table(lowest: float, highest: float) -> tuple[int, ...]:
    """257 aspect ratios (width / height, q16) from `lowest` to `highest`, evenly spaced in their logarithm."""
    growth = math.log(highest / lowest)
    return tuple(round(65536 * lowest * math.exp(growth * k / (NUM_RATIOS - 1))) for k in range(NUM_RATIOS))


@lru_cache(maxsize=16)
def lambda_table(alpha: float) -> tuple[int, ...]:
    """256 quantiles, times 256 and rounded, of max(x, 1 - x) for x ~ Beta(alpha, alpha): integers in 128..256.

    Entry k belongs to probability (k + 1/2) / 256. Folding at 1/2 leaves the law of mixed pairs as it is (MixUp, arXiv
    1710.09412, is symmetric in its two images) but makes a sample the larger part of its own views; unfolded, 15 % of
    the views at alpha = 0.2 would be copies of the partner's.
    """
    # value v is chosen where F(v - 1/2) <= p < F(v + 1/2), F the folded distribution: no quantile has to be inverted
    steps = [2 * _beta_cdf((j + 0.5) / 256, alpha) - 1 for j in range(128, 256)]
    return tuple(128 + sum(step <= (k + 0.5) / NUM_LAMBDAS for step in steps) for k in range(NUM_LAMBDAS))


def randaugment_table(size_px: int, magnitude: int) -> tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]:
    """The 14 operations of torchvision's RandAugment at one magnitude (0..30) as (name, args if +, args if -).

    Shears in q16; translations in px; rotations as (cos, sin) in q16; enhancement factors in 1/256; posterize in
    bits kept; solarize as the lowest level that is inverted.
    """
    level = magnitude / (MAGNITUDE_BINS - 1)
    shear = round(65536 * 0.3 * level)
    shift = 150 * size_px * magnitude // (331 * (MAGNITUDE_BINS - 1))
    angle = math.radians(30 * level)
    cos, sin = round(65536 * math.cos(angle)), round(65536 * math.sin(angle))
    gain = round(256 * 0.9 * level)
    bits = 8 - (8 * magnitude + (MAGNITUDE_BINS - 1)) // (2 * (MAGNITUDE_BINS - 1))
    threshold = 255 - 255 * magnitude // (MAGNITUDE_BINS - 1)
    signed = (
        ("identity", (), ()),
        ("shear_x", (shear,), (-shear,)),
        ("shear_y", (shear,), (-shear,)),
        ("translate_x", (shift,), (-shift,)),
        ("translate_y", (shift,), (-shift,)),
        ("rotate", (cos, sin), (cos, -sin)),
        *((name, (256 + gain,), (256 - gain,)) for name in ("brightness", "color", "contrast", "sharpness")),
    )
    unsigned = (("posterize", (bits,)), ("solarize", (threshold,)), ("autocontrast", ()), ("equalize", ()))
    return signed + tuple((name, args, args) for name, args in unsigned)


def hue_table(degrees: float, num: int = 73) -> tuple[tuple[int, int, int], ...]:
    """`num` turns of the hue, evenly from -`degrees` to `degrees`: what R, G, B give to R, in 1/4096, together 4096.

    They are the first row of the rotation of RGB about its grey axis; the other rows are the same numbers, shifted.
    """
    turns = []
    for angle in _angles(degrees, num):
        own = round(4096 * (1 + 2 * math.cos(angle)) / 3)
        green = round(4096 * ((1 - math.cos(angle)) / 3 - math.sin(angle) / math.sqrt(3)))
        turns.append((own, green, 4096 - own - green))
    return tuple(turns)


def rotation_table(degrees: float, num: int = 81) -> tuple[tuple[int, int], ...]:
    """(cos, sin) in q16 of `num` angles, evenly from -`degrees` to `degrees`."""
    angles = _angles(degrees, num)
    return tuple((round(65536 * math.cos(angle)), round(65536 * math.sin(angle))) for angle in angles)


def blur_table(lowest_px: float, highest_px: float, limit_px: int, num: int = 65) -> tuple[int, ...]:
    """`num` radii r of binomial filters, 0..`limit_px`, whose standard deviations sqrt(r / 2) are evenly spaced.

    They go from `lowest_px` to `highest_px`, or to that of the smallest filter (r = 1) where this is more.
    """
    widest = max(highest_px, math.sqrt(0.5))
    stds = (lowest_px + (widest - lowest_px) * k / (num - 1) for k in range(num))
    return tuple(min(limit_px, round(2 * std * std)) for std in stds)


def _angles(degrees: float, num: int) -> list[float]:
    """In radians, symmetric about an exact 0."""
    half = num // 2
    return [math.radians(degrees * step / half) for step in range(-half, half + 1)]


def _beta_cdf(x: float, alpha: float) -> float:
    """Regularised incomplete beta function I_x(alpha, alpha) for x > 1/2 (Lentz's continued fraction, DLMF 8.17.22)."""
    y = 1 - x  # I_x(a, a) = 1 - I_y(a, a); the fraction converges fast below 1/2
    log_front = alpha * (math.log(y) + math.log(x)) + math.lgamma(2 * alpha) - 2 * math.lgamma(alpha)
    numerator, denominator = 1.0, 1 - 2 * alpha * y / (alpha + 1)
    denominator = 1 / denominator
    fraction = denominator
    for m in range(1, 300):
        even = m * (alpha - m) * y / ((alpha + 2 * m - 1) * (alpha + 2 * m))
        odd = -(alpha + m) * (2 * alpha + m) * y / ((alpha + 2 * m) * (alpha + 2 * m + 1))
        for term in (even, odd):
            denominator = 1 / (1 + term * denominator)
            numerator = 1 + term / numerator
            fraction *= numerator * denominator
        if abs(numerator * denominator - 1) < 1e-15:
            break
    return 1 - math.exp(log_front) * fraction / alpha
