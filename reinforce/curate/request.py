"""What a curated set was begun with: a set is continued only by the same request.

request.json is created once, before anything else, and holds what decides the set's bytes besides a person's decisions.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from reinforce.curate.curated import REQUEST, SUMMARY
from reinforce.errors import DataError, OutputExistsError, StoreAccessError, UsageError
from reinforce.locking import in_use, is_in_use
from reinforce.store import LocalObjects, ObjectExistsError, canonical_json
from reinforce.whole_file import is_leftover


def check_way(folder: Path, *, overwrite: bool, resume: bool) -> None:
    """Nothing is overwritten silently, and nothing but a curated set is ever removed. Raises OutputExistsError."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / REQUEST).is_file():
        raise OutputExistsError(folder, "it is not a curated set; type --out to write elsewhere")
    if not (overwrite or resume):
        how = "complete" if (folder / SUMMARY).exists() else "unfinished"
        raise OutputExistsError(folder, f"it is {how}; type --resume to continue it or --overwrite to start again")


def begin(folder: Path, request: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Put request.json, or compare it with the one that is there; whether it is new. Raises UsageError naming what
    differs, or that another command works on what is to be replaced. A set that is replaced is kept aside, until
    `finish` or `give_up`."""
    if overwrite and (folder / REQUEST).exists():
        if is_in_use(folder / REQUEST):
            raise UsageError(f"another command curates into {folder}: wait for it, or type another --out")
        _put_aside(folder)
    try:
        LocalObjects(folder).put_new(REQUEST, canonical_json(request))
        return True
    except ObjectExistsError:
        begun = _read(folder / REQUEST)
        differing = [name for name in request if begun.get(name) != request[name]]
        if differing:
            raise UsageError(f"{folder} was begun with another {', '.join(differing)}: type what it was begun with, or "
                             "--overwrite") from None  # fmt: skip
        return False


def working(folder: Path) -> AbstractContextManager[None]:
    """While a command works on a set that it began or goes on with: no other one replaces it."""
    return in_use(folder / REQUEST)


def finish(folder: Path) -> None:
    """The set is whole: what it replaced goes."""
    _remove(_aside(folder))


def sweep(folder: Path) -> None:
    """What killed commands left in a set goes, unless others still work on it: theirs looks the same."""
    if is_in_use(folder / REQUEST):
        return
    for path in filter(is_leftover, list(folder.rglob("*"))):
        with contextlib.suppress(OSError):
            path.unlink()


def give_up(folder: Path) -> None:
    """Remove a set that was begun in vain, so that the same --out takes another request; what it replaced is back."""
    _remove(folder)
    with _explained(folder), contextlib.suppress(FileNotFoundError):
        _aside(folder).rename(folder)


def _aside(folder: Path) -> Path:
    return folder.absolute().with_name(f".{folder.absolute().name}-replaced")


def _put_aside(folder: Path) -> None:
    """A finished set. An unfinished one goes: of a killed run that replaced another, that one still lies aside."""
    if (folder / SUMMARY).exists():
        _remove(_aside(folder))
        with _explained(folder):
            folder.rename(_aside(folder))
    else:
        _remove(folder)


def _remove(folder: Path) -> None:
    """Raises StoreAccessError."""
    with _explained(folder), contextlib.suppress(FileNotFoundError):
        shutil.rmtree(folder)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreAccessError(f"cannot replace {folder}: {error.strerror}; type another --out") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: type --overwrite to start again") from error
    return document if isinstance(document, dict) else {}
