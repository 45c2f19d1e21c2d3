"""One writer at a time, between processes."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from reinforce.errors import UsageError

_TIMEOUT_SECONDS = 10.0
_POLL_SECONDS = 0.02


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
