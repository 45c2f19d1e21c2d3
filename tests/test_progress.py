"""Plain lines where there is no terminal; nothing when quiet."""

from __future__ import annotations

import io
import os
import re
import sys

import pytest

from reinforce.progress import Progress, human_bytes


def test_a_non_terminal_gets_plain_lines() -> None:
    stream = io.StringIO()
    with Progress("build", 200, unit="views", initial=100, stream=stream) as progress:
        progress.update(50, wait="3%")
    line = stream.getvalue()
    assert line.startswith("build: 75% (150/200 views), ")
    assert line.endswith("left, wait 3%\n")
    assert line.count("\n") == 1


def test_what_takes_long_is_told_in_seconds() -> None:
    stream = io.StringIO()
    with Progress("train", 700, unit="steps", stream=stream) as progress:
        progress.started -= 25 * 4
        progress.update(4)
    assert stream.getvalue() == "train: 1% (4/700 steps), 25 s a step, 4:50:00 left\n"


def test_quiet_prints_nothing() -> None:
    stream = io.StringIO()
    with Progress("build", 2, quiet=True, stream=stream) as progress:
        progress.update(2)
        progress.write("hello")
    assert stream.getvalue() == ""


@pytest.mark.skipif(sys.platform == "win32", reason="opens a terminal of Unix")
@pytest.mark.parametrize("columns", [80, 40])
def test_behind_a_bar_there_is_room_for_what_ctrl_c_echoes(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import termios

    reading, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, columns))
    with os.fdopen(terminal, "w") as stream, monkeypatch.context() as patch:
        patch.setattr("sys.stderr", stream)
        with Progress("train", 5000, unit="steps") as progress:
            progress.update(8, loss="0.0286", lr="2.2e-05", images_s="59", wait="5%", kl="0.0010")
        shown = os.read(reading, 1 << 16).decode()
    os.close(reading)
    drawn = re.split(r"[\r\n]+", shown.replace("\x1b[A", ""))
    assert max(map(len, drawn)) == columns - len("^C") - 1


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (1_234_567, "1.2 MB"), (5e12, "5.0 TB")]
)
def test_human_bytes(count: float, text: str) -> None:
    assert human_bytes(count) == text
