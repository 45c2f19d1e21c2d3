"""Files that are there whole, and durable, or not at all: written beside their place, then moved there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from reinforce.errors import ReinforceError, StoreAccessError

TEMPORARY_PREFIX = ".tmp-"
"""Of what a kill leaves of one."""


def is_leftover(path: Path) -> bool:
    return path.name.startswith(TEMPORARY_PREFIX)


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file of this process alone to write to; it takes the place of `path` when the block ends well.

    Raises OSError.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """The same with a function, making the folder. Raises StoreAccessError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as file:
            write(file)
    except ReinforceError:  # of what is written, such as an image that is not there any more
        raise
    except OSError as error:
        raise StoreAccessError(f"cannot write {path}: {error.strerror or error}") from error
