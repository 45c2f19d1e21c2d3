"""What the readers of published layouts share: their result, lists of labels, and samples of listed images."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reinforce.data.folder import FolderSource
from reinforce.data.splits import LabelledSample, Samples
from reinforce.errors import DataError, MissingDataError


class Published(NamedTuple):
    """Parts of a LabelledDataset."""

    source: FolderSource
    class_names: tuple[str, ...]
    splits: Mapping[str, Samples]
    """Those that are there, train first."""
    train_folder: str
    """Where training images are expected, for the message where there are none."""


def first_folder(root: Path, names: Iterable[str]) -> str | None:
    """The first of `names` that is a folder below `root`."""
    return next((name for name in names if (root / name).is_dir()), None)


def first_file(root: Path, names: Iterable[str]) -> Path | None:
    """The first of `names` that is a file below `root`."""
    return next((root / name for name in names if (root / name).is_file()), None)


def need(path: Path | None, expected: Path, why: str) -> Path:
    """`path`; raises MissingDataError naming `expected` where there is none."""
    if path is None:
        raise MissingDataError(f"{expected} is not there: {why}")
    return path


def read_lines(path: Path) -> list[str]:
    """Lines that are not blank. Raises DataError for what is no UTF-8 text."""
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def read_table(path: Path, *alternatives: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV, or of a table with tabs, under the names of its first line.

    Raises DataError where there are no rows, and where all columns of none of the `alternatives` are there.
    """
    lines = read_lines(path)
    try:
        rows = list(csv.DictReader(lines, delimiter="\t" if lines and "\t" in lines[0] else ","))
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as CSV: {error}") from error
    if not rows or not any(set(columns) <= rows[0].keys() for columns in alternatives):
        expected = " or ".join(",".join(columns) for columns in alternatives)
        raise DataError(f"{path} is not the table that was published: expected rows under {expected}")
    if short := next((number for number, row in enumerate(rows, 2) if None in (*row, *row.values())), None):
        raise DataError(f"{path} line {short} has not one cell a column: download it again")
    return rows


def listed_samples(source: FolderSource, label_of: Mapping[str, int], list_path: Path) -> Samples:
    """The samples of the keys in `label_of`, in listing order.

    Raises MissingDataError naming the first key of the list that the source doesn't have.
    """
    samples = tuple(
        LabelledSample(number, row, key, label_of[key])
        for number, shard in enumerate(source.shards)
        for row, key in enumerate(shard.keys)
        if key in label_of
    )
    if absent := len(label_of) - len(samples):
        there = {sample.key for sample in samples}
        first = next(key for key in label_of if key not in there)
        others = f" and {absent - 1:,} others" if absent > 1 else ""
        raise MissingDataError(
            f"{Path(source.root, first)}{others} of {list_path.name} not there: unpack the images again"
        )
    return samples
