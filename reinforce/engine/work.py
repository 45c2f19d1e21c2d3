"""What processes report while they compute units, and how it is shown and summed up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reinforce.progress import Progress, human_bytes

SECONDS_BETWEEN_RECORDS = 60.0
Record = dict[str, Any]


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
    """The work of a job's processes: shown as it comes in, summed up for each of them, and kept time and again, so that
    a kill loses little of it."""

    def __init__(self, progress: Progress, device: str, started: float,
                 keep: Callable[[list[Record]], object] = lambda records: None) -> None:  # fmt: skip
        """`device` is the builder's own, on which it has planned since `started` (seconds since 1970). `keep` takes
        records of what was not kept yet."""
        self.progress, self.device, self.started, self.keep = progress, device, started, keep
        self.began = self.kept = time.time()
        self.total = self.own = Work()
        """Of all; what the builder itself did since it was last kept."""
        self.helpers: dict[tuple[int, str], Work] = {}
        """Likewise of others, by number and device."""

    def add(self, work: Work) -> None:
        """Of the builder itself."""
        self.own += work
        self._show(work)

    def _show(self, work: Work) -> None:
        self.total += work
        figures = {"written": human_bytes(self.total.num_bytes)}
        if self.total.waited_seconds:
            share = self.total.waited_seconds / max(self.total.seconds, 1e-9)
            figures = {"wait": f"{100 * share:.0f}%", **figures}
        self.progress.update(work.amount, **figures)
        if time.time() - self.kept > SECONDS_BETWEEN_RECORDS:
            self.close()

    def add_of(self, number: int, device: str, work: Work) -> None:
        """Of a process that helps it."""
        self.helpers[number, device] = self.helpers.get((number, device), Work()) + work
        self._show(work)

    def take_back(self, amount: int) -> None:
        """Of units that were lost before they were committed."""
        self.progress.update(-amount)

    def close(self) -> None:
        """Keep what was not kept yet."""
        self.keep(self._records())
        self.started = self.began = self.kept = time.time()
        self.own, self.helpers = Work(), dict.fromkeys(self.helpers, Work())

    def _records(self) -> list[Record]:
        """One a process: its device, for how long it held that, and the number of units. The builder's has planning in
        it, and where others help it nothing else."""
        if not self.helpers:
            return [self._record(self.device, time.time() - self.started, self.own)]
        planned = [self._record(self.device, self.began - self.started, Work())] if self.began > self.started else []
        return [*planned, *(self._record(device, work.seconds, work) for (_, device), work in self.helpers.items()
                            if work != Work())]  # fmt: skip

    def _record(self, device: str, seconds: float, work: Work) -> Record:
        return {"started": self.started, "seconds": seconds, "units": len(work.units), "device": device}
