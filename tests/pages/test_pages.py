"""Pages whatever they are about: numbers as text, plots, pictures of a bounded size, files."""

from __future__ import annotations

import base64
import errno
import io
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reinforce.errors import MissingExtraError, OutputExistsError, StoreAccessError, UsageError
from reinforce.pages import Curve, Mark, Plotter, check_writable, data_uri, write_page
from reinforce.pages.rendering import count, number, percent, shorten


class Elements(HTMLParser):
    """(element, names of its attributes) of a piece of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, list[str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, [name for name, _ in attrs]))


@pytest.fixture(scope="module")
def plotter() -> Plotter:
    return Plotter("a test")


def test_pages_know_nothing_of_stores() -> None:
    code = "import sys, reinforce.pages; print(*sorted(name for name in sys.modules if name.startswith('reinforce.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    others = {name for name in done.stdout.split() if not name.startswith("reinforce.pages")}
    assert others == {"reinforce.errors", "reinforce.whole_file"}


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0.0 %"),
        (1e-5, "< 0.1 %"),
        (0.123, "12.3 %"),
        (0.99949, "99.9 %"),
        (0.99999, "> 99.9 %"),
        (1.0, "100.0 %"),
    ],
)
def test_a_share_is_never_rounded_to_nothing_or_all(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.001, "0.001"),
        (5.01e-5, "5.01 × 10⁻⁵"),
        (1234.5, "1234"),
        (0.0, "0"),
        (7, "7"),
        (True, "True"),
        ("x", "x"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
    ],
)
def test_numbers_in_three_digits(value: object, text: str) -> None:
    assert number(value) == text


def test_long_text_keeps_its_ends() -> None:
    assert shorten("a" * 500 + "/last.png", 40).endswith("aaa/last.png")
    assert len(shorten("x" * 10_000)) == 160
    assert shorten("short") == "short"
    assert count(1234567) == "1,234,567"


def test_a_plot_holds_no_foreign_address_style_or_stand_in_colour(plotter: Plotter) -> None:
    svg = plotter.histogram([0, 1, 2], [3, 4], title="rows", x_label="x", marks=[Mark(at=1.5, label="mean")])
    assert svg.startswith('<svg role="img" aria-label="rows"')
    assert not re.search(r"http|<style|<metadata|<!--|#0[0-9a-f]0[0-9a-f]", svg)
    assert "currentColor" in svg
    assert "var(--accent)" in svg


def test_a_plot_is_a_function_of_its_numbers(plotter: Plotter) -> None:
    curves = [Curve(label="klt", x=[10, 100], y=[1e-2, 1e-4])]
    first, second = (
        plotter.curves(curves, title="t", x_label="x", y_label="y", point=(20, 1e-3, "own")) for _ in range(2)
    )
    assert first == second


@pytest.mark.parametrize("label", ["<script>alert(1)</script>", "$\\frac{", "_hidden", "\x00\udcff\n名", '" onload="x'])
def test_a_hostile_label_is_drawn_as_text(label: str, plotter: Plotter) -> None:
    curves = [Curve(label=label, x=[1, 2], y=[1, 2])]
    svg = plotter.curves(curves, title=label, x_label="x", y_label="y", level=Mark(at=1.0, label=label))
    elements = Elements(svg)
    assert not {tag for tag, _ in elements.found} - {"svg", "g", "path", "defs", "use", "text", "clippath", "rect"}
    assert not [name for _, names in elements.found for name in names if name.startswith("on")]


def test_without_matplotlib_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"^a page needs matplotlib: pip install 'reinforce-vision\[report\]'$"):
        Plotter("a page")


@pytest.mark.parametrize("max_bytes", [200, 2_000, 60_000, 1_000_000])
def test_a_picture_fits_its_budget(max_bytes: int) -> None:
    noise_SS3 = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    assert len(picture_bytes(data_uri(noise_SS3, max_bytes))) <= max(max_bytes, 200 if max_bytes > 200 else 400)


def test_a_picture_with_room_is_exact_and_a_large_one_is_scaled() -> None:
    pixels_SS3 = np.random.default_rng(1).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    small = Image.open(io.BytesIO(picture_bytes(data_uri(pixels_SS3, 10_000))))
    assert np.array_equal(np.array(small), pixels_SS3)
    large = Image.open(io.BytesIO(picture_bytes(data_uri(np.zeros((600, 600, 3), np.uint8), 10_000))))
    assert large.size == (224, 224)


def picture_bytes(uri: str) -> bytes:
    head, data = uri.split(",", 1)
    assert head in {"data:image/png;base64", "data:image/jpeg;base64"}
    return base64.b64decode(data)


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", is_full)
    with pytest.raises(
        StoreAccessError, match=r"cannot write .*page\.html: No space left on device; mend that, or type"
    ):
        write_page(tmp_path / "page.html", b"one", overwrite=False)
    assert not list(tmp_path.iterdir())


def test_a_page_is_written_whole_and_replaced_only_when_told(tmp_path: Path) -> None:
    path = tmp_path / "new" / "page.html"
    write_page(path, b"one", overwrite=False)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        write_page(path, b"two", overwrite=False)
    assert path.read_bytes() == b"one"
    write_page(path, b"two", overwrite=True)
    assert [(p.name, p.read_bytes()) for p in path.parent.iterdir()] == [("page.html", b"two")]
    with pytest.raises(UsageError, match="is a folder"):
        check_writable(tmp_path, overwrite=True)
