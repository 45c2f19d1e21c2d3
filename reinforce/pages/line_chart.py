"""Curves as inline SVG without any library: a training run draws them, and may not depend on one.

N = points of a line. Colours are the page's, light and dark alike; for more than lines there is `plots`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from markupsafe import Markup, escape

from reinforce.pages.rendering import number, shorten

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 72, 12, 10, 42
"""Margins around the lines, in the same units."""
NUM_COLOURS, MAX_POINTS, MAX_LABEL = 10, 400, 60


@dataclass(frozen=True, kw_only=True)
class ChartLine:
    """(N,) points; those that are not finite are left out."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class _Axis:
    """A linear scale from values to places."""

    low: float
    high: float
    start: float
    stop: float

    def place(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)

    @property
    def step(self) -> float:
        """Between ticks."""
        return _round_step((self.high - self.low) / 4)

    def ticks(self) -> list[float]:
        """About five round numbers."""
        first = math.ceil(self.low / self.step - 1e-9)
        return [index * self.step for index in range(first, math.floor(self.high / self.step + 1e-9) + 1)]


def line_chart(lines: Sequence[ChartLine], *, title: str, x_label: str, in_percent: bool = False) -> Markup:
    """`<svg>` of one line or more over x from 0; `title` is what a screen reader says; y's ticks of rates in 0..1 are
    written in percent.

    Empty where no line has a point.
    """
    drawn = [(index, points) for index, line in enumerate(lines) if (points := _points(line))]
    if not drawn:
        return Markup()
    everything = [point for _, points in drawn for point in points]
    x_axis = _axis([0.0, *(x for x, _ in everything)], LEFT, WIDTH - RIGHT)
    y_axis = _axis([y for _, y in everything], HEIGHT - BOTTOM, TOP)
    body = [*_grid(x_axis, y_axis, x_label, in_percent)]
    for index, points in drawn:
        body.append(_path(points, x_axis, y_axis, f"var(--series-{index % NUM_COLOURS + 1})"))
    opening = f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="12.5">'
    return Markup("".join([opening, *body, "</svg>"]))


def legend(lines: Sequence[ChartLine]) -> list[tuple[str, str]]:
    """(CSS colour, label) of each line, as `line_chart` draws them."""
    return [(f"var(--series-{index % NUM_COLOURS + 1})", shorten(line.label, MAX_LABEL))
            for index, line in enumerate(lines)]  # fmt: skip


def _points(line: ChartLine) -> list[tuple[float, float]]:
    """At most MAX_POINTS, evenly, the last one among them."""
    finite = [(x, y) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(x) and math.isfinite(y)]
    stride = -(-len(finite) // MAX_POINTS) or 1
    return finite[::-1][::stride][::-1]


def _axis(values: Sequence[float], start: float, stop: float) -> _Axis:
    low, high = min(values), max(values)
    if low == high:  # seen from 0
        low, high = min(low, 0.0), max(high, 0.0) or float(low == 0)
    return _Axis(low, high, start, stop)


def _round_step(raw: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)


def _tick(value: float, step: float) -> str:
    """A multiple of `step` to its last digit."""
    if not 1e-4 <= step < 1e5:
        return number(value)
    _, _, exponent = Decimal(f"{step:.2g}").normalize().as_tuple()
    return f"{value:.{max(0, -int(exponent))}f}"


def _grid(x_axis: _Axis, y_axis: _Axis, x_label: str, in_percent: bool) -> Iterator[str]:
    for y in y_axis.ticks():
        place = f"{y_axis.place(y):.1f}"
        text = f"{_tick(100 * y, 100 * y_axis.step)} %" if in_percent else _tick(y, y_axis.step)
        yield f'<path d="M{LEFT} {place}H{WIDTH - RIGHT}" stroke="var(--line)"/>'
        yield f'<text x="{LEFT - 6}" y="{place}" dy="4" text-anchor="end" fill="var(--soft)">{escape(text)}</text>'
    for x in x_axis.ticks():
        yield (f'<text x="{x_axis.place(x):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle" '
               f'fill="var(--soft)">{x:,.10g}</text>')  # fmt: skip
    yield f'<path d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}" stroke="var(--faint)"/>'
    yield (f'<text x="{(LEFT + WIDTH - RIGHT) / 2:g}" y="{HEIGHT - 6}" text-anchor="middle" '
           f'fill="currentColor">{escape(x_label)}</text>')  # fmt: skip


def _path(points: Sequence[tuple[float, float]], x_axis: _Axis, y_axis: _Axis, colour: str) -> str:
    places = [f"{x_axis.place(x):.1f} {y_axis.place(y):.1f}" for x, y in points]
    dots = f'<path d="M{places[-1]}h0" stroke="{colour}" stroke-width="6" style="stroke-linecap: round"/>'
    line = f'<path d="M{"L".join(places)}" fill="none" stroke="{colour}" stroke-width="1.7"/>'
    return (line if len(places) > 1 else "") + dots
