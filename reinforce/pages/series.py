"""Lines with error bars, one a method: inline SVG in the page's colours, and the same picture as PNG for elsewhere.

N = points of a line
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from reinforce.pages.drawing import FAINT, INK, MARKERS, SERIES, SETTINGS, Matplotlib, drawable, logarithmic

_LIGHT_SERIES = ("#2f6db5", "#d9822b", "#2a8f5b", "#8a4fb0", "#8c6d46", "#4b5563", "#c04a8f", "#1b97a6", "#8f9a1b",
                 "#d2604f")  # fmt: skip
LIGHT = {INK: "#1b2430", FAINT: "#7d8896", **dict(zip(SERIES, _LIGHT_SERIES, strict=True))}
"""What a page's light colours are: a PNG has no style sheet."""
WIDTH_IN, HEIGHT_IN, LEGEND_ROW_IN = 5.2, 3.2, 0.2
PNG_DPI = 200
LABEL_LIMIT = 64
DODGE = 0.012
"""By so much of the axis lines are moved apart."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """(N,) points with their spreads; a spread of None has no bar. `is_reference`: dashed, in the ink's colour."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Sequence[float | None]
    is_reference: bool = False


@dataclasses.dataclass(frozen=True)
class Drawing:
    svg: Markup
    png: bytes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axes:
    """What the axes say; `title` is what a screen reader says. The x axis is logarithmic, `ticks` name places on it."""

    title: str
    x_label: str
    y_label: str
    ticks: Sequence[tuple[float, str]]
    is_dodged: bool = False
    """Whether lines are moved apart a little, so that error bars at one place can be told apart."""


class SeriesPlotter:
    """Raises MissingExtraError at once where matplotlib is not installed, before any other work."""

    def __init__(self, purpose: str) -> None:
        self._matplotlib = Matplotlib(purpose)

    def draw(self, lines: Sequence[Line], axes: Axes) -> Drawing:
        """The same numbers give the same bytes."""
        return Drawing(self._svg(lines, axes), self._png(lines, axes))

    def _svg(self, lines: Sequence[Line], axes: Axes) -> Markup:
        with self._matplotlib.settings(SETTINGS):
            return self._matplotlib.svg(self._drawn(lines, axes, str), axes.title)

    def _png(self, lines: Sequence[Line], axes: Axes) -> bytes:
        settings = {name: LIGHT.get(value, value) if isinstance(value, str) else value
                    for name, value in SETTINGS.items()}  # fmt: skip
        paper = {"figure.facecolor": "white", "savefig.facecolor": "white", "figure.dpi": PNG_DPI}
        with self._matplotlib.settings(settings | paper):
            return self._matplotlib.png(self._drawn(lines, axes, LIGHT.__getitem__))

    def _drawn(self, lines: Sequence[Line], axes: Axes, colour: Callable[[str], str]) -> Any:
        height_in = HEIGHT_IN + LEGEND_ROW_IN * len(lines)
        figure = self._matplotlib.figure(figsize=(WIDTH_IN, height_in), layout="constrained")
        plot = figure.add_subplot()
        plot.set_xlabel(axes.x_label)
        plot.set_ylabel(axes.y_label)
        plot.grid(visible=True, color=colour(FAINT), linewidth=0.6, alpha=0.35, zorder=0)
        plot.set_axisbelow(True)
        places = _dodged(lines) if axes.is_dodged else [list(line.x) for line in lines]
        students = [line for line in lines if not line.is_reference]
        for line, x in zip(lines, places, strict=True):
            number = (lines if line.is_reference else students).index(line)
            self._draw_line(plot, line, x, number, colour)
        logarithmic(plot.xaxis)
        self._name_ticks(plot, axes.ticks, [x for line in places for x in line])
        figure.legend(loc="outside lower left", ncols=1, fontsize=8.5, handlelength=2.6, borderaxespad=0.2)
        return figure

    def _draw_line(self, plot: Any, line: Line, x: Sequence[float], number: int, colour: Callable[[str], str]) -> None:
        stand_in = INK if line.is_reference else SERIES[number % len(SERIES)]
        style = {"color": colour(stand_in), "marker": MARKERS[number % len(MARKERS)], "markersize": 4.5,
                 "linestyle": "--" if line.is_reference else ("-", ":", "-.")[number // len(SERIES) % 3]}  # fmt: skip
        spread = [0.0 if value is None else value for value in line.spread]
        plot.errorbar(x, line.y, yerr=spread if any(spread) else None, label=_label(line.label), linewidth=1.5,
                      elinewidth=1.0, capsize=2.5, zorder=2, **style)  # fmt: skip

    def _name_ticks(self, plot: Any, ticks: Sequence[tuple[float, str]], x: Sequence[float]) -> None:
        ticker = self._matplotlib.ticker
        plot.xaxis.set_major_locator(ticker.FixedLocator([place for place, _ in ticks]))
        plot.xaxis.set_major_formatter(ticker.FixedFormatter([name for _, name in ticks]))
        plot.xaxis.set_minor_locator(ticker.NullLocator())
        margin = max(1.12, (max(x) / min(x)) ** 0.06)
        plot.set_xlim(min(x) / margin, max(x) * margin)


def _dodged(lines: Sequence[Line]) -> list[list[float]]:
    """x of each line, moved by a factor about 1 that grows with its number."""
    everything = [x for line in lines for x in line.x]
    span = max(max(everything) / min(everything), 1.8) if everything else 1.0
    middle = (len(lines) - 1) / 2
    return [[x * span ** (DODGE * (number - middle)) for x in line.x] for number, line in enumerate(lines)]


def _label(text: str) -> str:
    """In the letters that every plot font has; names of runs may be any."""
    plain = drawable(text)
    short = plain if len(plain) <= LABEL_LIMIT else f"{plain[: LABEL_LIMIT - 3]}..."
    return short.lstrip("_") or "?"  # matplotlib leaves out labels that begin with one
