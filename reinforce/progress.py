"""How long work shows itself: a bar on a terminal, plain lines elsewhere; both on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import MutableMapping
from typing import Any, TextIO

SECONDS_BETWEEN_LINES = 10.0
COLUMNS_LEFT_FREE = 2
"""Behind a bar: where a terminal echoes ^C, which would begin a line of its own, and the bar again below it."""


class Progress:
    """Counts done items towards a total and shows percent, rate, time left and whatever else it is told.

    Use it as a context manager; `update(n, **fields)` after each piece of work.
    """

    def __init__(
        self,
        label: str,
        total: int,
        *,
        unit: str = "images",
        initial: int = 0,
        quiet: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        self.label, self.total, self.unit, self.initial = label, total, unit, initial
        self.stream = stream if stream is not None else sys.stderr
        self.quiet = quiet
        self.done = initial
        self.printed = 0
        self.fields: dict[str, Any] = {}
        self.started = self.last_line = time.monotonic()
        self.bar: Any = self._bar() if not quiet and self.stream.isatty() else None

    def _bar(self) -> Any:
        from tqdm import tqdm

        class Bar(tqdm):  # type: ignore[misc]
            @property
            def format_dict(self) -> MutableMapping[str, Any]:
                told: MutableMapping[str, Any] = super().format_dict
                if told["ncols"]:
                    told["ncols"] = max(told["ncols"] - COLUMNS_LEFT_FREE, 1)
                return told

        return Bar(
            total=self.total,
            initial=self.initial,
            desc=self.label,
            unit=f" {self.unit}",
            file=self.stream,
            dynamic_ncols=True,
            smoothing=0.1,
            mininterval=0.3,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def update(self, n: int, **fields: Any) -> None:
        self.done += n
        self.fields.update(fields)
        if self.bar is not None:
            self.bar.set_postfix(self.fields, refresh=False)
            self.bar.update(n)
        elif not self.quiet and time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self._print_line()

    def write(self, text: str) -> None:
        """A line of its own that does not tear the bar."""
        if self.quiet:
            return
        if self.bar is not None:
            self.bar.write(text, file=self.stream)
        else:
            print(text, file=self.stream, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        elif not self.quiet and self.done > max(self.initial, self.printed):
            self._print_line()
        self.quiet = True

    def _print_line(self) -> None:
        self.last_line, self.printed = time.monotonic(), self.done
        rate = (self.done - self.initial) / max(self.last_line - self.started, 1e-9)
        left = (self.total - self.done) / rate if rate > 0 else float("inf")
        percent = 100 * self.done / self.total if self.total else 100.0
        extra = "".join(f", {key} {value}" for key, value in self.fields.items())
        print(
            f"{self.label}: {percent:.0f}% ({self.done}/{self.total} {self.unit}), {self._pace(rate)}, "
            f"{_clock(left)} left{extra}",
            file=self.stream,
            flush=True,
        )

    def _pace(self, rate: float) -> str:
        """ "12.3 steps/s", and below one in ten seconds the seconds that one takes: "24 s a step"."""
        is_slow = 0 < rate < 0.1
        return f"{1 / rate:.0f} s a {self.unit.removesuffix('s')}" if is_slow else f"{rate:.1f} {self.unit}/s"


def _clock(seconds: float) -> str:
    if seconds == float("inf"):
        return "unknown time"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def human_bytes(count: float) -> str:
    """1234567 -> "1.2 MB" (decimal)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
