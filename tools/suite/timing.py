"""Seconds of what is compared, taken in turns or inside of one another, so that a machine's moods meet all alike."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

Times = dict[str, list[float]]
"""Action -> its seconds in each round."""


class Clock:
    """Seconds of this process on a CPU, where other work on the machine then counts for little; else wall time.

    Process time needs all work to be in this process and, to mean the same as wall time, one thread.
    """

    def __init__(self, device: str, workers: int) -> None:
        self.is_process_time = device == "cpu" and workers == 0 and torch.get_num_threads() == 1
        self.device = device

    def __call__(self) -> float:
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.process_time() if self.is_process_time else time.perf_counter()


def seconds_of(action: Callable[[], object], clock: Clock) -> float:
    started = clock()
    action()
    return clock() - started


@dataclass
class Tally:
    seconds: float = 0.0
    calls: int = 0


@contextlib.contextmanager
def tallied(owner: Any, method: str, clock: Clock) -> Iterator[Tally]:
    """What is spent in a method of a class, over all calls within the context."""
    tally, original = Tally(), getattr(owner, method)

    def measured(*args: Any, **options: Any) -> Any:
        started = clock()
        try:
            return original(*args, **options)
        finally:
            tally.seconds += clock() - started
            tally.calls += 1

    setattr(owner, method, measured)
    try:
        yield tally
    finally:
        setattr(owner, method, original)


def median_of(formula: Callable[..., float], times: Mapping[str, list[float]]) -> float:
    """Median over the rounds of a formula of each action's seconds, given by name."""
    rounds = zip(*times.values(), strict=True)
    return statistics.median(formula(**dict(zip(times, values, strict=True))) for values in rounds)
