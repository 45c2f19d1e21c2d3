"""Which codec, and how coarse: measured on calibration views, before a build.

V = calibration views an image, R = calibration images, C = classes.

Every family's knob is turned until the mean KL of images that it was not fitted on is just within the promise (less a
margin); the family that then takes the fewest bytes, its calibration arrays shared out over the store, wins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from reinforce.errors import UsageError
from reinforce.store.codecs.base import CodecFamily, TargetCodec, view_arrays
from reinforce.store.codecs.fp16 import Fp16Codec
from reinforce.store.codecs.int8 import Int8Codec
from reinforce.store.codecs.klt import MAX_CLASSES, KltFamily
from reinforce.store.codecs.sqrt_p import SqrtPFamily
from reinforce.store.codecs.top_k import TopKFamily
from reinforce.store.fidelity import row_kl

MARGIN = 0.85
"""Share of the promise that calibration aims at: units differ, and finer ones cost more than a little care."""


@dataclass(frozen=True)
class FixedFamily:
    """A codec without a knob."""

    make: Callable[[], TargetCodec]
    knobs: tuple[None] = (None,)

    def codec(self, knob: None) -> TargetCodec:
        return self.make()


@dataclass(frozen=True, kw_only=True)
class CodecRequest:
    """What a codec must do: keep a mean KL (nats) at a temperature, in a store of so many samples and views."""

    max_kl: float
    temperature: float
    num_samples: int
    num_views: int
    unit_rows: int
    zstd_level: int = 3


def families(logits_VRC: NDArray[np.float32], request: CodecRequest) -> dict[str, Callable[[], CodecFamily]]:
    """Every family by the name of its codec; those that cannot take so many classes are left out."""
    temperature, num_views = request.temperature, request.num_views
    found: dict[str, Callable[[], CodecFamily]] = {
        "klt": lambda: KltFamily(logits_VRC, temperature=temperature, num_views=num_views),
        "sqrt-p": lambda: SqrtPFamily(logits_VRC, temperature=temperature, num_views=num_views),
        "top-k": lambda: TopKFamily(logits_VRC, temperature=temperature, num_views=num_views),
        "int8": lambda: FixedFamily(Int8Codec),
        "fp16": lambda: FixedFamily(Fp16Codec),
    }
    if logits_VRC.shape[-1] > MAX_CLASSES:
        del found["klt"]
    return found


def calibrate(logits_VRC: NDArray[np.float32], request: CodecRequest, name: str | None = None) -> TargetCodec:
    """The cheapest codec (of all, or of the named kind) that keeps the promise on images it was not fitted on.

    Raises UsageError, saying what can be had, where none does.
    """
    fitted_on, held_out = _halves(logits_VRC)
    chosen: tuple[float, str, Any] | None = None
    best_kl = float("inf")
    for kind, make in families(fitted_on, request).items():
        if name not in (None, kind):
            continue
        family = make()
        knob, kl = _coarsest(family, held_out, request)
        best_kl = min(best_kl, kl)
        if kl <= request.max_kl * _margin(family):
            codec = family.codec(knob)
            cost = bytes_per_view(codec, held_out, request) + _shared_bytes(codec, request)
            if chosen is None or cost < chosen[0]:
                chosen = (cost, kind, knob)
    if chosen is None:
        what = f"codec {name} does not keep" if name else "no codec keeps"
        hint = f"{best_kl:.2g} is reached here, type --max-kl {best_kl * 1.5:.1g}"
        raise UsageError(f"{what} a mean KL of {request.max_kl:g}: {hint}")
    _, kind, knob = chosen
    return families(logits_VRC, request)[kind]().codec(knob)


def mean_kl(codec: TargetCodec, logits_VRC: NDArray[np.float32], temperature: float) -> float:
    """Mean KL(teacher || stored) in nats over all views, at the codec's own fineness."""
    arrays, num_classes = codec.encode(logits_VRC), logits_VRC.shape[-1]
    per_view = [
        row_kl(targets_RC, codec.decode(view_arrays(codec, arrays, view, num_classes)), temperature).mean()
        for view, targets_RC in enumerate(logits_VRC)
    ]
    return float(np.mean(per_view))


def bytes_per_view(codec: TargetCodec, logits_VRC: NDArray[np.float32], request: CodecRequest) -> float:
    """What a view would take in the store, without the calibration arrays, which all views share."""
    num_views, num_rows, num_classes = logits_VRC.shape
    total = 0.0
    for start in range(0, num_rows, request.unit_rows):
        arrays = codec.encode(logits_VRC[:, start : start + request.unit_rows])
        for name, spec in codec.arrays(num_classes).items():
            parts = arrays[name] if spec.per_view else arrays[name][None]
            packed = sum(_packed_bytes(part, spec.items_last, request.zstd_level) for part in parts)
            total += packed / (num_views if spec.per_view else request.num_views)
    return float(total / num_rows)


def _shared_bytes(codec: TargetCodec, request: CodecRequest) -> float:
    """A view's share of the calibration arrays."""
    shared = sum(_packed_bytes(values, False, request.zstd_level) for values in codec.calibration().values())
    return shared / (request.num_samples * request.num_views)


def _packed_bytes(values: NDArray[Any], items_last: bool, level: int) -> int:
    """Bytes of a chunk, with its checksum and its entry in the shard's index."""
    ordered = np.moveaxis(values, 0, -1) if items_last else values
    return len(Zstd(level).encode(np.ascontiguousarray(ordered))) + 20


def _halves(logits_VRC: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Every other image; all for both where there are few."""
    if logits_VRC.shape[1] < 8:
        return logits_VRC, logits_VRC
    return logits_VRC[:, ::2], logits_VRC[:, 1::2]


def _margin(family: CodecFamily) -> float:
    return MARGIN if len(family.knobs) > 1 else 1.0


def _coarsest(family: CodecFamily, held_out: NDArray[np.float32], request: CodecRequest) -> tuple[Any, float]:
    """The coarsest knob within the promise, by bisection, and its mean KL; else the most exact knob and its."""
    allowed = request.max_kl * _margin(family)
    kl_of: dict[int, float] = {}

    def kl(index: int) -> float:
        if index not in kl_of:
            kl_of[index] = mean_kl(family.codec(family.knobs[index]), held_out, request.temperature)
        return kl_of[index]

    good, bad = 0, len(family.knobs)
    if kl(0) > allowed:
        return family.knobs[0], kl(0)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if kl(middle) <= allowed else (good, middle)
    return family.knobs[good], kl(good)
