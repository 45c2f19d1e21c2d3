"""How far the targets of two stores are apart, where they are of the same views: two teachers, codecs or machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.counting import counted
from reinforce.store import DENSE_LOGITS, FidelityStats
from reinforce.store.part import StorePart

COMPARED_ROWS, COMPARED_MAPS = 4096, 64
COMPARED_UNITS = 16
"""Among which the sample is spread: a unit is read and hashed whole."""


class NotComparedError(Exception):
    """The stores do not hold targets of the same views; the message is the end of a sentence."""


@dataclass(frozen=True)
class TargetDifference:
    views: int
    """(Image, view) pairs whose targets were compared."""
    units: int
    """Of the first store, among which these are spread."""
    figures: dict[str, float]
    """As in a certificate: of logits kl_mean, _p50, _p99, _max of KL(a || b) in nats at a's temperature and
    top1_agreement; of features the same of cosine_distance."""

    def __str__(self) -> str:
        agreement = self.figures.get("top1_agreement")
        agrees = "" if agreement is None else f", top-1 agreement {agreement:.2%}"
        words = "cosine distance" if agreement is None else f"KL(a || b) at temperature {self.figures['temperature']:g}"
        mean, p99, worst = (next(value for name, value in self.figures.items() if name.endswith(f"_{figure}"))
                            for figure in ("mean", "p99", "max"))  # fmt: skip
        return (f"{counted(self.views, 'view')} of {counted(self.units, 'unit')}: {words} mean {mean:.2g}, "
                f"p99 {p99:.2g}, worst {worst:.2g}{agrees}")  # fmt: skip


def compare_targets(a: StorePart, b: StorePart, sample: int | None = None) -> TargetDifference:
    """Over about `sample` views that both have. Raises NotComparedError, CorruptStoreError."""
    _check_comparable(a, b)
    wanted = sample if sample is not None else COMPARED_MAPS if a.plan["target"] == DENSE_LOGITS else COMPARED_ROWS
    if wanted == 0:
        raise NotComparedError("--sample 0")
    shared = [unit for unit in range(a.schema.num_units) if a.marker(unit) is not None and b.marker(unit) is not None]
    if not shared:
        raise NotComparedError("no unit is done in both")
    chosen = [shared[i] for i in np.unique(np.linspace(0, len(shared) - 1, COMPARED_UNITS).astype(int)).tolist()]
    num_views = min(a.schema.num_views, b.schema.num_views)
    stats, compared = FidelityStats(measure=a.schema.measure), 0
    for number, unit in enumerate(chosen):
        of_a, of_b = _pair(a, b, unit, number % num_views, -(-wanted // len(chosen)))
        stats = stats.merge(a.schema.shape.fidelity(of_a, of_b, a.schema.measure))
        compared += len(of_a)
    return TargetDifference(compared, len(chosen), stats.certified())


def _check_comparable(a: StorePart, b: StorePart) -> None:
    same: dict[str, tuple[Any, Any]] = {
        "targets": (a.plan["target"], b.plan["target"]),
        "transfer sets": (a.plan["transfer"]["digest"], b.plan["transfer"]["digest"]),
        "view policies": (a.plan["policy"], b.plan["policy"]),
        "first views": (a.schema.first_view, b.schema.first_view),
        "units, within which views are mixed,": (a.schema.units, b.schema.units),
        "classes": (a.schema.class_names, b.schema.class_names),
        "shapes": (a.schema.shape, b.schema.shape),
    }
    for what, (one, other) in same.items():
        if one != other:
            raise NotComparedError(f"the {what} differ")


def _pair(a: StorePart, b: StorePart, unit: int, view: int, count: int) -> list[NDArray[np.float32]]:
    """(B, *item_shape) of a and of b: targets of up to `count` samples of a unit, evenly spread."""
    markers = [marker for part in (a, b) if (marker := part.marker(unit)) is not None]
    skipped = {row.row_in_unit for marker in markers for row in marker.skipped}
    shared = np.setdiff1d(np.arange(a.schema.unit_size(unit)), list(skipped))
    num_rows = min(count, len(shared))
    rows = shared[np.arange(num_rows) * len(shared) // max(1, num_rows)]
    return [part.targets(marker, view)[rows] for part, marker in zip((a, b), markers, strict=True)]
