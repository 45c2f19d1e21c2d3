"""Joining what stores of one plan hold: a unit's objects are checked against its marker, then committed as by a build.

Nothing is written before all that can be compared has been: plans, what they fix, and units that several parts hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from reinforce.counting import first_of
from reinforce.errors import CorruptStoreError, StoreError
from reinforce.job import Ledger, Owner
from reinforce.store import (
    MANIFEST,
    PLAN,
    PROBES,
    ObjectExistsError,
    Objects,
    UnfinishedStore,
    UnitMarker,
    canonical_json,
    differing_members,
    marker_path,
)
from reinforce.store.marker import write_marker
from reinforce.store.objects import publish
from reinforce.store.part import StorePart
from reinforce.store.verified import hash_object
from reinforce.stored_listing import stored_listing

MEMBERS_SAID = 8
"""Of those in which two plans differ."""


class Merging:
    """Parts of one plan, to be joined in `out`: a place where nothing is, or a store of the same plan."""

    def __init__(self, parts: Sequence[StorePart], out: Objects) -> None:
        """Compares everything, writes nothing. Raises StoreError naming what differs, CorruptStoreError."""
        self.first, self.out = parts[0], out
        for part in parts[1:]:
            _check_plan(self.first, part)
        if out.exists(PLAN):
            _check_plan(self.first, UnfinishedStore(out))
        joined = [StorePart(out)] if out.exists(PROBES) else []
        fixed = _digests_of_fixed(self.first)
        for part in (*parts[1:], *joined):
            _check_fixed(self.first.name, fixed, part)
        self.first.check_metadata()
        stored_listing(self.first.begun)
        self.damage: list[str] = []
        """What is wrong with units of the parts, a line each; other parts may hold them whole."""
        self._sources = self._compare_units(parts, *joined)

    @property
    def todo(self) -> list[int]:
        """Units that some part holds and `out` does not."""
        return [unit for unit, parts in enumerate(self._sources) if parts]

    def run(self, progress: Callable[[int], object]) -> list[int]:
        """Copy; returns the units that were. May be killed at any point and done again, also by several at once.

        Raises StoreAccessError where `out` cannot be written.
        """
        copied: list[int] = []
        if self.out.exists(MANIFEST):
            return copied
        self._begin()
        ledger = Ledger(self.out, self.first.schema.num_units, Owner.here())
        try:
            for unit in self.todo:
                if ledger.claim(unit) and self._copy(unit):
                    copied.append(unit)
                progress(1)
        finally:
            ledger.release()
        return copied

    def _compare_units(self, parts: Sequence[StorePart], joined: StorePart | None = None) -> list[list[StorePart]]:
        """For every unit that is not in `out` yet the parts that hold it. Raises StoreError for two that differ."""
        sources: list[list[StorePart]] = []
        for unit in range(self.first.schema.num_units):
            done = None if joined is None else joined.marker(unit)
            held = [(part, marker) for part in parts if (marker := self._marker(part, unit)) is not None]
            known = held if joined is None or done is None else [(joined, done), *held]
            for other in known[1:]:
                _check_unit(known[0], other)
            sources.append([part for part, _ in held] if done is None else [])
        return sources

    def _marker(self, part: StorePart, unit: int) -> UnitMarker | None:
        try:
            return part.marker(unit)
        except CorruptStoreError as error:
            self.damage.append(str(error))
            return None

    def _begin(self) -> None:
        """The plan, then what it fixes, as it lies in the first part."""
        plan = canonical_json(self.first.plan)
        try:
            self.out.put_new(PLAN, plan)
        except ObjectExistsError:
            _check_plan(self.first, UnfinishedStore(self.out))
        for path in self.first.fixed:
            publish(self.out, {path: self.first.objects.get(path)})

    def _copy(self, unit: int) -> bool:
        """From the first part that has the unit as it was committed."""
        for part in self._sources[unit]:
            marker = self._marker(part, unit)
            try:
                contents = None if marker is None else part.contents(marker)
            except CorruptStoreError as error:
                self.damage.append(str(error))
                continue
            if marker is not None and contents is not None:
                publish(self.out, contents)
                write_marker(self.out, marker)
                return True
        return False


def _check_plan(first: StorePart, other: StorePart | UnfinishedStore) -> None:
    names = differing_members(first.plan, other.plan)
    if names:
        raise StoreError(
            f"{other.objects.name} is of another plan than {first.name}, in {_some(names)}: build the parts "
            "with the same options in equal environments, or begin each as a copy of one begun store"
        )


def _some(names: Sequence[str]) -> str:
    """All of a few members; of many what they are members of, and not more than is read."""
    if len(names) > MEMBERS_SAID:
        names = list(dict.fromkeys(name.partition(".")[0] for name in names))
    return first_of(names, MEMBERS_SAID)


def _digests_of_fixed(part: StorePart) -> dict[str, str]:
    """SHA-256 by path of what the plan fixes. Raises CorruptStoreError where it is gone."""
    try:
        return {path: hash_object(part.objects, path) for path in part.fixed}
    except FileNotFoundError as error:
        raise CorruptStoreError(f"{part.name}: {error.filename} is missing: leave it out") from error


def _check_fixed(name: str, expected: Mapping[str, str], other: StorePart) -> None:
    found = _digests_of_fixed(other)
    if differing := differing_members(expected, found):
        raise CorruptStoreError(f"{name} and {other.name} differ in {differing[0]}, which their plan fixes: "
                                "leave the damaged one out")  # fmt: skip


def _check_unit(one: tuple[StorePart, UnitMarker], other: tuple[StorePart, UnitMarker]) -> None:
    (part, marker), (other_part, other_marker) = one, other
    if marker != other_marker:
        raise StoreError(
            f"unit {marker.unit} of {other_part.name} differs from that of {part.name}: they were not computed alike; "
            f"leave one of them out, or delete {marker_path(marker.unit)} of the wrong one"
        )
