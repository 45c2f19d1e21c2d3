"""Writing WebDataset tars whose bytes are a function of their members' names and data: no owner, no time, mode 644."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

from reinforce.errors import ReinforceError, StoreAccessError

TEMPORARY_PREFIX = ".tmp-"


def write_tar(file: io.BufferedWriter, members: Iterable[tuple[str, bytes]]) -> None:
    """Write (name, data) pairs in their order. Short ASCII names are plain USTAR, others have a PAX header."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def write_whole(path: Path, write: Callable[[io.BufferedWriter], object]) -> None:
    """A file that is there whole, and durable, or not at all. Raises StoreAccessError."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except ReinforceError:  # of what is written, such as an image that is not there any more
        raise
    except OSError as error:
        raise StoreAccessError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
