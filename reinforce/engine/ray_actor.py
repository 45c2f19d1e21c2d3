"""What an actor of a Ray cluster does: it computes the units that it is given, as any other builder does.

Its answers are values, errors among them: raised here, they would arrive as others, of many lines.
"""

from __future__ import annotations

import contextlib
import hashlib
import multiprocessing
import os
import queue
import socket
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from reinforce.allocator import keep_freed_memory
from reinforce.engine.feed import AssignedUnits
from reinforce.engine.unit_task import UnitTask, UnitWorker
from reinforce.engine.work import Work
from reinforce.errors import BuildError, MissingStoreError, ReinforceError
from reinforce.worker_process import naming_dead_workers, portable

T = TypeVar("T")
REPORT_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class ActorTask:
    """What an actor is told when it starts. Picklable."""

    units: UnitTask
    workers: int
    """Decoding processes."""
    request_sha256: str
    folder: str
    """Where the driver was started: names and relative paths mean there what they mean to it."""
    home: str
    """$REINFORCE_HOME of the driver."""


@dataclass(frozen=True, kw_only=True)
class ActorReport:
    device: str
    work: Work
    refused: tuple[int, ...] = ()
    """Units whose claim was not won: they are done, or another builder has them."""


class UnitActor:
    """One process that computes. It lives until it is killed; what it has committed stays."""

    builder: UnitWorker
    queue: Any
    steps: Iterator[Work]
    open_units: set[int]
    """Claimed and not yet committed."""

    def open(self, task: ActorTask) -> ActorReport | Exception:
        """Open what it needs, such as teacher, transfer set and store."""
        return _answer(lambda: self._open(task))

    def advance(self, units: Sequence[int], helpers: Collection[str]) -> ActorReport | Exception:
        """Take on further units and work until one is done, or for about REPORT_SECONDS; `helpers` are the living
        actors of this job."""
        return _answer(lambda: self._advance(units, helpers))

    def _open(self, task: ActorTask) -> ActorReport:
        started = time.monotonic()
        keep_freed_memory()
        os.environ["REINFORCE_HOME"] = task.home
        with contextlib.suppress(OSError):  # what cannot be found then is named
            os.chdir(task.folder)
        with _named_by_host():
            _check_sees(task.units, task.request_sha256)
            self.builder = task.units.open_builder()
        context = multiprocessing.get_context("spawn")
        self.queue = context.SimpleQueue() if task.workers else queue.SimpleQueue()
        self.steps = self.builder.build(AssignedUnits(self.queue), task.workers, self._has_others)
        self.open_units = set()
        return ActorReport(device=str(self.builder.device), work=Work(seconds=time.monotonic() - started))

    def _has_others(self, units: Collection[int]) -> bool:
        """Without, the queue would be waited for, and their commit never be told of."""
        return bool(self.open_units.difference(units))

    def _advance(self, units: Sequence[int], helpers: Collection[str]) -> ActorReport:
        won = [unit for unit in units if self.builder.ledger.claim(unit, helpers)]
        self.open_units.update(won)
        for unit in won:
            self.queue.put(unit)
        work, deadline = Work(), time.monotonic() + REPORT_SECONDS
        with naming_dead_workers():
            while self.open_units and not work.units and time.monotonic() < deadline:
                work += next(self.steps)
                self.open_units.difference_update(work.units)
        refused = tuple(unit for unit in units if unit not in won)
        return ActorReport(device=str(self.builder.device), work=work, refused=refused)


def _answer(call: Callable[[], T]) -> T | Exception:
    try:
        return call()
    except Exception as error:
        return portable(error)


@contextlib.contextmanager
def _named_by_host() -> Iterator[None]:
    """What is wrong with one machine of many says with which."""
    try:
        yield
    except ReinforceError as error:
        error.args = (f"on {socket.gethostname()}: {error}",)
        raise


def _check_sees(units: UnitTask, request_sha256: str) -> None:
    """Raises BuildError where the driver's request is not seen."""
    try:
        is_seen = hashlib.sha256(units.objects.get(units.request)).hexdigest() == request_sha256
    except (FileNotFoundError, MissingStoreError):
        is_seen = False
    if not is_seen:
        raise BuildError(f"{units.objects.name} is not what the {units.verb} has begun: type an --out that all "
                         "machines of the cluster see, such as a folder on a shared file system")  # fmt: skip
