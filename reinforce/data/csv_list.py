"""Image files named by a CSV: `path[,label[,split]]` a line, with or without a header line that has a cell "path".

With a header there may be a column `caption`, too; an image with several captions then has a line for each.

Rows keep their order. Relative paths are relative to the CSV and are keys as they are written. For a key, an absolute
path becomes relative to the common folder of all absolute ones: keys go into stores, and stores hold no absolute path.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

from reinforce.data.keys import check_keys
from reinforce.data.sources import VIRTUAL_SHARD_ROWS, Shard, read_image_file, virtual_shards
from reinforce.errors import DataError

COLUMNS = ("path", "label", "split")
"""Of a list without a header."""
CAPTION = "caption"


@dataclass(frozen=True)
class CsvSource:
    """See ImageSource. `labels` and `splits` are as written, "" where there is none, in listing order."""

    name: str
    folder: str
    shards: tuple[Shard, ...]
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]
    captions: tuple[tuple[str, ...], ...] = ()
    """Those of each image, in listing order; () for a list without such a column."""

    def read(self, shard: int, row: int) -> bytes:
        if not 0 <= row < len(self.shards[shard].keys):
            raise IndexError(f"shard {shard} has no row {row}")
        return read_image_file(Path(self.folder, self.paths[shard * VIRTUAL_SHARD_ROWS + row]))


def open_csv(path: Path) -> CsvSource:
    """Read the list. Raises DataError for a list without rows, an unknown column or a path that is there twice."""
    rows = list(_rows(path))
    if not rows:
        raise DataError(f"{path} lists no images: write one path[,label[,split]] a line")
    captions = _captions(rows)
    if captions:
        rows = _first_of_each_path(rows)
    paths = tuple(row.path for row in rows)
    keys = _keys(paths)
    check_keys(keys, str(path))
    return CsvSource(
        name=path.stem,
        folder=str(path.absolute().parent),
        shards=virtual_shards("csv", keys),
        paths=paths,
        labels=tuple(row.label for row in rows),
        splits=tuple(row.split for row in rows),
        captions=tuple(tuple(texts) for texts in captions.values()),
    )


class _Row(NamedTuple):
    path: str
    label: str
    split: str
    caption: str | None
    """None where the list has no such column."""


def _captions(rows: list[_Row]) -> dict[str, list[str]]:
    """Path -> captions that are not empty, paths in the order of their first line; {} without such a column."""
    captions: dict[str, list[str]] = {}
    for row in rows:
        if row.caption is not None:
            captions.setdefault(row.path, []).extend([row.caption] if row.caption else [])
    return captions


def _first_of_each_path(rows: list[_Row]) -> list[_Row]:
    first: dict[str, _Row] = {}
    for row in rows:
        first.setdefault(row.path, row)
    return list(first.values())


def _rows(path: Path) -> Iterator[_Row]:
    """Every line that is not blank."""
    columns: tuple[str, ...] = COLUMNS
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines, strict=True)  # else a mark that is not closed swallows all lines behind it
            stripped = ([cell.strip() for cell in raw] for raw in reader)
            for number, cells in enumerate(filter(any, stripped)):
                if number == 0:
                    _check_divider(cells, path)
                if number == 0 and "path" in [cell.lower() for cell in cells]:
                    columns = _header(cells, path)
                else:
                    yield _row(columns, cells, f"{path} line {reader.line_num}")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read as UTF-8 CSV: save it as CSV UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num} is no CSV ({error}): close what a quotation mark opens, and "
                        "write one within a quoted cell twice") from error  # fmt: skip


def _check_divider(cells: list[str], path: Path) -> None:
    """Raises DataError for a header whose cells are divided as spreadsheets of some languages do."""
    for sign, name in ((";", "semicolons"), ("\t", "tabs")):
        parts = [part.strip().lower() for part in cells[0].split(sign)]
        if len(cells) == 1 and len(parts) > 1 and "path" in parts:
            raise DataError(f"{path} divides its cells by {name}: save it with commas")


def _header(cells: list[str], path: Path) -> tuple[str, ...]:
    columns = tuple(cell.lower() for cell in cells)
    if len(set(columns)) != len(columns) or not set(columns) <= {*COLUMNS, CAPTION}:
        raise DataError(f"{path} has the columns {', '.join(cells)}: expected path[,label[,split]], or path,caption")
    return columns


def _row(columns: tuple[str, ...], cells: list[str], where: str) -> _Row:
    if len(cells) > len(columns):
        raise DataError(f"{where} has {len(cells)} cells: expected {','.join(columns)} (quote cells with commas)")
    row = dict(zip(columns, cells, strict=False))
    if not row.get("path"):
        raise DataError(f"{where} has no path")
    caption = row.get(CAPTION, "") if CAPTION in columns else None
    return _Row(row["path"], row.get("label", ""), row.get("split", ""), caption)


def _keys(paths: tuple[str, ...]) -> tuple[str, ...]:
    parents = [str(PurePath(path).parent) for path in paths if PurePath(path).is_absolute()]
    if not parents:
        return paths
    common = os.path.commonpath(parents)
    return tuple(
        PurePath(path).relative_to(common).as_posix() if PurePath(path).is_absolute() else path for path in paths
    )
