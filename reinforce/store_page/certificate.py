"""Fidelity against bytes: what was promised, what calibration measured, what the store's own targets lost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from reinforce.pages import Curve, Mark, Plotter
from reinforce.store import FidelityStats, Store

MAX_BARS, MAX_OCTAVES, MAX_POINTS = 48, 24, 500
_BINS_PER_OCTAVE, _LOW_EXPONENT = 8, -50  # of FidelityStats' histogram


@dataclass(frozen=True, kw_only=True)
class MeasuredPoint:
    """A codec's setting as calibration measured it."""

    codec: str
    bytes_per_view: float
    kl: float
    """Mean KL(teacher || stored), nats."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    num_views: int
    points: list[MeasuredPoint]


def read_calibration(plan: Mapping[str, Any]) -> Calibration | None:
    """What the plan keeps of its calibration; None in older stores, and where it is not as it should be."""
    try:
        record = plan["calibration"]
        points = [
            MeasuredPoint(codec=str(p["codec"]), bytes_per_view=float(p["bytes_per_view"]), kl=float(p["kl"]))
            for p in record["curve"]
        ]
        return Calibration(num_views=int(record["views"]), points=[p for p in points if _is_sound(p)][:MAX_POINTS])
    except (KeyError, TypeError, ValueError):
        return None


def _is_sound(point: MeasuredPoint) -> bool:
    return 0 < point.bytes_per_view < math.inf and 0 <= point.kl < math.inf


def rate_distortion_plot(plotter: Plotter, store: Store, calibration: Calibration) -> Markup | None:
    """KL against bytes per view, one line per codec; points without loss have no place on a logarithmic axis."""
    drawn = [point for point in calibration.points if point.kl > 0]
    if not drawn:
        return None
    certificate, promise = store.manifest.certificate, store.plan["promise"]
    own = (float(certificate["bytes_per_view"]), float(certificate["kl_mean"]), "this store")
    max_kl = promise.get("max_kl")
    return plotter.curves(
        [_curve(name, drawn) for name in dict.fromkeys(point.codec for point in drawn)],
        title="Mean KL against bytes per view of each codec, with this store's own point",
        x_label="bytes per view",
        y_label="mean KL(teacher || stored), nats",
        point=own if min(own[:2]) > 0 else None,
        level=Mark(at=float(max_kl), label="promised") if max_kl else None,
    )


def _curve(codec: str, points: list[MeasuredPoint]) -> Curve:
    own = sorted((point for point in points if point.codec == codec), key=lambda point: point.bytes_per_view)
    return Curve(label=codec, x=[point.bytes_per_view for point in own], y=[point.kl for point in own])


def stored_fidelity(store: Store) -> FidelityStats:
    """Statistics of the KL of every row, or measured pixel, from the units' own records. Raises CorruptStoreError."""
    records = store.objects.read_json("units.json")["units"]
    stats = (FidelityStats.from_json(record["fidelity"], "units.json") for record in records)
    return FidelityStats.merge_all(stats, store.temperature)


def kl_plot(plotter: Plotter, stats: FidelityStats, max_kl: float | None, what: str = "row") -> Markup | None:
    """How many rows (or `what` is measured) lost how much."""
    if not stats.histogram:
        return None
    edges, counts = kl_bars(stats.histogram)
    marks = [Mark(at=stats.kl_mean, label="mean")] if stats.kl_mean > edges[0] else []
    marks += [Mark(at=max_kl, label="promised mean", is_alert=True)] if max_kl and max_kl > edges[0] else []
    title, x_label = f"Histogram of the {what}s' KL", f"KL(teacher || stored) of a {what}, nats"
    return plotter.histogram(edges, counts, title=title, x_label=x_label, y_label=f"{what}s", marks=marks, is_log=True)


def kl_bars(histogram: Mapping[int, int]) -> tuple[list[float], list[int]]:
    """Edges (H + 1) in nats and counts (H) of a few dozen bars; what is far below the rest is in the first one."""
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
