"""A page's file: nothing is replaced silently, and nobody ever sees half of one."""

from __future__ import annotations

import os
from pathlib import Path

from reinforce.errors import OutputExistsError, UsageError


def check_writable(path: Path, *, overwrite: bool) -> None:
    """To be asked before long work. Raises OutputExistsError for a file that is there, UsageError for a folder."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder: type --html FILE.html")
    if path.exists() and not overwrite:
        raise OutputExistsError(path, "type --overwrite to replace it or --html to write elsewhere")


def write_page(path: Path, page: bytes, *, overwrite: bool) -> None:
    """Put the whole page at `path`, making its folder. Raises as `check_writable`."""
    check_writable(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        temporary.write_bytes(page)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
