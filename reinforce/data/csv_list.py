"""Image files named by a CSV: `path[,label[,split]]` a line, with or without a header line that starts with "path".

Rows keep their order. Relative paths are relative to the CSV and are keys as they are written. For a key, an absolute
path becomes relative to the common folder of all absolute ones: keys go into stores, and stores hold no absolute path.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from reinforce.data.keys import check_keys
from reinforce.data.sources import VIRTUAL_SHARD_ROWS, Shard, read_image_file, virtual_shards
from reinforce.errors import DataError

COLUMNS = ("path", "label", "split")


@dataclass(frozen=True)
class CsvSource:
    """See ImageSource. `labels` and `splits` are as written, "" where there is none, in listing order."""

    name: str
    folder: str
    shards: tuple[Shard, ...]
    paths: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]

    def read(self, shard: int, row: int) -> bytes:
        if not 0 <= row < len(self.shards[shard].keys):
            raise IndexError(f"shard {shard} has no row {row}")
        return read_image_file(Path(self.folder, self.paths[shard * VIRTUAL_SHARD_ROWS + row]))


def open_csv(path: Path) -> CsvSource:
    """Read the list. Raises DataError for a list without rows, an unknown column or a path that is there twice."""
    rows = list(_rows(path))
    if not rows:
        raise DataError(f"{path} lists no images: write one path[,label[,split]] a line")
    paths, labels, splits = zip(*rows, strict=True)
    keys = _keys(paths)
    check_keys(keys, str(path))
    folder = path.absolute().parent
    return CsvSource(path.stem, str(folder), virtual_shards("csv", keys), paths, labels, splits)


def _rows(path: Path) -> Iterator[tuple[str, str, str]]:
    """(path, label, split) of every line that is not blank."""
    columns: tuple[str, ...] = COLUMNS
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines)
            for number, raw in enumerate(reader):
                cells = [cell.strip() for cell in raw]
                if number == 0 and "path" in [cell.lower() for cell in cells]:
                    columns = _header(cells, path)
                elif any(cells):
                    yield _row(columns, cells, f"{path} line {reader.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as UTF-8 CSV: {error}") from error


def _header(cells: list[str], path: Path) -> tuple[str, ...]:
    columns = tuple(cell.lower() for cell in cells)
    if len(set(columns)) != len(columns) or not set(columns) <= set(COLUMNS):
        raise DataError(f"{path} has the columns {', '.join(cells)}: expected path[,label[,split]]")
    return columns


def _row(columns: tuple[str, ...], cells: list[str], where: str) -> tuple[str, str, str]:
    if len(cells) > len(columns):
        raise DataError(f"{where} has {len(cells)} cells: expected {','.join(columns)} (quote cells with commas)")
    row = dict(zip(columns, cells, strict=False))
    if not row.get("path"):
        raise DataError(f"{where} has no path")
    return row["path"], row.get("label", ""), row.get("split", "")


def _keys(paths: tuple[str, ...]) -> tuple[str, ...]:
    parents = [str(PurePath(path).parent) for path in paths if PurePath(path).is_absolute()]
    if not parents:
        return paths
    common = os.path.commonpath(parents)
    return tuple(
        PurePath(path).relative_to(common).as_posix() if PurePath(path).is_absolute() else path for path in paths
    )
