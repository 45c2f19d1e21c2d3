"""Fidelity against bytes: what was promised, what calibration measured, what the store's own targets lost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from reinforce.pages import Curve, Mark, Plotter
from reinforce.store import Divergence, FidelityStats, Measure, Store

MAX_BARS, MAX_OCTAVES, MAX_POINTS = 48, 24, 500
_BINS_PER_OCTAVE, _LOW_EXPONENT = 8, -50  # of FidelityStats' histogram


@dataclass(frozen=True, kw_only=True)
class MeasuredPoint:
    """A codec's setting as calibration measured it."""

    codec: str
    bytes_per_view: float
    error: float
    """Mean, by the store's measure."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    num_views: int
    points: list[MeasuredPoint]


def read_calibration(plan: Mapping[str, Any], measure: Measure) -> Calibration | None:
    """What the plan keeps of its calibration; None in older stores, and where it is not as it should be."""
    try:
        record = plan["calibration"]
        points = [
            MeasuredPoint(
                codec=str(p["codec"]), bytes_per_view=float(p["bytes_per_view"]), error=float(p[measure.prefix])
            )
            for p in record["curve"]
        ]
        return Calibration(num_views=int(record["views"]), points=[p for p in points if _is_sound(p)][:MAX_POINTS])
    except (KeyError, TypeError, ValueError):
        return None


def _is_sound(point: MeasuredPoint) -> bool:
    return 0 < point.bytes_per_view < math.inf and 0 <= point.error < math.inf


def rate_distortion_plot(plotter: Plotter, store: Store, calibration: Calibration) -> Markup | None:
    """Error against bytes per view, one line per codec; points without loss have no place on a logarithmic axis."""
    drawn = [point for point in calibration.points if point.error > 0]
    if not drawn:
        return None
    certificate, measure = store.manifest.certificate, store.measure
    own = (float(certificate["bytes_per_view"]), float(certificate[f"{measure.prefix}_mean"]), "this store")
    promised = promised_error(store)
    return plotter.curves(
        [_curve(name, drawn) for name in dict.fromkeys(point.codec for point in drawn)],
        title=f"Mean {measure.words} against bytes per view of each codec, with this store's own point",
        x_label="bytes per view",
        y_label=f"mean {axis_label(measure)}",
        point=own if min(own[:2]) > 0 else None,
        level=Mark(at=promised, label="promised") if promised else None,
    )


def promised_error(store: Store) -> float | None:
    """The mean error that the store promised; None where bytes were promised."""
    promised = store.plan["promise"].get(f"max_{store.measure.prefix}")
    return float(promised) if promised else None


def axis_label(measure: Measure, of_what: str = "") -> str:
    """Of an axis of errors."""
    words = "KL(teacher || stored)" if isinstance(measure, Divergence) else measure.words
    return f"{words}{of_what}{f', {measure.unit}' if measure.unit else ''}"


def _curve(codec: str, points: list[MeasuredPoint]) -> Curve:
    own = sorted((point for point in points if point.codec == codec), key=lambda point: point.bytes_per_view)
    return Curve(label=codec, x=[point.bytes_per_view for point in own], y=[point.error for point in own])


def stored_fidelity(store: Store) -> FidelityStats:
    """Of every row, or measured pixel, from the units' own records. Raises CorruptStoreError."""
    records = store.objects.read_json("units.json")["units"]
    stats = (FidelityStats.from_json(record["fidelity"], "units.json") for record in records)
    return FidelityStats.merge_all(stats, store.measure)


def error_plot(plotter: Plotter, stats: FidelityStats, promised: float | None, what: str = "row") -> Markup | None:
    """How many rows (or `what` is measured) lost how much."""
    if not stats.histogram:
        return None
    edges, counts = error_bars(stats.histogram)
    marks = [Mark(at=stats.mean, label="mean")] if stats.mean > edges[0] else []
    marks += [Mark(at=promised, label="promised mean", is_alert=True)] if promised and promised > edges[0] else []
    title = f"Histogram of the {what}s' {stats.measure.words}"
    x_label = axis_label(stats.measure, f" of a {what}")
    return plotter.histogram(edges, counts, title=title, x_label=x_label, y_label=f"{what}s", marks=marks, is_log=True)


def error_bars(histogram: Mapping[int, int]) -> tuple[list[float], list[int]]:
    """Edges (H + 1) and counts (H) of a few dozen bars; what is far below the rest is in the first one."""
    last = max(histogram)
    first = max(min(histogram), last - MAX_OCTAVES * _BINS_PER_OCTAVE)
    width = next(w for w in (1, 2, 4, 8) if (last - first) // w < MAX_BARS)
    first -= first % width
    counts = [0] * ((last - first) // width + 1)
    for bin_index, rows in histogram.items():
        counts[max(0, bin_index - first) // width] += rows
    return [_lower_edge(first + width * bar) for bar in range(len(counts) + 1)], counts


def _lower_edge(bin_index: int) -> float:
    octave, step = divmod(bin_index, _BINS_PER_OCTAVE)
    return math.ldexp(1 + step / _BINS_PER_OCTAVE, octave + _LOW_EXPONENT)
