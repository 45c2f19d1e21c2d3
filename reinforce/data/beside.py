"""What lies beside an image under its name, in a folder or a tar; of a split, beside the image of the whole."""

from __future__ import annotations

from pathlib import Path

from reinforce.data.folder import FolderSource
from reinforce.data.remote_files import ObjectSource
from reinforce.data.sources import ImageSource, read_image_file
from reinforce.data.split_source import SplitSource
from reinforce.data.tar_source import TarSource
from reinforce.errors import MissingDataError


def in_whole(source: ImageSource, shard: int, row: int) -> tuple[ImageSource, int, int]:
    """The source of which another may be a split, and where the image lies in it."""
    return (source.whole, *source.place(shard, row)) if isinstance(source, SplitSource) else (source, shard, row)


def read_beside(source: ImageSource, shard: int, row: int, suffix: str) -> bytes | None:
    """The file of this suffix and the image's name; None where there is none, or nothing lies beside such images.

    `source` is no split. Raises DataError where it cannot be read.
    """
    if isinstance(source, TarSource | ObjectSource):
        return source.read_beside(shard, row, suffix)
    if not isinstance(source, FolderSource):
        return None
    key = source.shards[shard].keys[row]
    try:
        return read_image_file(Path(source.root, key).with_suffix(f".{suffix}"))
    except MissingDataError:
        return None
