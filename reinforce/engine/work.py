"""What processes report while they compute units, and how it is shown and summed up."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from reinforce.progress import Progress, human_bytes


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one process did since it last reported."""

    amount: int = 0
    """Views of a build, items of a search."""
    units: tuple[int, ...] = ()
    """Those that it committed."""
    num_bytes: int = 0
    """Of committed units."""
    seconds: float = 0.0
    waited_seconds: float = 0.0
    """A teacher had no views."""

    def __add__(self, other: Work) -> Work:
        return Work(
            amount=self.amount + other.amount,
            units=self.units + other.units,
            num_bytes=self.num_bytes + other.num_bytes,
            seconds=self.seconds + other.seconds,
            waited_seconds=self.waited_seconds + other.waited_seconds,
        )


class WorkBook:
    """The work of a job's processes: shown as it comes in, and summed up for each of them."""

    def __init__(self, progress: Progress, device: str, started: float) -> None:
        """`device` is the builder's own, on which it has planned since `started` (seconds since 1970)."""
        self.progress, self.device, self.started = progress, device, started
        self.began = time.time()
        self.total = Work()
        self.helpers: dict[tuple[int, str], Work] = {}
        """By number and device."""

    def add(self, work: Work) -> None:
        """Of the builder itself."""
        self.total += work
        figures = {"written": human_bytes(self.total.num_bytes)}
        if self.total.waited_seconds:
            share = self.total.waited_seconds / max(self.total.seconds, 1e-9)
            figures = {"wait": f"{100 * share:.0f}%", **figures}
        self.progress.update(work.amount, **figures)

    def add_of(self, number: int, device: str, work: Work) -> None:
        """Of a process that helps it."""
        self.helpers[number, device] = self.helpers.get((number, device), Work()) + work
        self.add(work)

    def take_back(self, amount: int) -> None:
        """Of units that were lost before they were committed."""
        self.progress.update(-amount)

    def records(self) -> list[dict[str, Any]]:
        """One a process: its device, for how long it held that, and the number of units. The builder's has planning in
        it, and where others help it nothing else."""
        if not self.helpers:
            return [self._record(self.device, time.time() - self.started, self.total)]
        others = [self._record(device, work.seconds, work) for (_, device), work in self.helpers.items()]
        return [self._record(self.device, self.began - self.started, Work()), *others]

    def _record(self, device: str, seconds: float, work: Work) -> dict[str, Any]:
        return {"started": self.started, "seconds": seconds, "units": len(work.units), "device": device}
