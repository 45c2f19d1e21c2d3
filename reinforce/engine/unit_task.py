"""What an engine is told when other machines compute: the units of a job, whatever they are units of."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch

from reinforce.engine.commits import OthersFollow
from reinforce.engine.feed import UnitQueue
from reinforce.engine.work import Work
from reinforce.job import Ledger, Owner
from reinforce.store import Objects


class UnitWorker(Protocol):
    """Of one process: computes and commits units."""

    ledger: Ledger
    device: torch.device

    def build(self, queue: UnitQueue, workers: int, others_follow: OthersFollow) -> Iterator[Work]:
        """Those that a queue gives; says again and again what was done. `others_follow` in the queue."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a driver knows of a job."""

    num_units: int
    device: str
    """Type of device that a process needs."""
    threads: int
    """Of its arithmetic."""
    workers: int
    """Processes beside each, -1 to choose."""
    amount: Callable[[Iterable[int]], int]
    """Of these units, in what `Work` counts."""


@dataclass(frozen=True, kw_only=True)
class UnitTask(ABC):
    """What another process is told, to compute units of a job. Picklable."""

    verb: ClassVar[str]
    """What the job is called in messages."""
    request: ClassVar[str]
    """Object that all processes must see alike: it says what is computed."""

    objects: Objects
    owner: Owner
    """The driver's process, and which of its helpers the other one is."""

    @abstractmethod
    def workload(self) -> Workload: ...

    @abstractmethod
    def open_builder(self) -> UnitWorker:
        """Raises where this process cannot compute what was asked for."""
