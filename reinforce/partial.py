"""A part of a finished store as a store of its own: some of its views, some of its transfer set's shards.

Of each object only the bytes that the part needs are fetched. The part is built as any store is, unit by unit under a
plan, so it may be killed at any moment and gone on with; its targets are those of the whole, bit for bit.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Container
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reinforce.copying import in_parallel, resumable
from reinforce.counting import counted
from reinforce.data.sources import VIRTUAL_SHARD_ROWS
from reinforce.errors import CorruptStoreError, OutputExistsError, StoreError, UsageError
from reinforce.progress import Progress, human_bytes
from reinforce.store import (
    MANIFEST,
    PLAN,
    Manifest,
    Objects,
    SampleColumns,
    Schema,
    Store,
    UnitMarker,
    canonical_json,
    commit_unit,
    create_store,
    finalize,
    marker_path,
    probe_objects,
    read_manifest,
    read_marker,
    verify,
    write_probes,
)
from reinforce.store.canonical import Fields, one_line, sha256_hex
from reinforce.store.fixed import array_objects, planned_layouts
from reinforce.store.marker import unit_paths, write_marker
from reinforce.store.objects import is_temporary, publish
from reinforce.store.records import read_records
from reinforce.store.schema import CARD, PART_FORMAT, UNITS, TargetArray
from reinforce.store.shard import chunk_range, decode_chunks, index_bytes, parse_index
from reinforce.store.verified import holds, read_object
from reinforce.store.writer import encode_array

if TYPE_CHECKING:
    from reinforce.views import Fingerprint

WHOLE_BYTES = 256 << 10
"""Smaller objects are fetched whole, by one request, and hashed."""


@dataclass(frozen=True)
class Selection:
    """Half-open ranges of a store's views and of its transfer set's shards; None for all of them."""

    views: tuple[int, int] | None = None
    shards: tuple[int, int] | None = None

    @classmethod
    def parse(cls, views: str | None, shards: str | None) -> Selection:
        """Raises UsageError."""
        return cls(_range("views", views), _range("shards", shards))

    def within(self, store: Store) -> tuple[range, range]:
        """The views and shards of a store. Raises UsageError where it has fewer, or none that can be told apart."""
        num_shards = len(store.plan["transfer"]["shards"])
        return _within("views", self.views, store.num_views), _within("shards", self.shards, num_shards)


def _range(name: str, text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    first, _, stop = text.partition(":")
    if not (text.isascii() and first.isdigit() and stop.isdigit() and int(first) < int(stop)):
        raise UsageError(f"--{name} is '{text}': type a range such as 0:2, its end not included")
    return int(first), int(stop)


def _within(name: str, asked: tuple[int, int] | None, total: int) -> range:
    if asked is not None and asked[1] > total:
        has = counted(total, name.removesuffix("s"))
        if name == "shards":
            has += f" (its transfer set's tars, or every {VIRTUAL_SHARD_ROWS:,} files of a folder)"
        raise UsageError(f"--{name} {asked[0]}:{asked[1]}: the store has {has}: type a range within 0:{total}")
    return range(*asked) if asked is not None else range(total)


class Part:
    """The views `views` of the shards `shards` of a store."""

    def __init__(self, store: Store, selection: Selection) -> None:
        """Raises UsageError for a selection that is not within the store or cannot stand alone."""
        self.store = store
        self.views, self.shards = selection.within(store)
        is_kept = [shard in self.shards or selection.shards is None for shard, _, _ in store.units]
        self.units = [unit for unit, kept in enumerate(is_kept) if kept]
        if not self.units:
            raise UsageError(f"shards {self.shards.start}:{self.shards.stop} hold no samples: type others")
        self.start, self.stop = store.units[self.units[0]][1], store.units[self.units[-1]][2]
        self.plan = self._plan()
        self.schema = Schema.from_plan(self.plan)
        self.fingerprint = self._fingerprint()

    @property
    def is_whole(self) -> bool:
        return len(self.views) == self.store.num_views and len(self.units) == self.store.num_units

    def samples(self) -> SampleColumns:
        store, kept = self.store, slice(self.start, self.stop)
        sizes = store.image_sizes()[kept]
        return SampleColumns(keys=store.keys(self.start, self.stop), sha64=store.sha64()[kept],
                             width=sizes[:, 0], height=sizes[:, 1])  # fmt: skip

    def marker(self, unit: int) -> UnitMarker:
        """What the whole's records say of the `unit`-th unit of the part."""
        return self._records[self.units[unit]]

    @cached_property
    def _records(self) -> list[UnitMarker]:
        return read_records(self.store.objects, self.store.schema)

    def unit_paths(self, unit: int) -> list[str]:
        """The objects of the `unit`-th unit of the part."""
        return unit_paths(self.schema, self.store.codec, unit)

    @cached_property
    def paths(self) -> frozenset[str]:
        """Every object that the part has, finished or not."""
        num_key_bytes = len(self.samples().arrays()["key_bytes"])
        layouts = planned_layouts(self.schema, self.store.codec, num_key_bytes)
        probes = () if self.fingerprint is None else probe_objects(self.fingerprint.to_array(), {})
        markers = map(marker_path, range(len(self.units)))
        return frozenset({PLAN, MANIFEST, UNITS, *CARD, *self.schema.group_objects(self.store.codec), *markers, *probes,
                          *chain.from_iterable(map(array_objects, layouts))})  # fmt: skip

    def fetch(self, objects: Objects, unit: int) -> dict[str, bytes]:
        """The part's objects of its `unit`-th unit, by as few bytes of the whole's as it takes.

        Raises CorruptStoreError naming an object that is damaged.
        """
        old_unit, contents = self.units[unit], {}
        arrays = self.schema.target_arrays(self.store.codec)
        for name, old in self.store.target_arrays.items():
            path, new = old.object_path(old_unit), arrays[name]
            if len(self.views) == self.store.num_views:
                contents[new.object_path(unit)] = read_object(objects, self.store.manifest, path)
                continue
            chunks = self._chunks(objects, old, path)
            contents |= encode_array(new.layout, new.padded(self._joined(old, chunks)), new.region(unit))
        return contents

    def num_bytes(self, unit: int) -> int:
        """Memory that `fetch` takes, at most."""
        arrays = self.store.target_arrays.values()
        return sum(2 * math.prod(array.layout.shard_shape) * array.layout.numpy_dtype.itemsize for array in arrays)

    def _chunks(self, objects: Objects, array: TargetArray, path: str) -> NDArray[Any]:
        """Every chunk of an object that serves one of the views, in their order."""
        layout, expected = array.layout, self.store.manifest.objects[path]
        is_whole = not array.spec.per_view or expected.num_bytes <= WHOLE_BYTES
        data = read_object(objects, self.store.manifest, path) if is_whole else b""

        def read(start: int, length: int) -> bytes:
            return data[start : start + length] if is_whole else objects.get_range(path, start, length)

        views = self.views if array.spec.per_view else range(1)
        try:
            tail = index_bytes(layout)
            index = parse_index(layout, read(expected.num_bytes - tail, tail), expected.num_bytes)
            ranges = [chunk_range(index, chunk) for view in views for chunk in array.chunk_indices(view)]
            first = min(start for start, _ in ranges)
            piece = read(first, max(start + length for start, length in ranges) - first)
            return decode_chunks(layout, [piece[start - first : start - first + length] for start, length in ranges])
        except (ValueError, FileNotFoundError) as error:
            raise self.store.objects.error(path, error) from error

    def _joined(self, array: TargetArray, chunks: NDArray[Any]) -> NDArray[Any]:
        """An array's values of a unit, with the view axis where it has one."""
        if not array.spec.per_view:
            return array.view_part(chunks)
        return np.stack([array.view_part(own) for own in np.split(chunks, len(self.views))])

    def _plan(self) -> dict[str, Any]:
        from reinforce.data.listing import listing_digest

        plan, transfer = self.store.plan, self.store.plan["transfer"]
        first_shard = self.shards.start
        shards = [transfer["shards"][shard] for shard in self.shards]
        units = [self.store.units[unit] for unit in self.units]
        whole_digest = plan.get("part_of", {}).get("transfer_digest", transfer["digest"])
        is_all = len(self.units) == self.store.num_units
        digests = [Fields(shard, f"{PLAN}: shard").digest("digest") for shard in shards]
        digest = transfer["digest"] if is_all else listing_digest(digests)
        return plan | {
            "format": PART_FORMAT,
            "views": len(self.views),
            "first_view": self.store.first_view + self.views.start,
            "measured_views": self.store.schema.measured_views,
            "num_samples": self.stop - self.start,
            "units": [[shard - first_shard, start - self.start, stop - self.start] for shard, start, stop in units],
            "transfer": transfer | {"digest": digest, "shards": shards},
            "part_of": {
                "manifest_digest": self.store.manifest.digest,
                "views": [self.views.start, self.views.stop],
                "shards": [self.shards.start, self.shards.stop],
                "transfer_digest": whole_digest,
            },
        }

    def _fingerprint(self) -> Fingerprint | None:
        """The whole's probe views of the part's units. Raises UsageError where there were some and none is left."""
        from reinforce.views import Fingerprint

        found = self.store.probes()
        if found is None or not found[0].get("probes"):
            return None
        whole = Fingerprint.from_json(*found)
        own = whole.of_units({old: new for new, old in enumerate(self.units)})
        if not own.probes:
            shards = [self.store.units[probe.unit][0] for probe in whole.probes]
            raise UsageError(f"shards {self.shards.start}:{self.shards.stop} hold none of the views by which a store's "
                             f"pixels are checked: type more of them, such as {self._with_one_of(shards)}")  # fmt: skip
        return own

    def _with_one_of(self, shards: list[int]) -> str:
        """The least range that holds what was asked for and one of these shards."""
        nearest = min(shards, key=lambda shard: max(self.shards.start - shard, shard - self.shards.stop + 1))
        return f"{min(nearest, self.shards.start)}:{max(nearest + 1, self.shards.stop)}"


@dataclass(frozen=True, kw_only=True)
class PartCopied:
    """What copying a part did."""

    part: Part
    manifest: Manifest
    num_fetched: int

    def to_json(self) -> dict[str, object]:
        plan, manifest = self.part.plan, self.manifest
        return {
            "manifest_digest": manifest.digest,
            "objects": len(manifest.objects),
            "bytes": manifest.num_bytes,
            "part_of": plan["part_of"],
            "samples": plan["num_samples"],
            "units": len(plan["units"]),
            "units_fetched": self.num_fetched,
        }

    def __str__(self) -> str:
        part, size = self.part, human_bytes(self.manifest.num_bytes)
        there = len(part.units) - self.num_fetched
        before = f", {there} of {counted(len(part.units), 'unit')} there before" if there else ""
        return (f"views {part.views.start}:{part.views.stop} of {part.store.num_views}, {part.stop - part.start} of "
                f"{counted(part.store.num_samples, 'sample')}, {size}{before}")  # fmt: skip


def copy_part(part: Part, source: Objects, destination: Objects, *, jobs: int, repair: bool = False,
              quiet: bool = False) -> PartCopied:  # fmt: skip
    """Make `destination` a store of the part, whose units are fetched from `source`, `jobs` at a time.

    What an earlier call left is compared with what it has committed, and fetched again where it differs. `repair` does
    so with a finished part, too.

    Raises OutputExistsError where something else is there, CorruptStoreError naming an object that is damaged.
    """
    if _is_begun(part, destination):
        _check_finished(part, destination, repair=repair)
    units, fetched = range(len(part.units)), 0
    with resumable(lambda: f"{_num_done(destination, part)} of {counted(len(units), 'unit')} there"):
        create_store(destination, part.plan, part.store.codec, part.samples())
        if part.fingerprint is not None:
            write_probes(destination, part.fingerprint.to_array(), part.fingerprint.to_json())
        if not destination.exists(MANIFEST):
            bring = partial(_bring, part, source, destination)
            with Progress("pull", len(units), unit="units", quiet=quiet) as progress:
                for is_new in in_parallel(bring, units, part.num_bytes, jobs):
                    fetched += is_new
                    progress.update(1)
        manifest = finalize(destination, part.plan)
    return PartCopied(part=part, manifest=manifest, num_fetched=fetched)


def _bring(part: Part, source: Objects, destination: Objects, unit: int) -> bool:
    """See to it that a unit is there; whether it had to be fetched."""
    record = part.marker(unit)
    if _is_there(part, destination, unit, record):
        return False
    commit_unit(destination, part.schema, unit, part.fetch(source, unit), record.fidelity, record.skipped)
    return True


def _is_there(part: Part, destination: Objects, unit: int, record: UnitMarker) -> bool:
    """Whether a unit is as it was committed: it may have been damaged since."""
    try:
        marker = read_marker(destination, unit)
    except CorruptStoreError:
        return False
    if marker is None or marker.record() != record.record() or {*marker.objects} != {*part.unit_paths(unit)}:
        return False
    return all(holds(destination, path, digest) for path, digest in marker.objects.items())


def _is_begun(part: Part, destination: Objects) -> bool:
    """Whether this very part was begun there. Raises OutputExistsError for anything else, or beside it."""
    plan = destination.get(PLAN) if destination.exists(PLAN) else None
    if plan == canonical_json(part.plan) or _was_finished(part, destination):
        _check_own(part, destination)
        return True
    if plan is not None:
        raise OutputExistsError(destination.name, "it holds another store; type another --out")
    if there := _first(destination):
        raise _taken(destination, there)
    return False


def _was_finished(part: Part, destination: Objects) -> bool:
    """Whether a manifest says that this very part is there, whatever has become of its plan."""
    with contextlib.suppress(StoreError):
        return read_manifest(destination).plan_digest == sha256_hex(canonical_json(part.plan))
    return False


def _check_own(part: Part, destination: Objects) -> None:
    """Raises OutputExistsError for what is no object of the part: the end of a store would remove it, or stop at it."""
    if foreign := _first(destination, part.paths):
        raise _taken(destination, foreign)


def _first(objects: Objects, known: Container[str] = ()) -> str | None:
    """The first path that is not known, but for what killed puts leave."""
    return min((path for path, _ in objects.list() if path not in known and not is_temporary(path)), default=None)


def _taken(destination: Objects, path: str) -> OutputExistsError:
    return OutputExistsError(destination.name, f"it holds other things, such as {one_line(path)}: move them elsewhere, "
                             "or type another --out")  # fmt: skip


def _check_finished(part: Part, destination: Objects, *, repair: bool) -> None:
    """Raises CorruptStoreError for a finished part that is damaged; `repair` makes it one to go on with."""
    if not destination.exists(MANIFEST):
        return
    with contextlib.suppress(StoreError):
        finalize(destination, part.plan)  # a kill may have left markers
    report = verify(destination, "full")
    if report.ok:
        return
    if not repair:
        problem = report.problems[0]
        raise CorruptStoreError(f"{destination.name}: {problem}: type --repair to fetch what is damaged again")
    _reopen(part, destination)


def _reopen(part: Part, destination: Objects) -> None:
    """Put the plan again where it is damaged; give units the markers that they had, as far as the manifest can be read;
    then remove that."""
    publish(destination, {PLAN: canonical_json(part.plan)})
    with contextlib.suppress(StoreError):
        listed = read_manifest(destination).objects
        for unit in range(len(part.units)):
            digests = {path: listed[path] for path in part.unit_paths(unit) if path in listed}
            write_marker(destination, replace(part.marker(unit), unit=unit, objects=digests))
    destination.delete(MANIFEST)


def _num_done(destination: Objects, part: Part) -> int:
    return sum(destination.exists(marker_path(unit)) for unit in range(len(part.units)))
