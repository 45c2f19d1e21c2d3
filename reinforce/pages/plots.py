"""Histograms and curves as inline SVG whose colours are the page's, light and dark alike.

matplotlib draws with stand-in colours; the SVG then gets `currentColor` and the page's CSS variables for them. Text
stays text in the page's font. The same numbers give the same bytes.

    N = points of a curve, H = bars of a histogram
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup, escape

from reinforce.errors import MissingExtraError
from reinforce.pages.rendering import power_of_ten

WIDTH_IN, HEIGHT_IN = 4.6, 2.9
INK, FAINT, ACCENT, ALERT = "#010101", "#020202", "#030303", "#040404"
SERIES = ("#050505", "#060606", "#070707", "#080808", "#090909", "#0a0a0a", "#0b0b0b", "#0c0c0c", "#0d0d0d", "#0e0e0e")
MARKERS = "os^DvpXP<>"
_VARIABLES = {INK: "currentColor", FAINT: "var(--faint)", ACCENT: "var(--accent)", ALERT: "var(--alert)"} | {
    stand_in: f"var(--series-{number})" for number, stand_in in enumerate(SERIES, start=1)
}
_SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "reinforce",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "path.simplify": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "legend.frameon": False,
}


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
        try:
            import matplotlib
            from matplotlib.backends.backend_svg import FigureCanvasSVG
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtraError("matplotlib", "report", purpose) from error
        self._matplotlib: Any = matplotlib
        self._figure: Any = Figure
        self._canvas: Any = FigureCanvasSVG

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
        with self._matplotlib.rc_context(_SETTINGS):
            axes = self._axes(x_label, y_label)
            widths = [right - left for left, right in pairwise(edges)]
            axes.bar(edges[:-1], counts, widths, align="edge", color=ACCENT, edgecolor="none", zorder=2)
            if is_log:
                _logarithmic(axes.xaxis)
            axes.set_xlim(min([edges[0], *(m.at for m in marks)]), max([edges[-1], *(m.at for m in marks)]))
            axes.yaxis.set_major_locator(self._matplotlib.ticker.MaxNLocator(5, integer=True))
            _draw_marks(axes, marks)
            return self._svg(axes.figure, title)

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
        with self._matplotlib.rc_context(_SETTINGS):
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
            _logarithmic(axes.xaxis)
            _logarithmic(axes.yaxis)
            num_entries = len(axes.get_legend_handles_labels()[0])
            axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=min(4, num_entries), columnspacing=1.2)
            return self._svg(axes.figure, title)

    def _axes(self, x_label: str, y_label: str, height_in: float = HEIGHT_IN) -> Any:
        axes = self._figure(figsize=(WIDTH_IN, height_in), layout="constrained").add_subplot()
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.grid(visible=True, color=FAINT, linewidth=0.6, alpha=0.35, zorder=0)
        axes.set_axisbelow(True)
        return axes

    def _svg(self, figure: Any, title: str) -> Markup:
        buffer = io.StringIO()
        empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        self._canvas(figure).print_svg(buffer, metadata=empty)
        return _inline(buffer.getvalue(), title)


def _draw_marks(axes: Any, marks: Sequence[Mark]) -> None:
    for mark in marks:
        color = ALERT if mark.is_alert else INK
        axes.axvline(mark.at, color=color, linewidth=1.2, linestyle="--" if mark.is_alert else ":", clip_on=False)
    handles = axes.lines
    if handles:
        labels = [_plain(mark.label) for mark in marks]
        axes.legend(handles, labels, loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=len(labels))


def _logarithmic(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.axes.set_xscale("log") if axis.axis_name == "x" else axis.axes.set_yscale("log")
    low, high = axis.get_view_interval()
    steps = (1, 1.5, 2, 3, 5, 7) if high < 8 * low else (1, 2, 5) if high < 30 * low else (1,)
    axis.set_major_locator(LogLocator(subs=steps, numticks=8))
    axis.set_major_formatter(FuncFormatter(_logarithmic_label))
    axis.set_minor_formatter(NullFormatter())


def _logarithmic_label(value: float, position: int | None = None) -> str:
    """ "200", "10⁻³" or "2·10⁻³"."""
    if value <= 0:
        return ""
    exponent = math.floor(math.log10(value) + 1e-9)
    if 0 <= exponent <= 4:
        return f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"
    mantissa = f"{value / 10.0**exponent:.3g}"
    return power_of_ten(exponent) if mantissa == "1" else f"{mantissa}·{power_of_ten(exponent)}"


def _plain(label: str) -> str:
    """A label in the letters that every plot font has; those of a store may be any."""
    text = "".join(letter if letter.isprintable() and letter.isascii() else "?" for letter in label)
    return text[:40].lstrip("_")  # matplotlib leaves out labels that begin with one


def _inline(svg: str, title: str) -> Markup:
    """The `<svg>` element alone, without what a page of several would have twice."""
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r"<style.*?</style>", "", body, flags=re.S)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.S)
    body = re.sub(r'<g id="[A-Za-z0-9.]+_\d+">', "<g>", body)
    view_box = re.search(r'viewBox="[\d. ]+"', body)
    assert view_box is not None
    opening = f'<svg role="img" aria-label="{escape(title)}" {view_box[0]}>'
    body = re.sub(r"<svg[^>]*>", lambda _: opening, body, count=1).replace("xlink:href", "href")
    for stand_in, variable in _VARIABLES.items():
        body = body.replace(stand_in, variable)
    body = re.sub(r"font-family: [^;\"]*; ?", "", body)
    body = re.sub(r"\s*\n\s*", " ", body)
    return Markup(body)
