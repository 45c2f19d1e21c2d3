"""Files below one place, read whole or in parts: what sources of images need of a folder or of an object store."""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from reinforce.errors import DataError, MissingDataError

_MAX_OPEN_FILES = 64

ReadRange = Callable[[int, int], bytes]
"""(start, length) -> bytes; fewer at the file's end."""


class Files(Protocol):
    """Read-only, picklable. Names are relative, with "/"; MissingDataError for a file that is not there, DataError for
    one that cannot be read."""

    @property
    def is_remote(self) -> bool:
        """Whether a read takes so long that it should be asked for ahead."""

    @property
    def root(self) -> str:
        """A folder or a URL, for messages."""

    def path(self, name: str) -> str:
        """What a file is called in messages."""

    def size(self, name: str) -> int: ...

    def read(self, name: str) -> bytes: ...

    def read_range(self, name: str, start: int, length: int) -> bytes: ...

    def scan(self, name: str) -> ReadRange:
        """For reading small parts of one file from its front to its end."""

    def prefetch(self, ranges: Sequence[tuple[str, int, int]]) -> None:
        """Say which (name, start, length) will be read next, in place of what was said before."""

    def close(self) -> None: ...


class LocalFiles:
    """Files below a folder; a few stay open."""

    is_remote = False

    def __init__(self, root: str | Path) -> None:
        self.root = str(root)
        self._open: OrderedDict[str, int] = OrderedDict()

    def path(self, name: str) -> str:
        return str(Path(self.root, name))

    def size(self, name: str) -> int:
        with self._explained(name):
            return os.fstat(self._descriptor(name)).st_size

    def read(self, name: str) -> bytes:
        with self._explained(name):
            return Path(self.root, name).read_bytes()

    def read_range(self, name: str, start: int, length: int) -> bytes:
        with self._explained(name):
            return _read_at(self._descriptor(name), length, start)

    def scan(self, name: str) -> ReadRange:
        def read(start: int, length: int) -> bytes:
            with self._explained(name):
                return _read_at(descriptor, length, start)

        with self._explained(name):
            descriptor = self._descriptor(name)
        return read

    def prefetch(self, ranges: Sequence[tuple[str, int, int]]) -> None:
        """The system reads ahead by itself."""

    def close(self) -> None:
        """The next read opens its own again."""
        while self._open:
            os.close(self._open.popitem()[1])

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "_open": OrderedDict()}

    def __del__(self) -> None:
        if hasattr(self, "_open"):
            self.close()

    def _descriptor(self, name: str) -> int:
        if name in self._open:
            self._open.move_to_end(name)
            return self._open[name]
        if len(self._open) >= _MAX_OPEN_FILES:
            os.close(self._open.popitem(last=False)[1])
        self._open[name] = os.open(Path(self.root, name), os.O_RDONLY | getattr(os, "O_BINARY", 0))
        return self._open[name]

    @contextlib.contextmanager
    def _explained(self, name: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise MissingDataError(f"{self.path(name)} is not there: put it back") from error
        except OSError as error:
            raise DataError(f"{self.path(name)} cannot be read: {error.strerror or error}") from error


def _read_at(descriptor: int, length: int, start: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(descriptor, length, start)
    os.lseek(descriptor, start, os.SEEK_SET)  # Windows, where a descriptor has one place
    return os.read(descriptor, length)
