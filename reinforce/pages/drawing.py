"""What plots of offline pages share: matplotlib where it is installed, stand-in colours, axes, SVG to stand in a page.

matplotlib draws with stand-in colours; the SVG then gets `currentColor` and the page's CSS variables for them. Text
stays text in the page's font. The same numbers give the same bytes.
"""

from __future__ import annotations

import io
import math
import re
from typing import Any

from markupsafe import Markup, escape

from reinforce.errors import MissingExtraError
from reinforce.pages.rendering import power_of_ten

INK, FAINT, ACCENT, ALERT = "#010101", "#020202", "#030303", "#040404"
SERIES = ("#050505", "#060606", "#070707", "#080808", "#090909", "#0a0a0a", "#0b0b0b", "#0c0c0c", "#0d0d0d", "#0e0e0e")
MARKERS = "os^DvpXP<>"
_VARIABLES = {INK: "currentColor", FAINT: "var(--faint)", ACCENT: "var(--accent)", ALERT: "var(--alert)"} | {
    stand_in: f"var(--series-{number})" for number, stand_in in enumerate(SERIES, start=1)
}
SETTINGS = {
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


class Matplotlib:
    """The library and its figures. Raises MissingExtraError at once where it is not installed."""

    def __init__(self, purpose: str) -> None:
        try:
            import matplotlib
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.backends.backend_svg import FigureCanvasSVG
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingExtraError("matplotlib", "report", purpose) from error
        self.ticker: Any = matplotlib.ticker
        self.settings: Any = matplotlib.rc_context
        self.figure: Any = Figure
        self._svg_canvas: Any = FigureCanvasSVG
        self._png_canvas: Any = FigureCanvasAgg

    def svg(self, figure: Any, title: str) -> Markup:
        """`title` is what a screen reader says."""
        buffer = io.StringIO()
        empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        self._svg_canvas(figure).print_svg(buffer, metadata=empty)
        return _inline(buffer.getvalue(), title)

    def png(self, figure: Any) -> bytes:
        buffer = io.BytesIO()
        self._png_canvas(figure).print_png(buffer, metadata={"Software": None})
        return buffer.getvalue()


def logarithmic(axis: Any) -> None:
    """Scale and ticks of an axis that has its data."""
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


def drawable(text: str) -> str:
    """In the letters that every plot font has; names of a store or a run may be any."""
    return "".join(letter if letter.isprintable() and letter.isascii() else "?" for letter in text)


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
