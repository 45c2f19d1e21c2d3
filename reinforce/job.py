"""The one job shape: a plan cuts work into units; a unit is claimed, computed, published, marked; finalize closes all.

All state lies in the store itself. A claim is create-only, so it is also the queue: workers take the next unit whose
claim they win. A unit counts once its marker is there; the marker is written last and carries the hashes of the unit's
objects.
"""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from reinforce.store import MANIFEST, ObjectExistsError, Objects, claim_path, marker_path

STALE_SECONDS = 1800.0
"""A claim of another host is taken over after this time. On this host a claim is stale when its process is gone."""


@dataclass(frozen=True)
class Owner:
    """Who computes a unit: the builder's process, not its helpers."""

    host: str
    pid: int
    process_start: str
    claimed: float

    @classmethod
    def here(cls) -> Owner:
        return cls(socket.gethostname(), os.getpid(), _process_start(os.getpid()), time.time())

    def is_same(self, other: Owner) -> bool:
        return (self.host, self.pid, self.process_start) == (other.host, other.pid, other.process_start)

    def is_alive(self) -> bool:
        if self.host != socket.gethostname():
            return time.time() - self.claimed < STALE_SECONDS
        return _process_start(self.pid) == self.process_start != ""


@dataclass(frozen=True)
class Share:
    """Part `index` of `count` of the units: what `--shard i/n` computes. Parts are disjoint and cover all."""

    index: int = 0
    count: int = 1

    def units(self, num_units: int) -> range:
        return range(self.index, num_units, self.count)


class Ledger:
    """Which units are done, taken or free. Picklable: decoding workers claim for their builder."""

    def __init__(self, objects: Objects, num_units: int, owner: Owner) -> None:
        self.objects, self.num_units, self.owner = objects, num_units, owner

    def done(self) -> list[int]:
        """Units that have their marker."""
        return [unit for unit in range(self.num_units) if self.objects.exists(marker_path(unit))]

    def claim(self, unit: int) -> bool:
        """Whether the unit is now ours. A marked unit, or one that a living process has, is not; of a finished store
        (whose markers are gone) none is."""
        if self.objects.exists(marker_path(unit)) or self.objects.exists(MANIFEST):
            return False
        path = claim_path(unit)
        record = json.dumps(asdict(self.owner) | {"claimed": time.time()}, sort_keys=True).encode()
        try:
            self.objects.put_new(path, record)
        except ObjectExistsError:
            holder = self._holder(path)
            if holder is not None and (holder.is_alive() or holder.is_same(self.owner)):
                return False
            return self._take_over(path, record)
        return True

    def release(self) -> None:
        """Give up the claims of units that we did not finish."""
        for unit in set(range(self.num_units)) - set(self.done()):
            holder = self._holder(claim_path(unit))
            if holder is not None and holder.is_same(self.owner):
                self.objects.delete(claim_path(unit))

    def _holder(self, path: str) -> Owner | None:
        try:
            return Owner(**json.loads(self.objects.get(path)))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _take_over(self, path: str, record: bytes) -> bool:
        self.objects.delete(path)
        try:
            self.objects.put_new(path, record)
        except ObjectExistsError:
            return False
        return True


def _process_start(pid: int) -> str:
    """Something that tells a process from a later one with the same id; "" where none is, or a zombie."""
    stat = Path(f"/proc/{pid}/stat")
    if stat.exists():
        state, *rest = stat.read_text().rsplit(")", 1)[1].split()
        return "" if state in "ZX" else rest[18]
    try:
        os.kill(pid, 0)
    except OSError:
        return ""
    return "alive"
