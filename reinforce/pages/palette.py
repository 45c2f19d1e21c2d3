"""One colour for each class, the same wherever a page shows it: in maps, legends and tables.

    C = classes, P = the palette's colours

The first twelve colours are chosen by hand, each later one is as far in OKLab (Björn Ottosson, 2020) from all before it
as the candidates allow: the first twenty are told apart at a glance, 255 are different. All keep away from near-black,
which is padding's, from white, and from the grey of the class "background".
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NUM_COLOURS = 255
"""Later classes begin again with the first colour."""
BACKGROUND_RGB = (136, 136, 136)
"""Of a class whose name is "background": grey, so that the other classes stand out."""
PADDING_RGB = (30, 30, 30)
FIRST_RGB = (
    (59, 117, 208),
    (240, 140, 30),
    (46, 160, 85),
    (220, 55, 55),
    (140, 80, 200),
    (55, 200, 220),
    (240, 130, 190),
    (235, 215, 60),
    (150, 15, 105),
    (205, 205, 255),
    (120, 75, 0),
    (0, 225, 105),
)
_STEP = 15  # between the candidates' levels
_LIGHTNESS, _CHROMA = (0.45, 0.88), (0.06, 0.22)  # of the candidates, in OKLab: neither grey nor glaring
_LMS = ((0.4122214708, 0.5363325363, 0.0514459929), (0.2119034982, 0.6806995451, 0.1073969566),
        (0.0883024619, 0.2817188376, 0.6299787005))  # fmt: skip
_LAB = ((0.2104542553, 0.7936177850, -0.0040720468), (1.9779984951, -2.4285922050, 0.4505937099),
        (0.0259040371, 0.7827717662, -0.8086757660))  # fmt: skip


def class_colours(class_names: Sequence[str]) -> NDArray[np.uint8]:
    """(C, 3) sRGB. Class c has the palette's colour c mod 255, but "background" (in any case) is grey."""
    colours_C3 = palette()[np.arange(len(class_names)) % NUM_COLOURS]
    is_background = [name.strip().lower() == "background" for name in class_names]
    colours_C3[is_background] = BACKGROUND_RGB
    return colours_C3


def css(rgb: NDArray[np.uint8]) -> str:
    """(3,) -> "#rrggbb"."""
    return "#" + "".join(f"{level:02x}" for level in rgb.tolist())


def oklab(rgb_P3: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(P, 3) sRGB -> (P, 3) lightness, a, b: equal distances look about equally far."""
    encoded = rgb_P3 / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear @ np.transpose(_LMS)) @ np.transpose(_LAB), np.float64)


@functools.cache
def palette() -> NDArray[np.uint8]:
    """(255, 3) sRGB; not to be changed."""
    candidates = _candidates()
    labs = oklab(candidates)
    chosen = list(FIRST_RGB)
    distances = np.min([_distances(labs, rgb) for rgb in (*chosen, BACKGROUND_RGB, PADDING_RGB)], axis=0)
    while len(chosen) < NUM_COLOURS:
        farthest = int(distances.round(6).argmax())  # rounded: ties must not hang on a machine's last bit
        chosen.append(tuple(candidates[farthest].tolist()))
        distances = np.minimum(distances, _distances(labs, chosen[-1]))
    return np.array(chosen, np.uint8)


def _candidates() -> NDArray[np.uint8]:
    levels = np.arange(0, 256, _STEP, dtype=np.uint8)
    rgb_P3 = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    lightness, a, b = oklab(rgb_P3).T
    chosen = _lies_in(lightness, _LIGHTNESS) & _lies_in(np.hypot(a, b), _CHROMA)
    return np.asarray(rgb_P3[chosen], np.uint8)


def _lies_in(values_P: NDArray[np.float64], bounds: tuple[float, float]) -> NDArray[np.bool_]:
    return (values_P > bounds[0]) & (values_P < bounds[1])


def _distances(labs_P3: NDArray[np.float64], rgb: tuple[int, ...]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(labs_P3 - oklab(np.array([rgb], np.uint8)), axis=1), np.float64)
