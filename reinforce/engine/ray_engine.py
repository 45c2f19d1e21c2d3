"""Units computed on a Ray cluster: an actor for each device, wherever Ray finds room.

The driver hands units out. An actor that is lost, alone or with its machine, has its units handed to others, who take
over its claims at once: the driver knows that it is gone. All of them live no longer than the driver.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from reinforce import catalog
from reinforce.counting import counted
from reinforce.engine.ray_actor import ActorReport, ActorTask, UnitActor
from reinforce.engine.ray_cluster import ActorSize, import_ray, living_machines
from reinforce.engine.unit_task import UnitTask
from reinforce.engine.work import WorkBook
from reinforce.errors import BuildError, WorkerDiedError
from reinforce.job import Ledger

SECONDS_BETWEEN_COUNTS = 2.0
"""Machines come and go."""
MACHINE_WAIT_SECONDS = 300.0
"""Where none is left, another may be on its way."""
SPARE_LOSSES = 3
"""A unit that kills who computes it must not kill for ever."""


def compute_on_ray(task: UnitTask, todo: Sequence[int], book: WorkBook) -> None:
    """Compute every unit whose claim is won, on the cluster that this process is connected to.

    Raises BuildError where no machine of the cluster can go on, and whatever an actor's work raises; what is committed
    stays.
    """
    crew = _Crew(task, todo, book)
    try:
        crew.work()
    finally:
        crew.dismiss()


@dataclass(eq=False)
class _Member:
    """An actor and what it is at."""

    number: int
    name: str
    actor: Any
    call: Any
    """What it was last asked; there is always one thing."""
    units: list[int] = field(default_factory=list)
    uncommitted: int = 0
    """What it has told of units that it has not committed."""


class _Crew:
    """The actors of one job."""

    def __init__(self, task: UnitTask, todo: Sequence[int], book: WorkBook) -> None:
        self.ray, self.task, self.book, self.todo = import_ray(), task, book, list(todo)
        self.load = task.workload()
        self.ledger = Ledger(task.objects, self.load.num_units, task.owner)
        self.request_sha256 = hashlib.sha256(task.objects.get(task.request)).hexdigest()
        self.size = ActorSize.choose(living_machines(), self.load.device, self.load.threads, self.load.workers,
                                     self.load.amount(todo))  # fmt: skip
        self.members: list[_Member] = []
        self.name, self.num_started = secrets.token_hex(4), 0
        self.losses = 0
        """Since a unit was last done."""
        self.counted = self.had_room = time.monotonic()
        self.room = self.size.room(living_machines())

    def work(self) -> None:
        while self.todo or any(member.units for member in self.members):
            self._count_room()
            self._grow()
            for member in self._ready():
                self._hear(member)

    def _ready(self) -> list[_Member]:
        """Those who have answered, after a second at the latest."""
        if not self.members:
            time.sleep(1.0)
            return []
        ready, _ = self.ray.wait([member.call for member in self.members], timeout=1.0)
        return [member for member in self.members if member.call in ready]

    def dismiss(self) -> None:
        for member in list(self.members):
            self._kill(member)

    def _count_room(self) -> None:
        """Raises BuildError where there has been none for long."""
        now = time.monotonic()
        if now - self.counted > SECONDS_BETWEEN_COUNTS:
            self.counted, self.room = now, self.size.room(living_machines())
        if self.room:
            self.had_room = now
        elif now - self.had_room > MACHINE_WAIT_SECONDS:
            gpu = " and a GPU" if self.size.num_gpus else ""
            raise BuildError(f"no machine of the cluster has {self.size.num_cpus} CPUs{gpu} any more: what is done "
                             "stays; type the same command with --resume when one has")  # fmt: skip

    def _grow(self) -> None:
        """To as many actors as there is room for, and units for them to begin with."""
        while len(self.members) < self.room and sum(not member.units for member in self.members) < len(self.todo):
            self.members.append(self._start())

    def _start(self) -> _Member:
        self.num_started += 1
        name = f"{self.name}-{self.num_started}"
        actor = self.ray.remote(UnitActor).options(
            num_cpus=self.size.num_cpus, num_gpus=self.size.num_gpus, max_restarts=0, scheduling_strategy="SPREAD"
        ).remote()  # fmt: skip
        units = replace(self.task, owner=replace(self.task.owner, helper=name))
        told = ActorTask(units=units, workers=self.size.workers, request_sha256=self.request_sha256,
                         folder=str(Path.cwd()), home=str(catalog.home()))  # fmt: skip
        return _Member(self.num_started, name, actor, actor.open.remote(told))

    def _hear(self, member: _Member) -> None:
        """Take an actor's answer and ask it for more. Raises what it could not do."""
        try:
            answer = self.ray.get(member.call)
        except self.ray.exceptions.RayTaskError as error:  # outside of what it answers: our package is missing there
            raise BuildError(f"an actor failed: {_reason(error)}") from error
        except self.ray.exceptions.RayError as error:
            self._lose(member, _reason(error))
            return
        if isinstance(answer, WorkerDiedError):
            self._lose(member, "a decoding process was killed")
        elif isinstance(answer, Exception):
            raise answer
        else:
            self._settle(member, answer)
            self._assign(member)

    def _settle(self, member: _Member, report: ActorReport) -> None:
        self.book.add_of(member.number, report.device, report.work)
        member.uncommitted += report.work.amount - self.load.amount(report.work.units)
        done = {*report.work.units, *report.refused}
        member.units = [unit for unit in member.units if unit not in done]
        if report.work.units:
            self.losses = 0
        if report.refused:  # some of a lost actor may have been done, and not told
            marked = set(self.ledger.done()).intersection(report.refused)
            self.book.progress.update(self.load.amount(marked))

    def _assign(self, member: _Member) -> None:
        """Units enough for its decoding processes and one ahead, but no more than its share; let it go without any."""
        share = -(-len(self.todo) // len(self.members))
        count = min(share, self.size.workers + 1 - len(member.units))
        new, self.todo = self.todo[:count], self.todo[count:]
        member.units += new
        if member.units:
            member.call = member.actor.advance.remote(new, [other.name for other in self.members])
        else:
            self._kill(member)

    def _lose(self, member: _Member, reason: str) -> None:
        self._kill(member)
        self.todo[:0] = member.units
        self.book.take_back(member.uncommitted)
        self.losses += 1
        self.book.progress.write(f"{self.task.verb}: lost an actor ({reason}); others take over "
                                 f"{counted(len(member.units), 'unit')}")
        if self.losses > SPARE_LOSSES + self.room:
            raise BuildError(f"{self.losses} actors were lost and no unit was done meanwhile ({reason}): look at their "
                             "logs, then type the same command with --resume")  # fmt: skip

    def _kill(self, member: _Member) -> None:
        self.members.remove(member)
        with contextlib.suppress(Exception):  # it may be gone
            self.ray.kill(member.actor)


def _reason(error: Exception) -> str:
    """The last line of what Ray says, which names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
