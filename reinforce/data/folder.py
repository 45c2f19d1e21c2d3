"""A flat or nested folder of image files. Key = path relative to the folder, with "/" and suffix."""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from reinforce.data.keys import check_keys
from reinforce.data.sources import (
    IMAGE_SUFFIXES,
    UNREAD_SUFFIXES,
    Shard,
    read_image_file,
    suffix_of,
    virtual_shards,
)
from reinforce.errors import DataError, MissingDataError

TAR_SUFFIXES = frozenset({"tar"})
KNOWN_SUFFIXES = IMAGE_SUFFIXES | UNREAD_SUFFIXES | TAR_SUFFIXES


@dataclass(frozen=True)
class FolderSource:
    """See ImageSource. Virtual shards are blocks of the sorted keys."""

    name: str
    root: str
    shards: tuple[Shard, ...]
    unread: tuple[str, ...] = ()
    """Keys of images of kinds that are not read, such as x.heic."""
    masks: tuple[str, ...] = ()
    """Masks of images of the source; they are no images of it."""

    def read(self, shard: int, row: int) -> bytes:
        return read_image_file(Path(self.root, self.shards[shard].keys[row]))


@dataclass(frozen=True)
class FolderContents:
    """Paths relative to a folder, with "/", sorted by code point."""

    images: tuple[str, ...]
    tars: tuple[str, ...]
    unread: tuple[str, ...]
    """Images of kinds that are not read."""
    masks: tuple[str, ...] = ()
    """What `mask_layouts.without_masks` took out of `images`."""


def scan_folder(root: Path, folders: Sequence[str] = ("",)) -> FolderContents:
    """Every visible image and tar below `root`, or below some `folders` of it, none inside of another.

    Links are followed; a link back to a parent folder is not.

    Raises DataError for a link to an image that is not there, and for a folder that cannot be listed.
    """
    found: dict[str, list[str]] = defaultdict(list)
    for folder in folders:
        _scan(root / folder, folder and folder + "/", frozenset(), found)
    images, tars, unread = (
        tuple(sorted(chain.from_iterable(found[suffix] for suffix in suffixes)))
        for suffixes in (IMAGE_SUFFIXES, TAR_SUFFIXES, UNREAD_SUFFIXES)
    )
    return FolderContents(images, tars, unread)


def folder_source(root: Path, contents: FolderContents) -> FolderSource:
    """The source of the images that `scan_folder` found below `root`."""
    check_keys(contents.images, str(root))
    shards = virtual_shards("folder", contents.images)
    return FolderSource(root.absolute().name, str(root.absolute()), shards, contents.unread, contents.masks)


def _scan(folder: Path, prefix: str, parents: frozenset[tuple[int, int]], found: dict[str, list[str]]) -> None:
    try:
        status = folder.stat()
        with os.scandir(folder) as listing:
            entries = [entry for entry in listing if not entry.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror or error}") from error
    identity = (status.st_dev, status.st_ino)
    if identity in parents:
        return
    for entry in entries:
        key = prefix + entry.name
        if _leads_to(entry, entry.is_dir):
            _scan(Path(entry.path), key + "/", parents | {identity}, found)
        elif (suffix := suffix_of(entry.name)) in KNOWN_SUFFIXES:
            _check_is_file(entry)
            found[suffix].append(key)


def _leads_to(entry: os.DirEntry[str], is_kind: Callable[[], bool]) -> bool:
    """A link that leads to itself is one to nothing."""
    try:
        return is_kind()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return False
        raise DataError(f"{entry.path} cannot be looked at: {error.strerror or error}") from error


def _check_is_file(entry: os.DirEntry[str]) -> None:
    if _leads_to(entry, entry.is_file):
        return
    if entry.is_symlink():
        raise MissingDataError(f"{entry.path} is a link to a file that is not there: mend or remove the link")
    raise DataError(f"{entry.path} is not a regular file: remove it from the folder")
