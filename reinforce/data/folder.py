"""A flat or nested folder of image files. Key = path relative to the folder, with "/" and suffix."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from reinforce.data.keys import check_keys
from reinforce.data.sources import Shard, is_image_name, read_image_file, virtual_shards
from reinforce.errors import DataError, MissingDataError


@dataclass(frozen=True)
class FolderSource:
    """See ImageSource. Virtual shards are blocks of the sorted keys."""

    name: str
    root: str
    shards: tuple[Shard, ...]

    def read(self, shard: int, row: int) -> bytes:
        return read_image_file(Path(self.root, self.shards[shard].keys[row]))


@dataclass(frozen=True)
class FolderContents:
    """Paths relative to a folder, with "/", sorted by code point."""

    images: tuple[str, ...]
    tars: tuple[str, ...]


def scan_folder(root: Path) -> FolderContents:
    """Every visible image and tar below `root`. Links are followed; a link back to a parent folder is not.

    Raises DataError for a link to an image that is not there, and for a folder that cannot be listed.
    """
    found: list[str] = []
    _scan(root, "", frozenset(), found)
    found.sort()
    tars = tuple(path for path in found if path.endswith(".tar"))
    return FolderContents(tuple(path for path in found if not path.endswith(".tar")), tars)


def folder_source(root: Path, images: tuple[str, ...]) -> FolderSource:
    """The source of `images` (keys, sorted) that `scan_folder` found below `root`."""
    check_keys(images, str(root))
    return FolderSource(root.absolute().name, str(root.absolute()), virtual_shards("folder", images))


def _scan(folder: Path, prefix: str, parents: frozenset[tuple[int, int]], found: list[str]) -> None:
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
        if entry.is_dir():
            _scan(Path(entry.path), key + "/", parents | {identity}, found)
        elif is_image_name(entry.name) or entry.name.endswith(".tar"):
            _check_is_file(entry)
            found.append(key)


def _check_is_file(entry: os.DirEntry[str]) -> None:
    if entry.is_file():
        return
    if entry.is_symlink():
        raise MissingDataError(f"{entry.path} is a link to a file that is not there: mend or remove the link")
    raise DataError(f"{entry.path} is not a regular file: remove it from the folder")
