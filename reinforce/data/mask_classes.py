"""Which class a value of a mask stands for.

    classes.txt   one name a line; line 0 names value 0, and so on
    classes.csv   header value,name; values of one name are one class, an empty name is ignored, ids in order of names

255 is ignored whatever a list says.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reinforce.data.class_names import NAMES_FILE, check_names, parse_names
from reinforce.data.sources import read_image_file
from reinforce.errors import DataError

IGNORE = 255
"""The class id of pixels that have none."""

MAP_FILE = "classes.csv"
MAX_CLASSES = IGNORE
HIGHEST_VALUE = 0xFFFF


@dataclass(frozen=True)
class MaskClasses:
    """Class names by id, and the id of every value that masks may hold."""

    names: tuple[str, ...]
    ids: Mapping[int, int]
    """Value -> class id or IGNORE."""

    @classmethod
    def of_names(cls, names: Sequence[str], first_value: int = 0) -> MaskClasses:
        """Class i is written as `first_value` + i; what lies below is ignored, and so is 255."""
        ids = dict.fromkeys(range(first_value), IGNORE)
        ids |= {first_value + label: label for label in range(len(names))}
        return cls(tuple(names), ids | {IGNORE: IGNORE})

    def to_ids(self, values_HW: NDArray[np.generic], where: object) -> NDArray[np.uint8]:
        """Class ids, uint8 (H, W). Raises DataError, naming the file `where`, for a value that is no class."""
        small = np.clip(values_HW, 0, HIGHEST_VALUE).astype(np.uint16)
        ids_HW = self._table[small]
        wrong = (ids_HW < 0) | (small != values_HW)
        if wrong.any():
            value = int(values_HW[wrong].min())
            raise DataError(f"{where} holds the value {value}, which is none of the {len(self.names)} classes and not "
                            f"{IGNORE} (ignored): correct the mask, or name the value in {MAP_FILE}")  # fmt: skip
        small_ids_HW: NDArray[np.uint8] = ids_HW.astype(np.uint8)
        return small_ids_HW

    @cached_property
    def _table(self) -> NDArray[np.int16]:
        table = np.full(HIGHEST_VALUE + 1, -1, dtype=np.int16)
        table[list(self.ids)] = list(self.ids.values())
        return table


def listed_classes(root: Path, first_value: int = 0) -> MaskClasses | None:
    """What classes.txt or classes.csv below `root` says, or None without either. Raises DataError for a wrong list."""
    names_file, map_file = root / NAMES_FILE, root / MAP_FILE
    if names_file.exists() and map_file.exists():
        raise DataError(f"{root} has both {NAMES_FILE} and {MAP_FILE}: keep one")
    if map_file.exists():
        return _mapped(map_file)
    if names_file.exists():
        names = parse_names(read_image_file(names_file), names_file)
        return MaskClasses.of_names(_check_count(names, names_file), first_value)
    return None


def _check_count(names: tuple[str, ...], path: Path) -> tuple[str, ...]:
    if len(names) > MAX_CLASSES:
        raise DataError(f"{path} names {len(names)} classes: {MAX_CLASSES} is the most, as {IGNORE} means ignored")
    return names


def _mapped(path: Path) -> MaskClasses:
    names: dict[str, int] = {}
    ids: dict[int, int] = {}
    for line, value, name in _map_rows(path):
        if value in ids:
            raise DataError(f"{path} line {line} lists the value {value} again: one line a value")
        if value == IGNORE and name:
            raise DataError(f"{path} line {line} names {IGNORE}, which always means ignored: leave its name empty")
        ids[value] = names.setdefault(name, len(names)) if name else IGNORE
    return MaskClasses(_check_count(check_names(tuple(names), path), path), ids | {IGNORE: IGNORE})


def _map_rows(path: Path) -> Iterator[tuple[int, int, str]]:
    """(line number, value, name) of every line that is not blank."""
    try:
        reader = csv.reader(_text(path).splitlines())
        rows = [
            (reader.line_num, [cell.strip() for cell in row]) for row in reader if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as UTF-8 CSV: {error}") from error
    if not rows or [cell.lower() for cell in rows[0][1]] != ["value", "name"]:
        raise DataError(f"{path} has no header: its first line must be value,name")
    for line, cells in rows[1:]:
        number = cells[0]
        if len(cells) != 2 or not (number.isascii() and number.isdigit()) or int(number) > HIGHEST_VALUE:
            raise DataError(f"{path} line {line} is '{','.join(cells)}': write value,name with a value of "
                            f"0..{HIGHEST_VALUE} (quote names with commas)")  # fmt: skip
        yield line, int(number), cells[1]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8: {error}") from error
