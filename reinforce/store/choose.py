"""Which codec, and how coarse: measured on calibration views, before a build.

V = calibration views an image, R = calibration images, C = channels, N = cells of a map.

Targets are (V, R, C) rows of logits or of features, or (V, R, N, C) maps of them.

Every family's knob is turned until the mean error of images that it was not fitted on is just within the promise (less
a margin); the family that then takes the fewest bytes, its calibration arrays shared out over the store, wins.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.errors import UsageError
from reinforce.store.codecs.base import CodecFamily, TargetCodec, view_arrays
from reinforce.store.codecs.fp16 import Fp16Codec
from reinforce.store.codecs.int8 import Int8Family
from reinforce.store.codecs.kept_top1 import KeptTop1Family
from reinforce.store.codecs.klt import MAX_CHANNELS, KltFamily
from reinforce.store.codecs.klt_maps import KltMapsFamily
from reinforce.store.codecs.rounding import QUICK_SWEEPS, SWEEPS
from reinforce.store.codecs.sqrt_p import SqrtPFamily
from reinforce.store.codecs.top_k import TopKFamily
from reinforce.store.fidelity import FidelityStats
from reinforce.store.measures import Divergence, Measure
from reinforce.store.shapes import (
    DENSE_LOGITS,
    EMBEDDINGS,
    FEATURES,
    GLOBAL_FEATURES,
    LOGITS,
    PATCH_FEATURES,
    TEXT_FEATURES,
    MapShape,
    RowShape,
    TargetShape,
)

ZSTD_LEVELS = (3, 12, 19)
"""By effort: the default costs a build next to nothing, the last tens of microseconds to a millisecond a view."""
ROUNDED = "klt rounded"
KLT_SWEEPS = ({"klt": 0}, {"klt": 0, ROUNDED: QUICK_SWEEPS}, {ROUNDED: SWEEPS})
"""By effort: the kinds of klt that are tried, and how long rate-distortion rounding improves their digits."""
BYTES_MARGIN = 0.97
MARGIN, MARGIN_WITHOUT_SPILL = 0.85, 0.6
"""Share of the promise that calibration aims at: units differ, and a unit that breaks it is encoded again, finer; or,
with a codec that cannot spill, ends the build."""
FEWEST_ROWS = 16
"""From so many rows on it can be told what frames cost."""
FEWEST_IMAGES = 8
"""Below, nothing is held out, and a transform would be judged by the rows that it fits."""


@dataclass(frozen=True)
class FixedFamily:
    """A codec without a knob."""

    make: Callable[[], TargetCodec]
    knobs: tuple[None] = (None,)

    def codec(self, knob: None) -> TargetCodec:
        return self.make()


@dataclass(frozen=True, kw_only=True)
class CodecRequest:
    """What a codec must do, in a store of so many samples and views: keep a mean error by the measure, or, where
    `max_bytes` is given, give the least mean error within so many bytes a view."""

    max_error: float = 1e-3
    max_bytes: float | None = None
    measure: Measure
    num_samples: int
    num_views: int
    unit_rows: int
    effort: int = 1
    rounding_flops: float = math.inf
    """Operations that rounding a view may take at effort 1."""
    shape: TargetShape | None = None
    """Of one target; None for rows of logits."""
    keep_top1: bool = False
    """Of rows of logits: the largest class is the teacher's, always."""

    @property
    def zstd_level(self) -> int:
        return ZSTD_LEVELS[self.effort]


@dataclass(frozen=True)
class FittedFamily:
    """A family of codecs of rows, for targets of another shape."""

    family: CodecFamily
    shape: TargetShape

    @property
    def knobs(self) -> Sequence[Any]:
        return self.family.knobs

    def codec(self, knob: Any) -> TargetCodec:
        return self.shape.fitted(self.family.codec(knob))


SUITED = {
    LOGITS: ("klt", "sqrt-p", "top-k", "int8", "fp16"),
    DENSE_LOGITS: ("klt-maps", "sqrt-p", "int8", "fp16"),
    GLOBAL_FEATURES: ("klt", "int8", "fp16"),
    PATCH_FEATURES: ("klt-maps", "int8", "fp16"),
    TEXT_FEATURES: ("klt", "int8", "fp16"),
    EMBEDDINGS: ("fp16",),
}
"""Target -> the codecs that keep it."""


def check_codec(name: str | None, shape: TargetShape) -> None:
    """Raises UsageError for a forced codec that does not keep targets of this kind."""
    if name is not None and name not in SUITED[shape.target]:
        raise UsageError(f"--codec {name} does not keep {shape.target}: type {' or '.join(SUITED[shape.target])}")


Makers = Mapping[str, Callable[[], CodecFamily]]


def families(targets: NDArray[np.float32], request: CodecRequest) -> Makers:
    """Every family that suits the targets by its kind, made when called; a kind is a codec's name, and how it encodes.

    klt (for rows) and klt-maps are for not too many channels.
    """
    shape = _shape(targets, request)
    makers = _of_features(targets, request, shape) if shape.target in FEATURES else _of_logits(targets, request, shape)
    suited = SUITED[shape.target]
    if shape.num_channels > MAX_CHANNELS:
        suited = tuple(name for name in suited if not name.startswith("klt"))
    suiting = {kind: make for kind, make in makers.items() if codec_name(kind) in suited}
    if not request.keep_top1:
        return suiting
    return {kind: functools.partial(_keeping_top1, make) for kind, make in suiting.items()}


def _keeping_top1(make: Callable[[], CodecFamily]) -> CodecFamily:
    return KeptTop1Family(make())


def codec_name(kind: str) -> str:
    return kind.partition(" ")[0]


def _of_logits(logits: NDArray[np.float32], request: CodecRequest, shape: TargetShape) -> Makers:
    measure = request.measure
    assert isinstance(measure, Divergence)
    temperature = measure.temperature
    rows: Makers = {
        "sqrt-p": lambda: SqrtPFamily(temperature=temperature),
        "top-k": lambda: TopKFamily(shape.num_channels, temperature=temperature),
        "int8": Int8Family,
        "fp16": lambda: FixedFamily(Fp16Codec),
    }
    if isinstance(shape, MapShape):
        own = functools.partial(KltMapsFamily.of_logits, logits, shape.height, shape.width, temperature=temperature)
        return {"klt-maps": own, **_fitted({name: rows[name] for name in ("sqrt-p", "int8", "fp16")}, shape)}
    klt = functools.partial(KltFamily.of_logits, logits, temperature=temperature, num_views=request.num_views,
                            quick_flops=request.rounding_flops)  # fmt: skip
    kinds = {kind: functools.partial(klt, sweeps=sweeps) for kind, sweeps in KLT_SWEEPS[request.effort].items()}
    return {**kinds, **rows}


def _of_features(features: NDArray[np.float32], request: CodecRequest, shape: TargetShape) -> Makers:
    rows: Makers = {
        "int8": lambda: Int8Family(absolute=True),
        "fp16": lambda: FixedFamily(lambda: Fp16Codec(absolute=True)),
    }
    if isinstance(shape, MapShape):
        own = functools.partial(KltMapsFamily.of_features, features, shape.height, shape.width)
        return {"klt-maps": own, **_fitted(rows, shape)}
    return {"klt": functools.partial(KltFamily.of_features, features, num_views=request.num_views), **rows}


def _fitted(makers: Makers, shape: TargetShape) -> Makers:
    """Families of rows, for the cells of maps."""
    return {name: functools.partial(_fitted_family, make, shape) for name, make in makers.items()}


def _fitted_family(make: Callable[[], CodecFamily], shape: TargetShape) -> CodecFamily:
    return FittedFamily(make(), shape)


def _shape(targets: NDArray[np.float32], request: CodecRequest) -> TargetShape:
    return request.shape or RowShape(targets.shape[-1])


@dataclass(frozen=True)
class Measured:
    """A codec on held-out images: one point of a rate-distortion curve."""

    kind: str
    error: float
    """Mean, by the request's measure."""
    bytes_per_view: float
    """With its share of the calibration arrays."""

    def to_json(self, measure: Measure) -> dict[str, Any]:
        return {"codec": self.kind, measure.prefix: self.error, "bytes_per_view": self.bytes_per_view}


@dataclass(frozen=True)
class Choice:
    """The codec of a store, and all that was measured on the way to it, by kind and from exact to coarse."""

    codec: TargetCodec
    measured: tuple[Measured, ...]


@dataclass(frozen=True)
class Candidate:
    """A family at the knob that just keeps the promise; else at the nearest to it."""

    kind: str
    knob: Any
    error: float
    bytes_per_view: float
    allowed_error: float
    """Of the promise, so much that units which are harder than the calibration views keep it, too."""
    measured: tuple[Measured, ...]

    def keeps(self, request: CodecRequest) -> bool:
        return (
            self.error <= self.allowed_error if request.max_bytes is None else self.bytes_per_view <= request.max_bytes
        )


def calibrate(targets: NDArray[np.float32], request: CodecRequest, name: str | None = None) -> Choice:
    """The best codec (of all, or of the named kind) that keeps the promise on images it was not fitted on.

    Best is cheapest, or with `max_bytes` most exact. Raises UsageError, saying what can be had, where none does.
    """
    fitted_on, held_out = _split(targets)
    makers = families(fitted_on, request)
    check_codec(name, _shape(targets, request))
    if fitted_on is held_out:
        makers = {kind: make for kind, make in makers.items() if not kind.startswith("klt")}
    wanted = {kind: make for kind, make in makers.items() if name in (None, codec_name(kind))}
    sized = held_out if held_out.shape[1] >= FEWEST_ROWS else targets
    found = [_candidate(kind, make(), held_out, sized, request) for kind, make in wanted.items()]
    good = [candidate for candidate in found if candidate.keeps(request)]
    if not good:
        raise UsageError(_what_can_be_had(found, request, name))
    best = min(good, key=lambda c: c.bytes_per_view if request.max_bytes is None else c.error)
    codec = families(targets, request)[best.kind]().codec(best.knob)
    return Choice(codec, tuple(point for candidate in found for point in candidate.measured))


def _what_can_be_had(found: Sequence[Candidate], request: CodecRequest, name: str | None) -> str:
    if not found:
        return f"--codec {name} needs {FEWEST_IMAGES} images or more to calibrate on: type fp16 or int8"
    what = f"codec {name} does not keep" if name else "no codec keeps"
    if request.max_bytes is not None:
        least = min(c.bytes_per_view for c in found) / BYTES_MARGIN
        return f"{what} within {request.max_bytes:g} bytes a view: type --max-bytes {_rounded_up(least)} or more"
    nearest = min(found, key=lambda c: c.error / c.allowed_error)
    least = request.max_error * nearest.error / nearest.allowed_error
    measure = request.measure
    return f"{what} a mean {measure.words} of {request.max_error:g}: type {measure.option} {_rounded_up(least)} or more"


def _rounded_up(value: float) -> str:
    """To two digits, never below the value."""
    scale = 10.0 ** (math.floor(math.log10(value)) - 1) if value > 0 else 1.0
    return f"{math.ceil(value / scale * (1 - 1e-12)) * scale:.3g}"


def mean_error(codec: TargetCodec, targets: NDArray[np.float32], measure: Measure,
               shape: TargetShape | None = None) -> float:  # fmt: skip
    """By the measure, at the codec's own fineness, as `shape` looks at it (default: of all rows)."""
    num_channels, shape = targets.shape[-1], shape or RowShape(targets.shape[-1])
    try:
        arrays = codec.encode(targets)
    except ValueError:  # a range that this codec cannot take
        return math.inf
    stats = []
    for view, rows in shape.sample(len(targets), np.ones(targets.shape[1], np.bool_)):
        decoded = codec.decode(view_arrays(codec, arrays, view, num_channels))
        stats.append(shape.fidelity(targets[view, rows], decoded[rows], measure))
    return FidelityStats.merge_all(stats, measure).mean


def bytes_per_view(codec: TargetCodec, targets: NDArray[np.float32], request: CodecRequest) -> float:
    """What a view would take in the store, without the calibration arrays, which all views share.

    Every frame of zstd costs some bytes whatever it holds. Where there are fewer rows here than a unit has, half of
    them shows how much that is.
    """
    num_rows = int(targets.shape[1])
    try:
        units = [codec.encode(targets[:, start : start + request.unit_rows])
                 for start in range(0, num_rows, request.unit_rows)]  # fmt: skip
    except ValueError:
        return math.inf
    whole = sum(_unit_bytes(codec, unit, targets.shape, num_rows, request) for unit in units) / num_rows
    if not FEWEST_ROWS <= num_rows < request.unit_rows:
        return whole
    half_rows = num_rows // 2
    half = _unit_bytes(codec, units[0], targets.shape, half_rows, request) / half_rows
    per_frame = max(0.0, half - whole) / (1 / half_rows - 1 / num_rows)
    return whole - per_frame * (1 / num_rows - 1 / request.unit_rows)


def _unit_bytes(codec: TargetCodec, arrays: Mapping[str, NDArray[Any]], shape: Sequence[int], num_rows: int,
                request: CodecRequest) -> float:  # fmt: skip
    """Bytes of the first `num_rows` rows (or fewer) of a unit's arrays, for one view."""
    num_views, num_channels = shape[0], shape[-1]
    total = 0.0
    for name, spec in codec.arrays(num_channels).items():
        parts = arrays[name] if spec.per_view else arrays[name][None]
        kept = parts[:, :num_rows] if spec.per_row else parts
        width = spec.chunk_columns(request.num_views, kept.shape[1])
        packed = sum(_packed_bytes(chunk, spec.items_last, request.zstd_level)
                     for part in kept for chunk in _chunks(part, width))  # fmt: skip
        total += packed / (num_views if spec.per_view else request.num_views)
    return float(total)


def _shared_bytes(codec: TargetCodec, request: CodecRequest) -> float:
    """A view's share of the calibration arrays."""
    shared = sum(_packed_bytes(values, False, request.zstd_level) for values in codec.calibration().values())
    return shared / (request.num_samples * request.num_views)


def _chunks(part: NDArray[Any], width: int) -> list[NDArray[Any]]:
    return [part] if part.ndim < 2 else [part[..., i : i + width] for i in range(0, part.shape[-1], width)]


def _packed_bytes(values: NDArray[Any], items_last: bool, level: int) -> int:
    """Bytes of a chunk, with its checksum and its entry in the shard's index."""
    from numcodecs.zstd import Zstd

    ordered = np.moveaxis(values, -1, 0) if items_last else values
    return len(Zstd(level).encode(np.ascontiguousarray(ordered))) + 20


def _split(targets: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Three images of four to fit on, the fourth held out; all for both where there are few."""
    if targets.shape[1] < FEWEST_IMAGES:
        return targets, targets
    held_out = np.arange(targets.shape[1]) % 4 == 3
    return targets[:, ~held_out], targets[:, held_out]


def _candidate(kind: str, family: CodecFamily, held_out: NDArray[np.float32], sized: NDArray[np.float32],
               request: CodecRequest) -> Candidate:  # fmt: skip
    """The family's knob that just keeps the promise, found by bisection: errors of `held_out`, bytes of `sized`."""

    @functools.cache
    def codec(index: int) -> TargetCodec:
        return family.codec(family.knobs[index])

    @functools.cache
    def error(index: int) -> float:
        return mean_error(codec(index), held_out, request.measure, request.shape)

    @functools.cache
    def size(index: int) -> float:
        return bytes_per_view(codec(index), sized, request) + _shared_bytes(codec(index), request)

    visited = set()

    def look(index: int) -> int:
        visited.add(index)
        return index

    allowed = request.max_error * (MARGIN if codec(0).can_spill else MARGIN_WITHOUT_SPILL)
    if request.max_bytes is None:
        index = _last_that(lambda i: error(look(i)) <= allowed, len(family.knobs))
    else:
        room = request.max_bytes * BYTES_MARGIN
        index = _first_that(lambda i: size(look(i)) <= room, len(family.knobs))
    points = (Measured(kind, error(i), size(i)) for i in sorted({*visited, index}))
    measured = tuple(point for point in points if math.isfinite(point.error + point.bytes_per_view))
    return Candidate(kind, family.knobs[index], error(index), size(index), allowed, measured)


def _last_that(holds: Callable[[int], bool], count: int) -> int:
    """The last index at which `holds`, which is true up to some index and false from there on; 0 where it never is."""
    good, bad = 0, count
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return good


def _first_that(holds: Callable[[int], bool], count: int) -> int:
    """The first index at which `holds`, which is false up to some index and true from there on; else the last index."""
    return 0 if holds(0) else min(count - 1, _last_that(lambda i: not holds(i), count) + 1)
