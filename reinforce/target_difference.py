"""How far the targets of two stores are apart, where they are of the same views: two teachers, codecs or machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.counting import counted
from reinforce.store import DENSE_LOGITS, FidelityStats
from reinforce.store.part import StorePart

COMPARED_ROWS, COMPARED_MAPS = 4096, 64
COMPARED_UNITS = 16
"""Among which the sample is spread, unless it takes more: a unit is read and hashed whole."""


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
    """Over `sample` views that both have, or all where there are fewer; one view of a unit is in memory at a time.

    Raises NotComparedError, CorruptStoreError.
    """
    _check_comparable(a, b)
    wanted = sample if sample is not None else COMPARED_MAPS if a.plan["target"] == DENSE_LOGITS else COMPARED_ROWS
    if wanted == 0:
        raise NotComparedError("--sample 0")
    num_views = min(a.schema.num_views, b.schema.num_views)
    shares = _shares(_shared_rows(a, b), num_views, wanted)
    stats = FidelityStats(measure=a.schema.measure)
    for number, (unit, share) in enumerate(shares.items()):
        for of_a, of_b in _pairs(a, b, unit, _counts(share, num_views, number, len(shares))):
            stats = stats.merge(a.schema.shape.fidelity(of_a, of_b, a.schema.measure))
    return TargetDifference(sum(share.count for share in shares.values()), len(shares), stats.certified())


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


@dataclass(frozen=True)
class _Share:
    """Of a unit, how many (row, view) pairs are compared, among how many rows that both have."""

    rows: int
    count: int


def _shared_rows(a: StorePart, b: StorePart) -> dict[int, int]:
    """Unit that is done in both -> rows that neither skipped. Raises NotComparedError."""
    found = {unit: len(rows) for unit in range(a.schema.num_units) if (rows := _rows(a, b, unit)) is not None}
    if not found:
        raise NotComparedError("no unit is done in both")
    if not any(found.values()):
        raise NotComparedError("no image of a unit that is done in both was decoded in both")
    return {unit: rows for unit, rows in found.items() if rows}


def _rows(a: StorePart, b: StorePart, unit: int) -> NDArray[np.int64] | None:
    markers = [a.marker(unit), b.marker(unit)]
    skipped = [row.row_in_unit for marker in markers if marker is not None for row in marker.skipped]
    return None if None in markers else np.setdiff1d(np.arange(a.schema.unit_size(unit)), skipped)


def _shares(rows: Mapping[int, int], num_views: int, wanted: int) -> dict[int, _Share]:
    """Evenly spread units that hold `wanted` pairs, or all units; of each as many as of any other, if it has them."""
    units, number = list(rows), min(COMPARED_UNITS, wanted)
    while True:
        chosen = [units[i * len(units) // number] for i in range(number)] if number < len(units) else units
        if chosen is units or sum(rows[unit] for unit in chosen) * num_views >= wanted:
            break
        number *= 2
    shares, left = {}, wanted
    for place, unit in enumerate(sorted(chosen, key=lambda unit: rows[unit])):
        count = min(rows[unit] * num_views, left // (len(chosen) - place))
        shares[unit], left = _Share(rows[unit], count), left - count
    return {unit: shares[unit] for unit in chosen if shares[unit].count}


def _counts(share: _Share, num_views: int, number: int, num_units: int) -> dict[int, int]:
    """View -> pairs of the `number`th of some units: as few views as hold the share, other ones from unit to unit, and
    all in some unit."""
    few = max(-(-share.count // share.rows), -(-num_views // num_units))
    some = min(few, num_views, share.count)
    views = [(number * some + i) % num_views for i in range(some)]
    return {view: share.count // some + (i < share.count % some) for i, view in enumerate(views)}


def _pairs(a: StorePart, b: StorePart, unit: int, counts: Mapping[int, int]) -> Iterator[list[NDArray[np.float32]]]:
    """(B, *item_shape) of a and of b, view by view: targets of so many samples of a unit, evenly spread."""
    shared = _rows(a, b, unit)
    units = [(part, marker, part.contents(marker)) for part in (a, b) if (marker := part.marker(unit)) is not None]
    assert shared is not None
    for view, count in counts.items():
        rows = shared[np.arange(count) * len(shared) // count]
        yield [part.targets(marker, contents, view)[rows] for part, marker, contents in units]
