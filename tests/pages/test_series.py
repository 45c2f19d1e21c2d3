"""Lines with error bars: in the page's colours, the same as PNG, the same bytes from the same numbers."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from reinforce.pages import Axes, Line, SeriesPlotter

AXES = Axes(title="quality", x_label="labels", y_label="accuracy in %", ticks=[(10, "ten"), (100, "hundred")],
            is_dodged=True)  # fmt: skip


def line(label: str, *, is_reference: bool = False) -> Line:
    return Line(label=label, x=[10, 100], y=[40.0, 70.0], spread=[2.0, None], is_reference=is_reference)


@pytest.fixture
def plotter() -> SeriesPlotter:
    return SeriesPlotter("a test")


def test_a_drawing_has_its_words_and_the_pages_colours(plotter: SeriesPlotter) -> None:
    svg = plotter.draw([line("the teacher", is_reference=True), line("a <b>", is_reference=False)], AXES).svg
    for word in ("ten", "hundred", "accuracy in %", "the teacher", "a &lt;b&gt;", 'aria-label="quality"'):
        assert word in svg
    assert "var(--series-1)" in svg
    assert "var(--series-2)" not in svg  # the reference takes none
    assert "#0" not in svg.replace("&#0", "")


def test_a_png_is_coloured_on_white(plotter: SeriesPlotter) -> None:
    pixels = np.array(Image.open(io.BytesIO(plotter.draw([line("a")], AXES).png)).convert("RGB"))
    assert (pixels[0, 0] == 255).all()
    assert (pixels == (0x2F, 0x6D, 0xB5)).all(axis=2).any()


def test_equal_numbers_give_equal_bytes(plotter: SeriesPlotter) -> None:
    lines = [line(f"method {number}") for number in range(12)]
    assert plotter.draw(lines, AXES) == plotter.draw(lines, AXES)


def test_one_point_and_odd_labels_can_be_drawn(plotter: SeriesPlotter) -> None:
    lone = Line(label="_小" + "x" * 100, x=[5.0], y=[1.0], spread=[None])
    svg = plotter.draw([lone], Axes(title="t", x_label="x", y_label="y", ticks=[(5.0, "five")])).svg
    assert "?xxx" in svg
