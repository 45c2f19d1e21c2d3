"""What was done to an image, in words. Shares are of the image's area, of the view's, or of the partner's."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from reinforce.views import DenseParams, DinoParams, Params, ViewParams

FIELD_STD = (4 * (256**2 - 1) / 12) ** 0.5
"""Of the sum of four random bytes that noise is made of."""


def in_words(params: Params, image_size: tuple[int, int], size_px: int) -> str:
    """ "crop 43 %, flip, posterize, CutMix 30 %" or "shorter side 96 px, hue +12°, rotation −3°, padding 8 %".

    `image_size` is the working image's (width, height).
    """
    if isinstance(params, DenseParams):
        parts = _dense_parts(params, image_size, size_px)
    else:
        parts = _parts(params, image_size, size_px)
    return ", ".join(re.sub(r" (?=[%×+−σ\d]|px)", "\u00a0", part) for part in parts)


def rotation_degrees(cos_q16: int, sin_q16: int) -> float:
    return math.degrees(math.atan2(sin_q16, cos_q16))


def hue_degrees(own_q12: int, green_q12: int, blue_q12: int) -> float:
    """The turn about the grey axis whose first row the three numbers are, as `views.tables.hue_table` makes it."""
    cos, sin = (3 * own_q12 - 4096) / 2, (blue_q12 - green_q12) * math.sqrt(3) / 2
    return math.degrees(math.atan2(sin, cos))


def degrees(angle: float) -> str:
    """-3.2 -> "−3°"."""
    return f"{round(angle):+d}°".replace("-", "−") if round(angle) else "0°"


def _parts(params: ViewParams | DinoParams, image_size: tuple[int, int], size_px: int) -> list[str]:
    *_, width, height = params.crop
    parts = [f"crop {100 * width * height / (image_size[0] * image_size[1]):.0f} %"]
    parts += ["flip"] if params.flip else []
    parts += [op[0].replace("_", " ") for op in params.ops if op[0] != "identity"]
    if params.erase is not None:
        parts.append(f"erase {100 * params.erase[2] * params.erase[3] / size_px**2:.0f} %")
    if params.mix is not None and params.mix[0] == "mixup":
        parts.append(f"MixUp {100 * (256 - params.mix[2]) / 256:.0f} %")
    elif params.mix is not None:
        *_, width, height = params.mix[2]
        parts.append(f"CutMix {100 * width * height / size_px**2:.0f} %")
    return parts


def _dense_parts(params: DenseParams, image_size: tuple[int, int], size_px: int) -> list[str]:
    parts = [f"shorter side {_resized_px(params, image_size)} px"]
    parts += ["flip"] if params.flip else []
    parts += [_DENSE_OPS[name](*arguments) for name, *arguments in params.ops]
    parts += [] if params.rotate is None else [f"rotation {degrees(rotation_degrees(*params.rotate))}"]
    padding = 1 - float(params.placement(size_px).valid().mean())
    return [*parts, f"padding {100 * padding:.0f} %"] if padding else parts


def _resized_px(params: DenseParams, image_size: tuple[int, int]) -> int:
    """Of the whole image as resized, from the longer side of the part that is shown."""
    old, new = max(zip(params.box[2:], params.content[2:], strict=True))
    return round(min(image_size) * new / old)


def _factor(name: str) -> Callable[[int], str]:
    return lambda factor_q8: f"{name} ×{factor_q8 / 256:.2f}"


_DENSE_OPS: dict[str, Callable[..., str]] = {
    "brightness": _factor("brightness"),
    "contrast": _factor("contrast"),
    "saturation": _factor("saturation"),
    "hue": lambda *turn: f"hue {degrees(hue_degrees(*turn))}",
    "blur": lambda radius_px: f"blur {radius_px} px",
    "noise": lambda factor_q16, field: f"noise σ {factor_q16 * FIELD_STD / 65536:.0f}",
}
