"""Labelled datasets: a source of images, class names, and splits of samples.

What gives an image its class, and what declares its split:

    folder   [train|val|test/]CLASS/**/image   the class folder; images outside of one have no label and are left out
    CSV      path,label[,split]                the label; integer labels sort as numbers
    tars     members X.jpg and X.cls           the integer in X.cls; names from classes.txt beside the tars; the split
                                               is in the tar's name ("train-0.tar") or folder
             without any X.cls                 as in a folder, by the folders inside the tars

The paper's datasets in the layouts they are published in are recognised first, see `published`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reinforce.catalog import split_off
from reinforce.data.class_names import NAMES_FILE, numbered_names, parse_names
from reinforce.data.csv_list import CsvSource
from reinforce.data.folder import FolderSource
from reinforce.data.mask_layouts import IMAGE_FOLDERS
from reinforce.data.opening import open_source
from reinforce.data.published import Published, open_published
from reinforce.data.remote_files import ObjectSource
from reinforce.data.sources import ImageSource, Shard
from reinforce.data.splits import (
    SPLIT_WORDS,
    TRAIN,
    LabelledSample,
    Samples,
    check_no_split_twice,
    find_split,
    group_splits,
    make_splits,
)
from reinforce.data.tar_source import TarSource
from reinforce.errors import DataError, MissingDataError
from reinforce.licences import UNKNOWN


@dataclass(frozen=True)
class LabelledDataset:
    """Images with class ids, in named splits ("train", "val", "test"; not every dataset has all three)."""

    name: str
    source: ImageSource
    class_names: tuple[str, ...]
    """Class id -> name."""
    splits: Mapping[str, Samples]
    """Each in listing order; no key is in two of them."""
    license: str = UNKNOWN
    """Of the images."""

    def split(self, name: str) -> Samples:
        """The samples of one split. Raises UnknownNameError."""
        return find_split(self.splits, name, self.name)


class _Row(NamedTuple):
    """A sample before class names have ids."""

    shard: int
    row: int
    key: str
    class_name: str
    split: str | None


def open_labelled(location: str, *, needs_train: bool = True) -> LabelledDataset:
    """Open an ImageFolder, a CSV with labels, or WebDataset tars with `.cls` members.

    Splits come from the folders, the CSV's third column, or the tars' folders and names ("train-00000.tar"); what is
    missing is cut from train, see `make_splits`. `needs_train=False` also takes data to evaluate on that have a test
    or val split alone. Raises MissingDataError and DataError as `open_source` does, and DataError for a sample without
    a label, for data without train, and for a class without an image in train. Of the paper's datasets, see
    `published`, the splits are the paper's.
    """
    path = Path(location).expanduser()
    if path.is_dir() and (published := open_published(path)) is not None:
        return _of_published(published, location, needs_train)
    if (split := split_off(location)[1]) is not None:
        raise DataError(f"{location}: labelled data are named whole, and each verb takes its split: leave @{split} out")
    source = open_source(location)
    match source:
        case FolderSource() | ObjectSource():
            rows = list(_folder_rows(source))
        case TarSource() if _has_class_folders(source):
            rows = list(_inner_folder_rows(source))
        case CsvSource():
            rows = list(_csv_rows(source, location))
        case TarSource():
            rows = list(_tar_rows(source))
            return _assemble(source, *_named_classes(rows, class_names(source), location), location, needs_train)
        case _:
            raise DataError(f"{location} has no labels: give an ImageFolder, a CSV of path,label or tars with .cls")
    return _assemble(source, rows, sorted_names({row.class_name for row in rows}), location, needs_train)


def _assemble(source: ImageSource, rows: Sequence[_Row], names: Sequence[str], where: str,
              needs_train: bool) -> LabelledDataset:  # fmt: skip
    label_of = {name: label for label, name in enumerate(names)}
    samples = [LabelledSample(row.shard, row.row, row.key, label_of[row.class_name]) for row in rows]
    declared = [row.split for row in rows]
    if not needs_train and all(declared) and TRAIN not in declared:
        return LabelledDataset(source.name, source, tuple(names), group_splits(samples, declared))
    splits = make_splits(samples, declared, where)
    _check_every_class(names, splits[TRAIN], where)
    return LabelledDataset(source.name, source, tuple(names), splits)


def _of_published(published: Published, where: str, needs_train: bool) -> LabelledDataset:
    source, names, splits, train_folder = published
    if TRAIN in splits:
        _check_every_class(names, splits[TRAIN], where)
    elif needs_train:
        raise MissingDataError(f"{Path(where, train_folder)} is not there: unpack the training images")
    return LabelledDataset(source.name, source, names, splits)


def _check_every_class(names: Sequence[str], train: Samples, where: str) -> None:
    in_train = {sample.label for sample in train}
    if missing := [name for label, name in enumerate(names) if label not in in_train]:
        raise DataError(
            f"{where}: class '{missing[0]}' has no image in train ({len(missing)} such): add images or remove the class"
        )


def _positions(shards: Sequence[Shard]) -> Iterator[tuple[int, int, str]]:
    for number, shard in enumerate(shards):
        for row, key in enumerate(shard.keys):
            yield number, row, key


def _folder_rows(source: FolderSource | ObjectSource) -> Iterator[_Row]:
    paths = list(_positions(source.shards))
    depth = 1 if _has_split_folders(key for _, _, key in paths) else 0
    classes = {key.split("/")[depth] for _, _, key in paths if key.count("/") > depth}
    if source.masks and classes <= IMAGE_FOLDERS:
        raise DataError(f"{source.root} has images and masks, no class folders: type --task segmentation")
    return _rows_by_folder(paths, [key for _, _, key in paths], source.root)


def _has_class_folders(source: TarSource) -> bool:
    """Whether the tars hold folders, and nothing that says a class in another way."""
    positions = list(_positions(source.shards))
    if any(source.has_beside(shard, row, "cls") for shard, row, _ in positions):
        return False
    return any("/" in name for name in _inner_names(source))


def _inner_folder_rows(source: TarSource) -> Iterator[_Row]:
    return _rows_by_folder(list(_positions(source.shards)), _inner_names(source), source.root)


def _inner_names(source: TarSource) -> list[str]:
    """Every image's name inside its tar."""
    return [key[len(shard.name.removesuffix(".tar")) + 1 :] for shard in source.shards for key in shard.keys]


def _has_split_folders(names: Iterable[str]) -> bool:
    """Split folders count as such where `train/` has class folders below, or where there are no other folders."""
    nested = [parts for parts in (name.split("/") for name in names) if len(parts) > 1]
    return any(parts[0] == TRAIN and len(parts) > 2 for parts in nested) or (
        bool(nested) and all(parts[0] in SPLIT_WORDS for parts in nested)
    )


def _rows_by_folder(positions: Sequence[tuple[int, int, str]], names: Sequence[str], where: str) -> Iterator[_Row]:
    has_splits = _has_split_folders(names)
    depth = 1 if has_splits else 0
    paths = [(*position, name.split("/")) for position, name in zip(positions, names, strict=True)]
    labelled = [path for path in paths if len(path[3]) > depth + 1 and (not has_splits or path[3][0] in SPLIT_WORDS)]
    if not labelled:
        raise DataError(f"{where} has no class folders: expected CLASS/image or train/CLASS/image")
    if has_splits:
        check_no_split_twice({parts[0] for _, _, _, parts in labelled}, where)
    for shard, row, key, parts in labelled:
        yield _Row(shard, row, key, parts[depth], SPLIT_WORDS[parts[0]] if has_splits else None)


def _csv_rows(source: CsvSource, where: str) -> Iterator[_Row]:
    if any(source.splits) and not all(source.splits):
        raise DataError(f"{where}: some rows have a split and some have none: fill the split column or leave it out")
    columns = zip(_positions(source.shards), source.labels, source.splits, strict=True)
    for (shard, row, key), label, split in columns:
        if not label:
            raise DataError(f"{where}: '{key}' has no label: write path,label[,split] on every line")
        if split and split.lower() not in SPLIT_WORDS:
            raise DataError(f"{where}: '{key}' has the split '{split}': write one of {', '.join(SPLIT_WORDS)}")
        yield _Row(shard, row, key, label, SPLIT_WORDS[split.lower()] if split else None)


def _tar_rows(source: TarSource) -> Iterator[_Row]:
    splits = [tar_split(shard.name) for shard in source.shards]
    if None in splits and any(splits):
        odd = source.shards[splits.index(None)].name
        raise DataError(f"{source.root}: '{odd}' does not say its split while others do: name it train-, val- or test-")
    for shard, row, key in _positions(source.shards):
        content = source.read_class(shard, row)
        if content is None:
            raise DataError(f"{source.root}: '{key}' has no .cls member: labelled tars need one for every image")
        if not re.fullmatch(rb"\s*\d{1,6}\s*", content):
            raise DataError(f"{source.root}: the .cls of '{key}' is {content[:20]!r}: expected a class id such as 7, "
                            "counted from 0")  # fmt: skip
        yield _Row(shard, row, key, str(int(content)), splits[shard])


def tar_split(shard_name: str) -> str | None:
    """The split that a tar's folders or name declare ("train/0.tar", "val-0.tar", "imagenet-train-0.tar"), or None."""
    *folders, base = shard_name.split("/")
    words = [*folders, *re.split(r"[-_.]", base)]
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), None)


def _named_classes(
    rows: Sequence[_Row], names: tuple[str, ...] | None, where: str
) -> tuple[list[_Row], tuple[str, ...]]:
    """Class ids as names: those of classes.txt, or c0, c1, ... up to the highest id."""
    highest = max(int(row.class_name) for row in rows)
    if names is None:
        names = numbered_names(highest + 1)
    if highest >= len(names):
        raise DataError(f"{where}: class id {highest} is beyond the {len(names)} names in {NAMES_FILE}")
    return [row._replace(class_name=names[int(row.class_name)]) for row in rows], names


def class_names(source: TarSource) -> tuple[str, ...] | None:
    """What classes.txt beside the tars says, by id; None where there is none."""
    try:
        return parse_names(source.files.read(NAMES_FILE), source.files.path(NAMES_FILE))
    except MissingDataError:
        return None


def sorted_names(names: Iterable[str]) -> list[str]:
    """By number where all are integers, else by code point."""
    found = list(names)
    if all(re.fullmatch(r"[+-]?\d+", name, re.ASCII) for name in found):
        return sorted(found, key=lambda name: (int(name), name))
    return sorted(found)
