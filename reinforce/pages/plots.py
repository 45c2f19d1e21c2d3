"""Histograms and curves as inline SVG whose colours are the page's, light and dark alike.

N = points of a curve, H = bars of a histogram
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from reinforce.pages.drawing import (
    ACCENT,
    ALERT,
    FAINT,
    INK,
    MARKERS,
    SERIES,
    SETTINGS,
    Matplotlib,
    drawable,
    logarithmic,
)

WIDTH_IN, HEIGHT_IN = 4.6, 2.9


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A labelled line across a plot."""

    at: float
    label: str
    is_alert: bool = False
    """A bound rather than a measurement."""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """(N,) positions of one line; only positive ones can be drawn on logarithmic axes."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


class Plotter:
    """Raises MissingExtraError at once where matplotlib is not installed, before any other work."""

    def __init__(self, purpose: str) -> None:
        self._matplotlib = Matplotlib(purpose)

    def histogram(
        self,
        edges: Sequence[float],
        counts: Sequence[int],
        *,
        title: str,
        x_label: str,
        y_label: str = "rows",
        marks: Sequence[Mark] = (),
        is_log: bool = False,
    ) -> Markup:
        """Bars of (H,) counts between (H + 1,) edges; `is_log`: the x axis. `title` is what a screen reader says."""
        with self._matplotlib.settings(SETTINGS):
            axes = self._axes(x_label, y_label)
            widths = [right - left for left, right in pairwise(edges)]
            axes.bar(edges[:-1], counts, widths, align="edge", color=ACCENT, edgecolor="none", zorder=2)
            if is_log:
                logarithmic(axes.xaxis)
            axes.set_xlim(min([edges[0], *(m.at for m in marks)]), max([edges[-1], *(m.at for m in marks)]))
            axes.yaxis.set_major_locator(self._matplotlib.ticker.MaxNLocator(5, integer=True))
            _draw_marks(axes, marks)
            return self._matplotlib.svg(axes.figure, title)

    def curves(
        self,
        curves: Sequence[Curve],
        *,
        title: str,
        x_label: str,
        y_label: str,
        point: tuple[float, float, str] | None = None,
        level: Mark | None = None,
    ) -> Markup:
        """Lines on logarithmic axes, a star at `point` = (x, y, label), and a horizontal line at `level`."""
        with self._matplotlib.settings(SETTINGS):
            axes = self._axes(x_label, y_label, height_in=3.7)
            for number, curve in enumerate(curves):
                style = {"color": SERIES[number % len(SERIES)], "marker": MARKERS[number % len(MARKERS)]}
                axes.plot(curve.x, curve.y, label=_plain(curve.label), markersize=4.5, linewidth=1.4, **style)
            if point is not None:
                x, y, label = point
                star = {"markersize": 15, "markerfacecolor": "none", "markeredgewidth": 1.5}
                axes.plot([x], [y], "*", color=ALERT, label=_plain(label), zorder=5, **star)
            if level is not None:
                axes.axhline(level.at, color=ALERT, linewidth=1, linestyle="--", label=_plain(level.label))
            logarithmic(axes.xaxis)
            logarithmic(axes.yaxis)
            num_entries = len(axes.get_legend_handles_labels()[0])
            axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=min(4, num_entries), columnspacing=1.2)
            return self._matplotlib.svg(axes.figure, title)

    def _axes(self, x_label: str, y_label: str, height_in: float = HEIGHT_IN) -> Any:
        axes = self._matplotlib.figure(figsize=(WIDTH_IN, height_in), layout="constrained").add_subplot()
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(visible=True, color=FAINT, linewidth=0.6, alpha=0.35, zorder=0)
        axes.set_axisbelow(True)
        return axes


def _draw_marks(axes: Any, marks: Sequence[Mark]) -> None:
    for mark in marks:
        color = ALERT if mark.is_alert else INK
        axes.axvline(mark.at, color=color, linewidth=1.2, linestyle="--" if mark.is_alert else ":", clip_on=False)
    handles = axes.lines
    if handles:
        labels = [_plain(mark.label) for mark in marks]
        axes.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=len(labels))


def _plain(label: str) -> str:
    """A label in the letters that every plot font has; those of a store may be any."""
    return drawable(label)[:40].lstrip("_")  # matplotlib leaves out labels that begin with one
