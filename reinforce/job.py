"""The one job shape: a plan cuts work into units; a unit is claimed, computed, published, marked; finalize closes all.

All state lies in the store itself. A claim is create-only, so it is also the queue: workers take the next unit whose
claim they win. A unit counts once its marker is there; the marker is written last and carries the hashes of the unit's
objects.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reinforce.errors import CorruptStoreError, OutputExistsError, UsageError
from reinforce.store import MANIFEST, PLAN, ObjectExistsError, Objects, claim_path, marker_path
from reinforce.store.canonical import Fields, parse_object
from reinforce.store.marker import CLAIMS
from reinforce.store.objects import is_hidden, is_temporary

STALE_SECONDS = 1800.0
"""A claim of another host is taken over after this time. On this host a claim is stale when its process is gone."""


@dataclass(frozen=True)
class Owner:
    """Who computes a unit: the builder's process, not its helpers; with it they live and die."""

    host: str
    pid: int
    process_start: str
    claimed: float
    helper: str = ""
    """Which of them, where one can be lost and its units given to another."""

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Owner:
        """Raises CorruptStoreError."""
        fields = Fields(document, "claim")
        pid, claimed = fields.integer("pid", 0, 1 << 31), fields.number("claimed")
        helper = fields.text("helper") if "helper" in fields.members else ""
        return cls(fields.text("host"), pid, fields.text("process_start"), claimed, helper)

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

    @classmethod
    def parse(cls, text: str | None) -> Share:
        """ "i/n" -> which units; i counts from 0 or from 1 (n/n is 0/n). None is all. Raises UsageError."""
        if text is None:
            return cls()
        try:
            index, count = (int(part) for part in text.split("/"))
            if not 0 <= index <= count or count < 1:
                raise ValueError
        except ValueError:
            raise UsageError(f"--shard takes i/n such as 1/4, not '{text}'") from None
        return cls(index % count, count)

    @classmethod
    def of(cls, units: Sequence[int], num_units: int) -> Share | None:
        """The one that has just these (two or more) units, where there is one."""
        if len(units) < 2:
            return None
        count = units[1] - units[0]
        share = cls(units[0], count)
        return share if units[0] < count and list(share.units(num_units)) == list(units) else None

    def units(self, num_units: int) -> range:
        return range(self.index, num_units, self.count)

    def __str__(self) -> str:
        return f"{self.index or self.count}/{self.count}"


class Ledger:
    """Which units are done, taken or free. Picklable: decoding workers claim for their builder."""

    def __init__(self, objects: Objects, num_units: int, owner: Owner) -> None:
        self.objects, self.num_units, self.owner = objects, num_units, owner

    def done(self) -> list[int]:
        """Units that have their marker."""
        return [unit for unit in range(self.num_units) if self.objects.exists(marker_path(unit))]

    def claim(self, unit: int, helpers: Collection[str] = ()) -> bool:
        """Whether the unit is now ours. A marked unit, or one that a living process has, is not; of a finished store
        (whose markers are gone) none is. `helpers`: all that the builder has now; what others of its had is free."""
        if self._is_over(unit):
            return False
        record = json.dumps(asdict(self.owner) | {"claimed": time.time()}, sort_keys=True).encode()
        generation = 0
        while True:
            path = claim_path(unit, generation)
            try:
                self.objects.put_new(path, record)
            except ObjectExistsError:
                try:
                    holder = _read_owner(self.objects, path)
                except FileNotFoundError:
                    continue  # given up just now
                if holder is not None and self._is_held(holder, helpers):
                    return False
                # Nothing is deleted: of two that take over from the same dead process, one wins the next generation.
                generation += 1
            else:
                return not self._is_over(unit)  # its last holder may have marked it just before it ended

    def release(self) -> None:
        """Give up the claims of units that we did not finish."""
        for unit in set(range(self.num_units)) - set(self.done()):
            generation = self._last_generation(unit)
            with contextlib.suppress(FileNotFoundError):
                holder = _read_owner(self.objects, claim_path(unit, generation))
                if holder is not None and holder.is_same(self.owner):
                    self.objects.delete(claim_path(unit, generation))

    def reopen(self, unit: int) -> None:
        """Make a unit that was done one that nobody has computed. Its marker goes last: who is stopped before that
        leaves a unit that is done."""
        for generation in range(self._last_generation(unit), -1, -1):
            self.objects.delete(claim_path(unit, generation))
        self.objects.delete(marker_path(unit))

    def _last_generation(self, unit: int) -> int:
        generation = 0
        while self.objects.exists(claim_path(unit, generation + 1)):
            generation += 1
        return generation

    def _is_held(self, holder: Owner, helpers: Collection[str]) -> bool:
        if not holder.is_same(self.owner):
            return holder.is_alive()
        return holder.helper == self.owner.helper or holder.helper in helpers

    def _is_over(self, unit: int) -> bool:
        return self.objects.exists(marker_path(unit)) or self.objects.exists(MANIFEST)


def check_place(path: Path, objects: Objects) -> None:
    """Nothing but a store is ever written into or removed, and nothing lies inside of another store.

    Raises OutputExistsError.
    """
    for parent in path.absolute().parents:
        if (parent / PLAN).is_file() and (parent / "zarr.json").is_file():
            raise OutputExistsError(parent, f"{path} would lie inside that store; type --out beside it")
    is_store = objects.exists(PLAN) or objects.exists(MANIFEST)
    if path.exists() and not (path.is_dir() and (is_store or _is_empty(path))):
        raise OutputExistsError(path, "it is not a store; type --out to write elsewhere")


def _is_empty(path: Path) -> bool:
    """But for what a kill during the very first put leaves."""
    return all(is_temporary(entry.name) for entry in path.iterdir())


def living_builders(objects: Objects) -> list[Owner]:
    """Other processes that hold units of a store right now."""
    here, found = Owner.here(), []
    for path, _ in objects.list():
        if path.startswith(CLAIMS) and not is_hidden(path):
            with contextlib.suppress(FileNotFoundError):
                holder = _read_owner(objects, path)
                found += [holder] if holder is not None and holder.is_alive() and not holder.is_same(here) else []
    return found


def _read_owner(objects: Objects, path: str) -> Owner | None:
    """None where the claim is not one that a build writes. Raises FileNotFoundError."""
    try:
        return Owner.from_json(parse_object(objects.get(path), path, canonical=False))
    except CorruptStoreError:
        return None


def _process_start(pid: int) -> str:
    """Something that tells a process from a later one with the same id; "" where none is, or a zombie."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it may end between any two looks at it
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return "" if state in "ZX" else rest[18]
    try:
        os.kill(pid, 0)
    except OSError:
        return ""
    return "alive"
