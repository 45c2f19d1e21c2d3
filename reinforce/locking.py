"""One writer at a time, between processes."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, ClassVar

from reinforce.errors import UsageError

_TIMEOUT_SECONDS = 10.0
_POLL_SECONDS = 0.02
_HELD_BY_ANOTHER = {errno.EWOULDBLOCK, errno.EACCES}


@contextlib.contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold `<name>.lock`, which the system gives free when its holder dies; the empty file stays.

    Raises UsageError where another process holds it for too long, OSError where it cannot be written.
    """
    with path.with_name(path.name + ".lock").open("a") as lock:
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while not _try_lock(lock):
            if time.monotonic() > deadline:
                raise UsageError(f"{path} stays locked: wait for the other command that writes it, then try again")
            time.sleep(_POLL_SECONDS)
        yield


def _try_lock(file: IO[str]) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class FolderHold:
    """A folder that one process at a time works in: nothing is written for it, and it ends with the process.

    Where a folder cannot be locked (Windows, some network mounts), everybody gets it.
    """

    _held: ClassVar[dict[str, FolderHold]] = {}

    def __init__(self, folder: Path, *, waits: bool = False) -> None:
        """Where another process holds it, raises BlockingIOError or `waits`; what this one holds is taken over."""
        self._name, self._descriptor = str(folder.resolve()), -1
        if sys.platform == "win32":
            return
        if (former := self._held.get(self._name)) is not None:
            former.release()
        self._descriptor = os.open(folder, os.O_RDONLY)
        try:
            _lock_alone(self._descriptor, waits)
        except BaseException:
            os.close(self._descriptor)
            raise
        self._held[self._name] = self

    def __enter__(self) -> FolderHold:
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()

    def release(self) -> None:
        """Once is enough, more does nothing."""
        if self._held.get(self._name) is self:
            del self._held[self._name]
            os.close(self._descriptor)


def _lock_alone(descriptor: int, waits: bool) -> None:
    """Raises BlockingIOError. Nothing happens where the file system has no such locks."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in _HELD_BY_ANOTHER:
            raise BlockingIOError(error.errno, error.strerror) from error


@contextlib.contextmanager
def in_use(path: Path) -> Iterator[None]:
    """A file that several processes work by at once; nothing is written for it, and it ends with the process.

    Raises OSError. As with FolderHold, nobody knows of it where there are no such locks.
    """
    with path.open("rb") as file:
        _lock_shared(file.fileno())
        yield


def is_in_use(path: Path) -> bool:
    """Whether anybody works by it. Raises OSError."""
    if sys.platform == "win32":
        return False
    with path.open("rb") as file:
        try:
            _lock_alone(file.fileno(), waits=False)
        except BlockingIOError:
            return True
    return False


def _lock_shared(descriptor: int) -> None:
    if sys.platform != "win32":
        import fcntl

        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
