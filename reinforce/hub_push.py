"""A finished store, or any files, into a repository of the Hugging Face Hub: many objects a commit, the manifest last.

What is there with equal content is not sent again, and a commit is there whole or not at all: so a push may be killed
at any moment and begun again. Until the manifest is there nothing takes the repository for a store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reinforce.errors import CorruptStoreError, OutputExistsError, RemoteAccessError, StoppedError, UsageError
from reinforce.progress import Progress, human_bytes
from reinforce.remote.hub import HubPlace, content_tags
from reinforce.remote.place import RemoteObject
from reinforce.store import MANIFEST, PLAN, Licences, Manifest, Objects, read_manifest
from reinforce.store.canonical import one_line
from reinforce.store.inventory import differences
from reinforce.store.objects import is_hidden
from reinforce.store.verified import VerifiedObjects

COMMIT_OBJECTS, COMMIT_BYTES = 256, 256 << 20
"""At most of a commit; a larger object goes alone. The bytes are held in memory."""


@dataclass(kw_only=True)
class Uploaded:
    """What a push to the Hub did."""

    num_objects: int
    num_sent: int = 0
    sent_bytes: int = 0
    num_there: int = 0
    num_commits: int = 0

    def to_json(self) -> dict[str, int]:
        return {"objects": self.num_objects, "copied": self.num_sent, "copied_bytes": self.sent_bytes,
                "there_before": self.num_there, "commits": self.num_commits}  # fmt: skip

    def __str__(self) -> str:
        there = f", {self.num_there} were there" if self.num_there else ""
        return (f"{self.num_objects} objects: {self.num_sent} sent ({human_bytes(self.sent_bytes)}) in "
                f"{self.num_commits} commits{there}, all compared")  # fmt: skip


def push_store(source: Objects, place: HubPlace, *, is_public: bool = False, repair: bool = False,
               quiet: bool = False) -> Uploaded:  # fmt: skip
    """Make `place` the store at `source`; a repository that is not there yet becomes a private one, or a public one.

    `repair` replaces objects of the same store that are there with other content. Raises MissingStoreError and
    UnfinishedStoreError for the source, CorruptStoreError for a damaged one, UsageError where a licence is unknown of a
    store that is to be public, OutputExistsError where the place holds something else, RemoteAccessError.
    """
    manifest = read_manifest(source)
    for difference in differences(source, manifest):
        if not difference.harmless:
            raise CorruptStoreError(f"{source.name}: {difference}; type reinforce verify {source.name} --repair")
    objects = VerifiedObjects(source, manifest)
    if is_public:
        check_public(Licences.of_plan(objects.read_json(PLAN)))
    place.create(is_private=not is_public)
    upload = _Upload(place, objects.read, f"Store {manifest.digest[:12]}", len(manifest.objects) + 1, repair)
    _check_way(place, upload.there, manifest)
    known = {path: digest.sha256 for path, digest in manifest.objects.items()}
    with Progress("push", upload.report.num_objects, unit="objects", quiet=quiet) as progress:
        upload.run([PLAN, *sorted(manifest.objects.keys() - {PLAN})], known, progress.update)
        upload.read = {MANIFEST: manifest.to_bytes()}.__getitem__
        upload.run([MANIFEST], {}, progress.update)
    return upload.report


def push_files(contents: Mapping[str, bytes | Path], place: HubPlace, message: str, *, is_public: bool = False,
               quiet: bool = False) -> Uploaded:  # fmt: skip
    """Put files into a repository, such as a student's: path in it -> bytes, or a file of this machine.

    What is there under other names stays; equal ones are not sent, others of the same name are replaced.
    """

    def read(path: str) -> bytes:
        found = contents[path]
        return found.read_bytes() if isinstance(found, Path) else found

    place.create(is_private=not is_public)
    upload = _Upload(place, read, message, len(contents), repair=True)
    with Progress("push", len(contents), unit="files", quiet=quiet) as progress:
        upload.run(sorted(contents), {}, progress.update)
    return upload.report


def check_public(licences: Licences) -> None:
    """Raises UsageError where nobody said under which licence an origin stands."""
    if licences.unknown:
        missing = " and of ".join(licences.unknown)
        raise UsageError(f"the licence of {missing} is unknown, so the store cannot be public: leave out --public, or "
                         "build it with --teacher-license and --data-license")  # fmt: skip


def _check_way(place: HubPlace, there: Mapping[str, RemoteObject], manifest: Manifest) -> None:
    """Raises OutputExistsError where the place holds another store, or other things."""
    if MANIFEST in there and (found := Manifest.parse(place.get(MANIFEST))).digest != manifest.digest:
        raise _taken(place, f"it holds another store, {found.digest[:12]} and not {manifest.digest[:12]}")
    if PLAN in there and content_tags(place.get(PLAN))[0] != manifest.plan_digest:
        raise _taken(place, "it holds another store, which is not finished")
    foreign = sorted(path for path in there if path not in {*manifest.objects, MANIFEST} and not is_hidden(path))
    if foreign:
        raise _taken(place, f"it holds other things, such as {one_line(foreign[0])}")


def _taken(place: HubPlace, why: str) -> OutputExistsError:
    return OutputExistsError(place.url, f"{why}; type another repository, or a folder in it: {place.url}/NAME")


@dataclass
class _Upload:
    """Objects on their way into one place."""

    place: HubPlace
    read: Callable[[str], bytes]
    message: str
    num_objects: int
    repair: bool
    there: dict[str, RemoteObject] = field(init=False)
    report: Uploaded = field(init=False)

    def __post_init__(self) -> None:
        self.there = {found.path: found for found in self.place.list()}
        self.report = Uploaded(num_objects=self.num_objects)

    def run(self, paths: Sequence[str], known: Mapping[str, str], arrived: Callable[[int], object]) -> None:
        """Send what is not there, then compare that with the Hub's listing. `known`: SHA-256 by path."""
        sent: dict[str, tuple[str, ...]] = {}
        try:
            for batch in self._batches(paths, known, arrived):
                sent |= {path: content_tags(data) for path, data in batch.items()}
                self._commit(batch)
                arrived(len(batch))
        except RemoteAccessError as error:
            raise RemoteAccessError(f"{error}; {self._words()}: mend that, then type the same command again") from error
        except KeyboardInterrupt:
            raise StoppedError(f"stopped, {self._words()}: type the same command again to go on") from None
        self._compare(sent)

    def _batches(self, paths: Sequence[str], known: Mapping[str, str],
                 arrived: Callable[[int], object]) -> Iterator[dict[str, bytes]]:  # fmt: skip
        """What is to be sent, a commit at a time."""
        batch: dict[str, bytes] = {}
        num_bytes = 0
        for path in paths:
            data = self._needed(path, known.get(path))
            if data is None:
                self.report.num_there += 1
                arrived(1)
                continue
            if batch and (len(batch) == COMMIT_OBJECTS or num_bytes + len(data) > COMMIT_BYTES):
                yield batch
                batch, num_bytes = {}, 0
            batch[path] = data
            num_bytes += len(data)
        if batch:
            yield batch

    def _needed(self, path: str, sha256: str | None) -> bytes | None:
        """An object's content, or None where it is there already."""
        found = self.there.get(path)
        if found is not None and found.tag == sha256:
            return None
        data = self.read(path)
        if found is None:
            return data
        if found.tag in content_tags(data):
            return None
        if not self.repair:
            raise CorruptStoreError(f"{self.place.name_of(path)} is there with other content: type --repair to replace "
                                    "it, or another place")  # fmt: skip
        return data

    def _commit(self, batch: Mapping[str, bytes]) -> None:
        done = self.report.num_sent + self.report.num_there
        self.place.commit(batch, f"{self.message}: objects up to {done + len(batch)} of {self.num_objects}")
        self.report.num_commits += 1
        self.report.num_sent += len(batch)
        self.report.sent_bytes += sum(map(len, batch.values()))

    def _compare(self, sent: Mapping[str, tuple[str, ...]]) -> None:
        if not sent:
            return
        there = {found.path: found.tag for found in self.place.list()}
        for path, tags in sent.items():
            if there.get(path) not in tags:
                name = self.place.name_of(path)
                raise CorruptStoreError(f"{name} is not there as it was sent: type the same command with --repair")

    def _words(self) -> str:
        return f"{self.report.num_sent + self.report.num_there} of {self.num_objects} objects are there"
