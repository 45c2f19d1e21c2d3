"""The map of section B.6 (figure 10): where queries, curated samples and the gallery lie in the encoders' space.

N = samples of a layer
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from reinforce.pages.drawing import FAINT, SERIES, SETTINGS, Matplotlib, drawable

WIDTH_IN = 5.2
FLATTEST, TALLEST = 0.5, 0.9
"""Heights of a map over its width."""
LEGEND_LETTERS = 56
"""As many stand in one line."""
LABEL_LIMIT = 40


class Role(Enum):
    """What samples are, in the order in which they are drawn, with the look of their dots."""

    GALLERY = (FAINT, "o", 2.6, 0.6)
    CURATED = (SERIES[0], "o", 3.4, 0.7)
    QUERY = (SERIES[1], "D", 3.8, 0.9)

    def __init__(self, colour: str, marker: str, size_pt: float, opacity: float) -> None:
        self.colour, self.marker, self.size_pt, self.opacity = colour, marker, size_pt, opacity


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Samples of one role, maybe none, at finite places such as `tsne.project` gives."""

    role: Role
    label: str
    places: NDArray[Any]
    """(N, 2)"""


class MapPlotter:
    """Raises MissingExtraError at once where matplotlib is not installed, before any other work."""

    def __init__(self, purpose: str) -> None:
        self._matplotlib = Matplotlib(purpose)

    def draw(self, layers: Sequence[Layer], *, title: str) -> Markup:
        """Dots without axes, for a map's directions and distances have no unit; the gallery lies below, queries on top.

        `title` is what a screen reader says. The same places give the same bytes.
        """
        ordered = sorted(layers, key=lambda layer: list(Role).index(layer.role))
        with self._matplotlib.settings(SETTINGS):
            figure = self._matplotlib.figure(figsize=(WIDTH_IN, _height_in(ordered)), layout="constrained")
            axes = figure.add_subplot()
            axes.set_axis_off()
            axes.set_aspect("equal", adjustable="datalim")
            for layer in ordered:
                _draw_layer(axes, layer)
            _add_legend(figure, axes.lines)
            return self._matplotlib.svg(figure, title)


def _add_legend(figure: Any, lines: Sequence[Any]) -> None:
    """In one line where it fits, else one below the other."""
    fits = sum(len(line.get_label()) for line in lines) <= LEGEND_LETTERS
    figure.legend(handles=lines, loc="outside upper left", ncols=max(1, len(lines)) if fits else 1, markerscale=1.6,
                  handletextpad=0.1, columnspacing=1.2, borderaxespad=0.2)  # fmt: skip


def _draw_layer(axes: Any, layer: Layer) -> None:
    role = layer.role
    axes.plot(*layer.places.T, linestyle="none", marker=role.marker, markersize=role.size_pt, markeredgewidth=0,
              color=role.colour, alpha=role.opacity, label=_label(layer))  # fmt: skip


def _height_in(layers: Sequence[Layer]) -> float:
    """As the samples lie, within bounds, so that little of the picture is empty."""
    every = np.concatenate([np.zeros((0, 2)), *(layer.places for layer in layers)])
    width, height = np.ptp(every, axis=0) if len(every) else (1.0, 1.0)
    return WIDTH_IN * float(np.clip(height / width if width > 0 else 1.0, FLATTEST, TALLEST))


def _label(layer: Layer) -> str:
    """With the number of samples, in the letters that every plot font has; names of data sets may be any."""
    plain = drawable(layer.label)
    short = plain if len(plain) <= LABEL_LIMIT else f"{plain[: LABEL_LIMIT - 3]}..."
    return f"{short.lstrip('_') or '?'} ({len(layer.places):,})"  # matplotlib leaves out what begins with one
