"""A page's file: nothing is replaced silently, and nobody ever sees half of one."""

from __future__ import annotations

from pathlib import Path

from reinforce.errors import OutputExistsError, StoreAccessError, UsageError
from reinforce.whole_file import written_whole


def check_writable(path: Path, *, overwrite: bool) -> None:
    """To be asked before long work. Raises OutputExistsError for a file that is there, UsageError for a folder."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder: type --html FILE.html")
    if path.exists() and not overwrite:
        raise OutputExistsError(path, "type --overwrite to replace it or --html to write elsewhere")


def write_page(path: Path, page: bytes, *, overwrite: bool) -> None:
    """Put the whole page at `path`, making its folder. Raises as `check_writable`, and StoreAccessError."""
    check_writable(path, overwrite=overwrite)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as file:
            file.write(page)
    except OSError as error:
        raise StoreAccessError(f"cannot write {path}: {error.strerror or error}; mend that, or type another --html"
                               ) from error  # fmt: skip
