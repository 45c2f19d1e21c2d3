"""Many objects into a repository of the Hugging Face Hub: what is there is skipped, the rest comes in commits.

A commit is there whole or not at all, so an upload may be killed at any moment and begun again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from reinforce.errors import CorruptStoreError
from reinforce.progress import Progress
from reinforce.remote.hub import HubPlace, content_tags
from reinforce.remote.place import RemoteObject

COMMIT_OBJECTS, COMMIT_BYTES = 256, 256 << 20
"""At most of a commit; a larger object goes alone. The bytes are held in memory."""


@dataclass
class Uploaded:
    """What an upload did."""

    num_sent: int = 0
    sent_bytes: int = 0
    num_there: int = 0
    num_commits: int = 0


def upload_files(contents: Mapping[str, bytes | Path], place: HubPlace, message: str, *, is_public: bool = False,
                 repair: bool = False, quiet: bool = False) -> Uploaded:  # fmt: skip
    """Put files into a repository, such as a student's: path in it -> bytes, or a file of this machine.

    A repository that is not there yet becomes a private one, or a public one. What is there under other names stays;
    equal files are not sent. Raises CorruptStoreError where others of the same name are there, unless `repair` replaces
    them; RemoteAccessError.
    """

    def read(path: str) -> bytes:
        found = contents[path]
        return found.read_bytes() if isinstance(found, Path) else found

    place.create(is_private=not is_public)
    upload = Upload(place, read, len(contents), message, repair=repair)
    with Progress("push", len(contents), unit="files", quiet=quiet) as progress:
        upload.run(sorted(contents), {}, progress.update)
    return upload.report


@dataclass
class Upload:
    """Objects on their way into one place."""

    place: HubPlace
    read: Callable[[str], bytes]
    num_objects: int
    message: str
    """Of every commit."""
    jobs: int = 8
    repair: bool = False
    """Replace what is there with other content."""
    report: Uploaded = field(default_factory=Uploaded)
    there: dict[str, RemoteObject] = field(init=False)

    def __post_init__(self) -> None:
        self.there = {found.path: found for found in self.place.list()}

    def run(self, paths: Sequence[str], known: Mapping[str, str], arrived: Callable[[int], object]) -> None:
        """Send what is not there, then compare that with the Hub's listing. `known`: SHA-256 by path."""
        sent: dict[str, tuple[str, ...]] = {}
        for batch in self._batches(paths, known, arrived):
            sent |= {path: content_tags(data) for path, data in batch.items()}
            self._commit(batch)
            arrived(len(batch))
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
        message = f"{self.message}: {done + len(batch)} of {self.num_objects}"
        self.place.commit(batch, message, num_threads=self.jobs)
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
