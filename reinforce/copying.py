"""Copying a finished store from one place to another: what is there stays, what arrives is compared, the manifest last.

`plan.json` goes first and is created, never replaced: it claims the place for its store. Until the manifest is there
nothing takes the copy for a store, and every object is whole or absent; so a copy may be killed at any moment and
begun again, also by several at once.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, TypeVar, runtime_checkable

from reinforce.command import TalkOptions
from reinforce.counting import counted
from reinforce.errors import (
    CorruptStoreError,
    OutputExistsError,
    RemoteAccessError,
    StoppedError,
    StoreAccessError,
    UsageError,
)
from reinforce.progress import Progress, human_bytes
from reinforce.store import MANIFEST, PLAN, LocalObjects, Manifest, ObjectExistsError, Objects, read_manifest
from reinforce.store.canonical import one_line
from reinforce.store.inventory import differences, mending_advice
from reinforce.store.marker import is_marker
from reinforce.store.objects import is_temporary
from reinforce.store.remote_objects import RemoteObjects
from reinforce.store.verified import hash_object, read_object

IN_FLIGHT_BYTES = 512 << 20
"""Memory of objects on their way; a larger one goes alone."""
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class CopyOptions(TalkOptions):
    jobs: int = 8
    """Objects that are copied at once."""
    repair: bool = False
    """Replace objects of this very store that are damaged where they are copied to."""
    resume: bool = False
    """Go on after an interruption, as it does without: what is there with equal content is never copied again."""

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise UsageError(f"--jobs must be at least 1, not {self.jobs}")


@runtime_checkable
class Checksummed(Protocol):
    """A place that computes the MD5 of what it receives."""

    def md5(self, path: str) -> str | None:
        """None where it does not say."""


@dataclass
class Copied:
    """What a copy did. `num_read_back` objects are known to be right from reading them, not from a checksum."""

    manifest: Manifest
    num_copied: int = 0
    copied_bytes: int = 0
    num_there: int = 0
    num_read_back: int = 0

    def to_json(self) -> dict[str, object]:
        return {
            "manifest_digest": self.manifest.digest,
            "objects": len(self.manifest.objects),
            "bytes": self.manifest.num_bytes,
            "copied": self.num_copied,
            "copied_bytes": self.copied_bytes,
            "there_before": self.num_there,
            "read_back": self.num_read_back,
        }

    def __str__(self) -> str:
        there = f", {self.num_there} were there" if self.num_there else ""
        return (f"{len(self.manifest.objects)} objects, {human_bytes(self.manifest.num_bytes)}: "
                f"{self.num_copied} copied{there}, all compared")  # fmt: skip


@dataclass(frozen=True)
class _Arrival:
    """An object that the destination has: put now, or found there."""

    path: str
    is_new: bool
    was_read_back: bool = False
    md5: str = ""


def copy_store(source: Objects, destination: Objects, *, label: str, jobs: int, repair: bool = False,
               quiet: bool = False) -> Copied:  # fmt: skip
    """Make `destination` the store at `source`, `jobs` objects at a time.

    Every object is hashed when it is read, and known to be right where it arrived: by the service's own checksum of
    what it received, or by reading it there. `repair` replaces objects of the same store that are not right there.

    Raises MissingStoreError and UnfinishedStoreError for the source, CorruptStoreError naming an object that is
    damaged at either end, OutputExistsError where the destination holds something else.
    """
    if isinstance(destination, RemoteObjects):
        destination.check_writable()
    manifest = read_manifest(source)
    for difference in differences(source, manifest):
        if not difference.harmless:
            raise CorruptStoreError(f"{source.name}: {difference}; {mending_advice(source.name)}")
    copy = _Copy(source, destination, manifest, repair)
    with resumable(copy.words), Progress(label, len(manifest.objects), unit="objects", quiet=quiet) as progress:
        copy.run(jobs, lambda: progress.update(1, copied=human_bytes(copy.report.copied_bytes)))
    return copy.report


def check_apart(source: Objects, destination: Objects) -> None:
    """Raises UsageError for a destination inside of the source: a store has no other objects."""
    if isinstance(source, LocalObjects) and isinstance(destination, LocalObjects):
        root = source.root.resolve()
        if root in destination.root.resolve().parents:
            raise UsageError(f"{destination.name} lies inside the store: type a place beside it")


@contextlib.contextmanager
def resumable(words: Callable[[], str]) -> Iterator[None]:
    """What ends a copy, and that the same command goes on; `words` say how far it is."""
    how = "type the same command again to go on"
    try:
        yield
    except (RemoteAccessError, StoreAccessError) as error:
        raise type(error)(f"{error}; {words()}: mend that, then {how}") from error
    except KeyboardInterrupt:
        raise StoppedError(f"stopped, {words()}: {how}") from None


def in_parallel(work: Callable[[T], R], items: Iterable[T], num_bytes: Callable[[T], int], jobs: int) -> Iterator[R]:
    """Results as they come, of at most `jobs` items and IN_FLIGHT_BYTES at once; the first error ends it."""
    with ThreadPoolExecutor(jobs) as pool:
        running: dict[Future[R], int] = {}
        for item in items:
            size = num_bytes(item)
            while len(running) >= jobs or (running and sum(running.values()) + size > IN_FLIGHT_BYTES):
                yield from _finished(running)
            running[pool.submit(work, item)] = size
        while running:
            yield from _finished(running)


def _finished(running: dict[Future[T], int]) -> Iterator[T]:
    done, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        del running[future]
        yield future.result()


@dataclass
class _Copy:
    """One store on its way."""

    source: Objects
    destination: Objects
    manifest: Manifest
    repair: bool
    report: Copied = field(init=False)

    def __post_init__(self) -> None:
        self.report = Copied(self.manifest)

    def words(self) -> str:
        done, objects = self.report.num_copied + self.report.num_there, counted(len(self.manifest.objects), "object")
        return f"{done} of {objects} there"

    def run(self, jobs: int, arrived: Callable[[], object]) -> None:
        sizes = self._survey()
        others = sorted(self.manifest.objects.keys() - {PLAN})
        new: dict[str, str] = {}
        for paths in ([PLAN], others):
            bring = partial(self._bring, sizes)
            for arrival in in_parallel(bring, paths, self._num_bytes, jobs):
                self._count(arrival)
                if arrival.is_new:
                    new[arrival.path] = arrival.md5
                arrived()
        self._compare(new, jobs)
        self._put_manifest()
        for path in filter(is_marker, sizes):
            self.destination.delete(path)
        sweep_temporaries(self.destination)

    def _survey(self) -> dict[str, int]:
        """Path and size of every object of this store at the destination. Raises OutputExistsError for any other."""
        sizes = {path: size for path, size in self.destination.list() if not is_temporary(path)}
        is_finished = MANIFEST in sizes and self._has_manifest()
        if not is_finished and PLAN in sizes and not self._is_right(PLAN, sizes[PLAN])[0]:
            raise self._taken("it holds another store, which is not finished")
        is_ours = is_finished or PLAN in sizes
        others = sorted(sizes.keys() - self.manifest.objects.keys())
        foreign = [path for path in others if not (is_ours and (path == MANIFEST or is_marker(path)))]
        if foreign:
            raise self._taken(f"it holds other things, such as {one_line(foreign[0])}")
        if MANIFEST in sizes and not is_finished:
            self._drop_manifest()
        return sizes

    def _bring(self, sizes: dict[str, int], path: str) -> _Arrival:
        """See to it that the destination has an object. Called in several threads, each with other paths."""
        if path in sizes:
            is_right, was_read_back = self._is_right(path, sizes[path])
            if is_right:
                return _Arrival(path, is_new=False, was_read_back=was_read_back)
            if not self.repair:
                raise self._differs(path)
        data = read_object(self.source, self.manifest, path)
        if path in sizes:
            self.destination.delete(path)
        try:
            self.destination.put_new(path, data)
        except ObjectExistsError:  # another copy of the same store was quicker, or of another one
            is_right, was_read_back = self._is_right(path, self.destination.size(path))
            if not is_right:
                raise self._differs(path) from None
            return _Arrival(path, is_new=False, was_read_back=was_read_back)
        return _Arrival(path, is_new=True, md5=_md5(data))

    def _is_right(self, path: str, size: int) -> tuple[bool, bool]:
        """Whether the destination's object is the store's; and whether it had to be read for that."""
        expected = self.manifest.objects[path]
        if size != expected.num_bytes:
            return False, False
        md5 = self._md5_there(path)
        if md5 is not None and md5 == _md5(read_object(self.source, self.manifest, path)):
            return True, False
        return hash_object(self.destination, path) == expected.sha256, True

    def _compare(self, new: dict[str, str], jobs: int) -> None:
        """What the destination says now of every object that was put."""
        sizes = dict(self.destination.list())
        for path, expected in self.manifest.objects.items():
            if sizes.get(path) != expected.num_bytes:
                raise self._arrived_wrong(path)
        unsure = sorted(path for path, md5 in new.items() if self._md5_there(path) != md5)
        hash_there = partial(hash_object, self.destination)
        for path, sha256 in in_parallel(lambda path: (path, hash_there(path)), unsure, lambda _: 0, jobs):
            if sha256 != self.manifest.objects[path].sha256:
                raise self._arrived_wrong(path)
            self.report.num_read_back += 1

    def _put_manifest(self) -> None:
        with contextlib.suppress(ObjectExistsError):
            self.destination.put_new(MANIFEST, self.manifest.to_bytes())
        if not self._has_manifest():
            raise self._arrived_wrong(MANIFEST)

    def _has_manifest(self) -> bool:
        """Whether the one there can be read. Raises OutputExistsError where it is another store's."""
        try:
            there = read_manifest(self.destination)
        except CorruptStoreError:
            return False
        if there.digest != self.manifest.digest:
            raise self._taken(f"it holds another store, {there.digest[:12]} and not {self.manifest.digest[:12]}")
        return True

    def _drop_manifest(self) -> None:
        """The damaged one of a store whose plan says that it is this very one. Raises CorruptStoreError."""
        if not self.repair:
            raise self._differs(MANIFEST)
        self.destination.delete(MANIFEST)

    def _md5_there(self, path: str) -> str | None:
        return self.destination.md5(path) if isinstance(self.destination, Checksummed) else None

    def _num_bytes(self, path: str) -> int:
        return self.manifest.objects[path].num_bytes

    def _count(self, arrival: _Arrival) -> None:
        self.report.num_there += not arrival.is_new
        self.report.num_copied += arrival.is_new
        self.report.copied_bytes += self._num_bytes(arrival.path) if arrival.is_new else 0
        self.report.num_read_back += arrival.was_read_back

    def _taken(self, why: str) -> OutputExistsError:
        return OutputExistsError(self.destination.name, f"{why}; type another place")

    def _differs(self, path: str) -> CorruptStoreError:
        return CorruptStoreError(f"{self.destination.name}: {path} is there with other content: type --repair to "
                                 "replace it, or another place")  # fmt: skip

    def _arrived_wrong(self, path: str) -> CorruptStoreError:
        return CorruptStoreError(f"{self.destination.name}: {path} is not there as it was put: type the same command "
                                 "with --repair")  # fmt: skip


def sweep_temporaries(objects: Objects) -> None:
    """Remove what killed puts left in a folder; a put that goes on beside it begins again."""
    if isinstance(objects, LocalObjects):
        for path, _ in list(objects.list()):
            if is_temporary(path):
                objects.delete(path)


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
