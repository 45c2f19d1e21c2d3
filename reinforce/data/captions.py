"""Captions of images, from where users have them. Nothing is invented: a class's name is no caption.

    folder   X.txt or X.json beside X.jpg
    tars     the members X.txt or X.json of the sample X.jpg (WebDataset, img2dataset)
    CSV      a column `caption`; an image with several has a line for each
    splits   those of the whole

A .txt is one caption, however many lines it has. A .json is an object whose "caption" is a string or a list of them;
where both lie there, the .txt counts. Opening checks that every image has one of them; what is in it shows when it is
read, since millions of small files would have to be.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from reinforce.data.beside import in_whole, read_beside
from reinforce.data.csv_list import CsvSource
from reinforce.data.folder import FolderSource
from reinforce.data.keys import is_unicode
from reinforce.data.opening import open_source
from reinforce.data.remote_files import ObjectSource
from reinforce.data.sources import VIRTUAL_SHARD_ROWS, ImageSource, Shard
from reinforce.data.split_source import SplitSource
from reinforce.data.tar_source import TarSource
from reinforce.errors import DataError

SUFFIXES = ("txt", "json")
"""Of files with captions, in order of precedence."""
MAX_CAPTION_BYTES = 1 << 20
EXPECTED = 'a .txt or .json (with "caption") of the image\'s name beside it, or a CSV of path,caption'


@dataclass(frozen=True)
class CaptionedSource:
    """Images with captions. Picklable, as its source is."""

    images: ImageSource

    @property
    def name(self) -> str:
        return self.images.name

    def captions(self, shard: int, row: int) -> tuple[str, ...]:
        """One or more captions, stripped, none of them empty, all of them valid Unicode.

        Raises DataError, one line with the image's key, where there is none, or what is there is no UTF-8 or no such
        JSON.
        """
        key = self.images.shards[shard].keys[row]
        whole, shard, row = in_whole(self.images, shard, row)
        if isinstance(whole, CsvSource):
            return _checked(whole.captions[shard * VIRTUAL_SHARD_ROWS + row], key)
        for suffix in SUFFIXES:
            data = read_beside(whole, shard, row, suffix)
            if data is not None:
                return parse_captions(data, suffix, key)
        raise _missing(self.images, key)


def open_captioned(location: str) -> CaptionedSource:
    """Open what `open_source` opens, of which every image has a caption.

    Raises DataError that names the first image without one and says what is expected, and what `open_source` raises.
    """
    source = open_source(location)
    uncaptioned = next(_uncaptioned(source), None)
    if uncaptioned is not None:
        raise _missing(source, uncaptioned)
    return CaptionedSource(source)


def captions_sha256(source: CaptionedSource, num_samples: int) -> str:
    """What a store of text features is bound to: SHA-256, hex, over the first samples in listing order.

    Each adds its key in UTF-8, one zero byte, its first caption as `captions` gives it, one zero byte; an unreadable
    caption counts as an empty one. Reads every caption.
    """
    digest = hashlib.sha256()
    rows = ((shard, row, key) for shard, own in enumerate(source.images.shards) for row, key in enumerate(own.keys))
    for shard, row, key in islice(rows, num_samples):
        try:
            caption = source.captions(shard, row)[0]
        except DataError:
            caption = ""
        digest.update(f"{key}\0{caption}\0".encode())
    return digest.hexdigest()


def parse_captions(data: bytes, suffix: str, key: str) -> tuple[str, ...]:
    """The captions in a .txt or .json of the image `key`. Raises DataError."""
    if len(data) > MAX_CAPTION_BYTES:
        raise DataError(f"the .{suffix} of '{key}' holds {len(data)} bytes, more than a caption has: shorten it")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"the .{suffix} of '{key}' is not UTF-8 (byte {error.start}): convert or remove it") from error
    return _checked(_from_json(text, key) if suffix == "json" else (text,), key)


def _from_json(text: str, key: str) -> tuple[str, ...]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the .json of '{key}' is not JSON: {' '.join(str(error).split())}") from error
    found = document.get("caption") if isinstance(document, dict) else None
    captions = found if isinstance(found, list) else [] if found is None else [found]
    if not all(isinstance(caption, str) for caption in captions):
        raise DataError(f"the .json of '{key}' has a \"caption\" that is neither a string nor a list of strings")
    return tuple(captions)


def _checked(captions: tuple[str, ...], key: str) -> tuple[str, ...]:
    kept = tuple(caption.strip() for caption in captions if caption.strip())
    if not kept:
        raise DataError(f"image '{key}' has an empty caption: write one, or drop the image from the set")
    if not all(is_unicode(caption) for caption in kept):  # JSON can escape lone surrogates
        raise DataError(f"the caption of '{key}' is not valid Unicode: mend or remove it")
    return kept


def _uncaptioned(source: ImageSource) -> Iterator[str]:
    """Keys of images without a caption, by names alone, in listing order."""
    whole = source.whole if isinstance(source, SplitSource) else source
    if isinstance(whole, FolderSource):
        yield from _without_sidecar(whole.root, source.shards)
        return
    for shard, described in enumerate(source.shards):
        for row, key in enumerate(described.keys):
            if not _is_captioned(*in_whole(source, shard, row)):
                yield key


def _is_captioned(source: ImageSource, shard: int, row: int) -> bool:
    if isinstance(source, TarSource | ObjectSource):
        return any(source.has_beside(shard, row, suffix) for suffix in SUFFIXES)
    return isinstance(source, CsvSource) and bool(source.captions and source.captions[shard * VIRTUAL_SHARD_ROWS + row])


def _without_sidecar(root: str | Path, shards: Sequence[Shard]) -> Iterator[str]:
    """Lists each folder once, instead of asking for every file."""
    listed: dict[str, frozenset[str]] = {}
    for shard in shards:
        for key in shard.keys:
            folder, _, base = key.rpartition("/")
            if folder not in listed:
                listed[folder] = frozenset(os.listdir(Path(root, folder)))  # noqa: PTH208 (names alone)
            if not any(_sidecar(base, suffix) in listed[folder] for suffix in SUFFIXES):
                yield key


def _sidecar(key: str, suffix: str) -> str:
    return str(PurePosixPath(key).with_suffix(f".{suffix}"))


def _missing(source: ImageSource, key: str) -> DataError:
    return DataError(f"image '{key}' of {source.name} has no caption: expected {EXPECTED}")
