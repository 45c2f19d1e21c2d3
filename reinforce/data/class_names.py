"""classes.txt: one class name a line, in the order of the ids from 0."""

from __future__ import annotations

from reinforce.errors import DataError

NAMES_FILE = "classes.txt"


def parse_names(data: bytes, where: object) -> tuple[str, ...]:
    """Raises DataError for what is no UTF-8, for an empty line between names, and as `check_names`."""
    try:
        lines = data.decode("utf-8-sig").rstrip().splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    names = tuple(line.strip() for line in lines)
    if "" in names:
        raise DataError(f"{where} line {names.index('') + 1} is empty: write the name of class {names.index('')} there")
    return check_names(names, where)


def check_names(names: tuple[str, ...], where: object) -> tuple[str, ...]:
    """Raises DataError for no name, and for one that is there twice."""
    if not names:
        raise DataError(f"{where} names no class: write one name a line")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"{where} names the class '{twice}' twice: one distinct name a line")
    return names


def numbered_names(count: int) -> tuple[str, ...]:
    """("c0", "c1", ...): names of classes that nobody named."""
    return tuple(f"c{label}" for label in range(count))
