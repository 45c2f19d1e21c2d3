"""A store's objects on an object store or behind a web server; and the same, kept in a bounded cache on disk."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from reinforce.errors import CorruptStoreError, UsageError
from reinforce.remote import HubPlace, PartCache, RemoteObject, RemotePlace
from reinforce.store.canonical import one_line
from reinforce.store.manifest import read_manifest
from reinforce.store.objects import ObjectExistsError, check_path
from reinforce.store.schema import MANIFEST

BLOCK_BYTES = 1 << 20
"""Objects are cached in blocks of this size; neighbouring ones are one request."""
_MD5 = re.compile(r'"?([0-9a-f]{32})"?')


class RemoteObjects:
    """See Objects: each call is a request, but what is known of an object's size is kept. Picklable, thread-safe.

    What fails is a RemoteAccessError of one line. A web server can only be read and cannot be listed: what the manifest
    lists counts as being there, until it is read.
    """

    def __init__(self, place: RemotePlace | HubPlace) -> None:
        self.place = place
        self._known: dict[str, RemoteObject] = {}

    @property
    def name(self) -> str:
        return self.place.url

    def __reduce__(self) -> tuple[Any, ...]:
        return (RemoteObjects, (self.place,))

    @property
    def is_web(self) -> bool:
        return urlsplit(self.place.url).scheme.startswith("http")

    def put_new(self, path: str, data: bytes) -> None:
        check_path(path)
        self.check_writable()
        self._known.pop(path, None)
        if not self.place.put_new(path, data):
            raise ObjectExistsError(errno.EEXIST, "object exists", self.place.name_of(path))

    def get(self, path: str) -> bytes:
        return self.place.get(check_path(path))

    def get_range(self, path: str, start: int, length: int) -> bytes:
        return self.place.get_range(check_path(path), start, length)

    def size(self, path: str) -> int:
        return self.describe(path).size

    def exists(self, path: str) -> bool:
        try:
            self.describe(path)
        except FileNotFoundError:
            return False
        return True

    def list(self) -> Iterator[tuple[str, int]]:
        if self.is_web:
            manifest = read_manifest(self)
            yield MANIFEST, len(manifest.to_bytes())
            yield from ((path, digest.num_bytes) for path, digest in manifest.objects.items())
            return
        folders, empty = {""}, []
        for found in self.place.list():
            folders.update(map(str, PurePosixPath(found.path).parents))
            self._known[found.path] = found
            if found.size:
                yield found.path, found.size
            else:
                empty.append(found.path)
        yield from ((path, 0) for path in empty if path not in folders)  # consoles mark folders by empty objects

    def delete(self, path: str) -> None:
        if any(part in ("", ".", "..") for part in path.split("/")):
            raise CorruptStoreError(f"not a name of an object inside a store: {one_line(repr(path))}")
        self.check_writable()
        self._known.pop(path, None)
        self.place.delete(path)

    def describe(self, path: str) -> RemoteObject:
        """Its size and what changes with its content; asked for once. Raises FileNotFoundError."""
        if (found := self._known.get(check_path(path))) is None:
            found = self._known[path] = self.place.head(path)
        return found

    def md5(self, path: str) -> str | None:
        """The content's MD5 as the service computed it, where it says so: the ETag of S3, unless its own key encrypts.

        An ETag that only looks like one is another number, so equal ones are the content's, and others say nothing.
        """
        found = _MD5.fullmatch(self.describe(path).tag)
        return found[1] if found and urlsplit(self.place.url).scheme.startswith("s3") else None

    def check_writable(self) -> None:
        """Raises UsageError for a web server."""
        if self.is_web:
            raise UsageError(f"{self.name} can only be read: type a folder, s3://, gs:// or az://, or "
                             "hf://datasets/OWNER/NAME")  # fmt: skip


class CachedObjects(RemoteObjects):
    """The same, read through a cache on disk, by ETags."""

    def __init__(self, place: RemotePlace | HubPlace, cache: PartCache) -> None:
        super().__init__(place)
        self.cache = cache

    def __reduce__(self) -> tuple[Any, ...]:
        return (CachedObjects, (self.place, self.cache))

    def get(self, path: str) -> bytes:
        return self.get_range(path, 0, self.size(path))

    def get_range(self, path: str, start: int, length: int) -> bytes:
        found = self.describe(path)
        stop = min(start + length, found.size)
        if start >= stop:
            return b""
        first = start // BLOCK_BYTES
        data = self._blocks(found, range(first, -(-stop // BLOCK_BYTES)))
        return data[start - first * BLOCK_BYTES : stop - first * BLOCK_BYTES]

    def _blocks(self, found: RemoteObject, numbers: range) -> bytes:
        """Some blocks of an object, joined; from the first to the last one that is not cached by one request."""
        blocks = {number: self.cache.get(self._name(found, number)) for number in numbers}
        missing = [number for number, data in blocks.items() if data is None]
        if missing:
            start, stop = missing[0] * BLOCK_BYTES, min((missing[-1] + 1) * BLOCK_BYTES, found.size)
            is_whole = start == 0 and stop == found.size
            data = super().get(found.path) if is_whole else super().get_range(found.path, start, stop - start)
            for number in range(missing[0], missing[-1] + 1):
                block = data[number * BLOCK_BYTES - start : (number + 1) * BLOCK_BYTES - start]
                blocks[number] = block
                if len(data) == stop - start:
                    self.cache.put(self._name(found, number), block)
        return b"".join(block or b"" for block in blocks.values())

    def _name(self, found: RemoteObject, number: int) -> str:
        return "\0".join([self.place.name_of(found.path), found.tag, "block", str(number)])
