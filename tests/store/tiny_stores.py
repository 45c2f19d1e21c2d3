"""A store small enough to look at: 3 units of 4 rows, one padded, one row skipped, 3 views, 5 classes.

Its targets are rows of logits, or within `targets_of(MAPS)` maps of 2 x 3 cells.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from reinforce.store.codecs import ArraySpec, Fp16Codec, TargetCodec, codec_record
from reinforce.store.finalize import finalize
from reinforce.store.marker import SkippedRow, commit_unit, read_marker
from reinforce.store.measures import CosineDistance, Divergence, Measure
from reinforce.store.objects import LocalObjects, Objects
from reinforce.store.promise import Promise, encode_within
from reinforce.store.schema import Schema
from reinforce.store.shapes import FEATURES, GLOBAL_FEATURES, PATCH_FEATURES, MapShape, RowShape, TargetShape
from reinforce.store.writer import SampleColumns, create_store, write_probes

NUM_VIEWS, UNIT_ROWS, NUM_CLASSES = 3, 4, 5
UNITS = ((0, 0, 4), (0, 4, 6), (1, 6, 10))
KEYS = ("a.jpg", "b c.jpg", "d/é.png", "d/f.png", "g.png", "h.png", "\udcff.png", "j.png", "k.png", "l" * 70)
SKIPPED = {2: (1, "truncated file")}
ROWS, MAPS = RowShape(NUM_CLASSES), MapShape(NUM_CLASSES, 2, 3, 8)
FEATURE_ROWS = RowShape(NUM_CLASSES, GLOBAL_FEATURES)
FEATURE_MAPS = MapShape(NUM_CLASSES, 2, 3, 8, PATCH_FEATURES)
_shape: list[TargetShape] = [ROWS]


@contextlib.contextmanager
def targets_of(shape: TargetShape) -> Iterator[TargetShape]:
    """Everything that is built within has targets of this shape."""
    _shape.append(shape)
    try:
        yield shape
    finally:
        _shape.pop()


def exact_codec() -> Fp16Codec:
    """The codec that keeps these targets nearly as they are."""
    return Fp16Codec(absolute=_shape[-1].target in FEATURES)


class EveryAxisCodec:
    """What schemes to come will need: calibration arrays, a step per view and unit, a mean per row, class-major codes.

    Not a good codec: z = mean over views + step * codes + prior.
    """

    name: ClassVar[str] = "every-axis"
    formula: ClassVar[str] = "logits = means + steps * codes + prior"
    num_levels: ClassVar[int] = 1
    can_spill: ClassVar[bool] = False

    def __init__(self, prior_C: np.ndarray, bits: int) -> None:
        self.prior_C, self.bits = prior_C.astype(np.float32), bits

    def parameters(self) -> dict[str, Any]:
        return {"bits": self.bits}

    def calibration(self) -> dict[str, np.ndarray]:
        return {"prior": self.prior_C}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any], calibration: Mapping[str, np.ndarray]) -> EveryAxisCodec:
        return cls(calibration["prior"], parameters["bits"])

    @classmethod
    def calibration_shapes(cls, parameters: Mapping[str, Any], num_classes: int) -> dict[str, tuple[int, ...]]:
        return {"prior": (num_classes,)}

    def arrays(self, num_classes: int) -> dict[str, ArraySpec]:
        return {
            "codes": ArraySpec(dtype=f"int{self.bits}", shape=(num_classes,), items_last=True),
            "means": ArraySpec(dtype="float32", per_view=False),
            "steps": ArraySpec(dtype="float32", per_row=False),
            "checks": ArraySpec(dtype="uint8", per_view=False, per_row=False),
        }

    def encode(
        self, targets_VRC: np.ndarray, *, level: int = 0, spilled_VR: np.ndarray | None = None,
        shared: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:  # fmt: skip
        if not np.isfinite(targets_VRC).all():
            raise ValueError("targets hold NaN or infinity")
        means = targets_VRC.mean(axis=(0, 2), dtype=np.float32) if shared is None else shared["means"]
        rest = targets_VRC - means[None, :, None] - self.prior_C
        steps = (np.abs(rest).max(axis=(1, 2), initial=1e-6) / (2 ** (self.bits - 1) - 1)).astype(np.float32)
        codes = np.rint(rest / steps[:, None, None]).astype(f"int{self.bits}")
        return {"codes": codes, "means": means, "steps": steps[:, None], "checks": np.full(1, 7, np.uint8)}

    def decode(self, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
        assert arrays["checks"].tolist() == [7]
        if not np.isfinite(arrays["means"]).all() or not np.isfinite(arrays["steps"]).all():
            raise ValueError("means or steps hold NaN or infinity")
        return (arrays["means"][:, None] + arrays["steps"] * arrays["codes"] + self.prior_C).astype(np.float32)


def plan_of(codec: TargetCodec, /, **changes: Any) -> dict[str, Any]:
    is_features = _shape[-1].target in FEATURES
    measure: Measure = CosineDistance() if is_features else Divergence(1.0)
    plan = {
        "format": 1,
        **_shape[-1].to_json(),
        "views": NUM_VIEWS,
        "unit_rows": UNIT_ROWS,
        "units": [list(unit) for unit in UNITS],
        "num_samples": len(KEYS),
        "dimensions" if is_features else "classes": NUM_CLASSES,
        "class_names": [] if is_features else ["ant", "bee", "cat", "dog", "élan"],
        "policy": {"version": 1, "size_px": 8},
        "teacher": {"sha256": "0" * 64},
        "transfer": {"name": "tiny", "digest": "1" * 64, "shards": []},
        "codec": codec_record(codec),
        "promise": {f"max_{measure.prefix}": 0.01, **measure.to_json()},
        "environment": {},
        "batch_size": 4,
        "batch_rows": 4,
    }
    return plan | changes


def columns() -> SampleColumns:
    numbers = np.arange(len(KEYS))
    return SampleColumns(
        keys=KEYS,
        sha64=(numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)),
        width=(numbers * 10 + 1).astype(np.int32),
        height=(numbers * 7).astype(np.int32),
    )


def unit_targets(unit: int, seed: int = 0) -> np.ndarray:
    """(V, U, *item) logits; padding and skipped rows are zero. Made of dyadic numbers: equal on every machine."""
    shape = (NUM_VIEWS, UNIT_ROWS, *_shape[-1].item_shape)
    words = np.random.Philox(key=[seed, unit]).random_raw(math.prod(shape)) >> 52
    targets = (words.astype(np.float32) / 256 - 8).reshape(shape)
    targets[:, ~ok_rows(unit)] = 0
    return targets


def ok_rows(unit: int) -> np.ndarray:
    _, start, stop = UNITS[unit]
    ok_U = np.arange(UNIT_ROWS) < stop - start
    if unit in SKIPPED:
        ok_U[SKIPPED[unit][0]] = False
    return ok_U


def commit(objects: Objects, schema: Schema, codec: TargetCodec, unit: int, max_kl: float = 0.1) -> None:
    codec = schema.shape.fitted(codec)
    encoded = encode_within(schema, codec, unit, unit_targets(unit), ok_rows(unit), Promise(max_error=max_kl))
    commit_unit(objects, schema, unit, encoded.contents, encoded.fidelity, skipped_rows(unit))


def skipped_rows(unit: int) -> list[SkippedRow]:
    if unit not in SKIPPED:
        return []
    row, reason = SKIPPED[unit]
    return [SkippedRow(row, KEYS[UNITS[unit][1] + row], reason)]


def build(objects: Objects, codec: TargetCodec | None = None, order: tuple[int, ...] = (0, 1, 2), *,
          max_kl: float = 0.1) -> list[int]:  # fmt: skip
    """A whole build, or the rest of one; returns the units that it had to compute."""
    codec = codec or exact_codec()
    plan = plan_of(codec)
    schema = create_store(objects, plan, codec, columns())
    pixels = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    write_probes(objects, pixels, {"probes": []})
    finished = objects.exists("manifest.json")
    computed = [unit for unit in order if not finished and read_marker(objects, unit) is None]
    for unit in computed:
        commit(objects, schema, codec, unit, max_kl)
    finalize(objects, plan)
    return computed


def contents_of(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if not p.is_dir()}


def build_at(root: Path, codec: TargetCodec | None = None, **options: Any) -> LocalObjects:
    objects = LocalObjects(root)
    build(objects, codec, **options)
    return objects
