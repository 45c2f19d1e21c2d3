"""Exports in their place, whole or not at all: files, and folders that are one thing."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from reinforce.errors import OutputExistsError, StoreAccessError, UsageError

MARKS = {"coreml": "Manifest.json", "timm": "config.json"}
"""Format -> the file by which a folder is known as an export of that kind."""


def check_out(out: Path, kind: str, *, overwrite: bool) -> None:
    """Before any work. Raises OutputExistsError, and UsageError for what no --overwrite may remove."""
    if not out.exists():
        return
    if not overwrite:
        raise OutputExistsError(out)
    is_export = out.is_dir() and (out / MARKS[kind]).is_file() if kind in MARKS else out.is_file()
    if not is_export:
        raise UsageError(f"{out} is no export, so --overwrite leaves it: type another --out")


@contextlib.contextmanager
def written_whole(out: Path) -> Iterator[Path]:
    """A path beside `out` to write a file or a folder to; it takes the place of `out` when the block ends well.

    Raises StoreAccessError where the system does not let it be written.
    """
    temporary, former = (out.with_name(f".{what}-{os.getpid()}-{out.name}") for what in ("tmp", "old"))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        if out.is_dir():
            out.rename(former)  # a folder with files in it cannot be replaced in one step
        temporary.replace(out)
    except OSError as error:
        if error.filename is not None and str(out.parent) not in str(error.filename):
            raise  # of something that is read
        raise StoreAccessError(f"cannot write {out}: {error.strerror or error}; mend that, or type another --out"
                               ) from error  # fmt: skip
    finally:
        if former.exists() and not out.exists():
            former.rename(out)
        for path in (temporary, former):
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def size_bytes(path: Path) -> int:
    """Of a file, or of all files of a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
