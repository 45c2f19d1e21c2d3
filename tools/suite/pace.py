"""Processor time by the machine's own pace, for runs too long to take turns with what they are compared with.

Where others work on the same processor, the same instructions take a third more seconds in one minute than in the
next. A small piece of fixed work, done over and over beside what is measured, says how fast the machine is just then.
"""

from __future__ import annotations

import io
import threading
import time

import numpy as np
from PIL import Image

INTERVAL_S = 0.03
"""The fixed work takes one or two milliseconds of it."""


class Pace:
    """Around what is measured: `seconds` is its processor time, of all its threads, `work` that in multiples of the
    fixed work, which does not count itself."""

    def __init__(self) -> None:
        self.work = self.seconds = 0.0
        self._picture = _picture()
        self._numbers = np.random.Generator(np.random.Philox(1)).permutation(1 << 18)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._measure, name="pace", daemon=True)

    def __enter__(self) -> Pace:
        self.fixed_work()  # imports, allocations
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _measure(self) -> None:
        before = time.process_time()
        while not self._ended.wait(INTERVAL_S):
            before = self._add(before)
        self._add(before)

    def _add(self, before: float) -> float:
        """What was done since `before`, at the pace of now."""
        taken = time.process_time() - before
        own = self.fixed_work()
        self.seconds += taken
        self.work += taken / own
        return before + taken + own

    def fixed_work(self) -> float:
        """Seconds of decoding, resizing, Python objects and memory read out of order."""
        started = time.thread_time()
        for _ in range(3):
            np.asarray(Image.open(io.BytesIO(self._picture)).convert("RGB").resize((32, 32)))
            sum(len(text) for text in {index: str(index) for index in range(200)}.values())
        self._numbers[self._numbers[: 1 << 14]].sum()
        return time.thread_time() - started


def _picture() -> bytes:
    """A PNG of noise, 64 px."""
    pixels = np.random.Generator(np.random.Philox(0)).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
