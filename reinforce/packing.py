"""From any source of images to tars of a target size with their frozen listing, so that a kill loses one tar at most.

packed/pack.json          what the tars' bytes follow from besides the images, and their licence; put first
packed/00000.tar ...      images in the source's order, split by split
packed/.parts/00000       the tar's line of the listing, written when the tar is whole: it counts once this is there
packed/listing.jsonl      put last: the set is packed
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

from reinforce.data import ImageSource, hash64, header_size
from reinforce.data.class_names import NAMES_FILE
from reinforce.data.companions import Companions, companions_of
from reinforce.data.files import LocalFiles
from reinforce.data.member_names import member_names
from reinforce.data.packed_listing import LISTING, PackedTar, listing_bytes
from reinforce.data.sources import IMAGE_SUFFIXES, read_ahead
from reinforce.data.splits import TEST, TRAIN, VAL
from reinforce.data.tar_index import BLOCK_BYTES
from reinforce.data.tar_source import index_tars
from reinforce.data.tar_writing import write_tar
from reinforce.errors import DataError, OutputExistsError, StoreAccessError, UndecodableImageError, UsageError
from reinforce.licences import UNKNOWN, is_unknown
from reinforce.locking import FolderHold
from reinforce.views import image_suffix
from reinforce.whole_file import is_leftover, write_whole

REQUEST = "pack.json"
PARTS = ".parts"
UNKNOWN_SUFFIX = "jpg"
"""Of what no image format is recognised in: a build skips and lists it, as it does the loose file."""

Members = list[tuple[str, bytes]]
Progress = Callable[[int], object]


@dataclass(frozen=True, kw_only=True)
class TarSize:
    """Where a tar ends: before the image that would make it larger, but never without one."""

    shard_mb: int
    """MiB."""
    shard_size: int | None
    """Images."""


@dataclass(frozen=True)
class _Sample:
    """An image to pack: its place in the source, and its name in a tar."""

    shard: int
    row: int
    stem: str
    suffix: str


class Packing:
    """A set that is being packed into a folder."""

    def __init__(self, source: ImageSource, folder: Path, size: TarSize, limit: int | None, licence: str) -> None:
        """`licence`: of the images, as it is known. Raises DataError for names that no tar can hold, before anything is
        written."""
        self.source, self.folder, self.size = source, folder, size
        self.companions: Companions = companions_of(source)
        self.splits = _by_split(source, self.companions, limit)
        self.licence = licence
        self.request = {
            "format": 1,
            "images": hashlib.sha256(json.dumps([shard.keys for shard in source.shards]).encode()).hexdigest(),
            "limit": limit,
            **asdict(size),
        }

    @cached_property
    def num_images(self) -> int:
        return sum(len(samples) for samples in self.splits.values())

    def begin(self, *, overwrite: bool, resume: bool) -> FolderHold:
        """Put pack.json, or compare it with the one that is there; a licence that has become known is added. Gives the
        folder to this process alone, until the hold is released.

        Raises OutputExistsError, StoreAccessError, and UsageError also where another command packs there."""
        check_way(self.folder, overwrite=overwrite, resume=resume)
        hold = _hold(self.folder)
        try:
            self._put_request(overwrite)
        except BaseException:
            hold.release()
            raise
        return hold

    def _put_request(self, overwrite: bool) -> None:
        if overwrite:
            remove_packed(self.folder)
        begun = read_request(self.folder)
        differing = [] if begun is None else [name for name in self.request if begun.get(name) != self.request[name]]
        if differing:
            raise UsageError(f"{self.folder} was begun with another {', '.join(differing)}: type what it was begun "
                             "with, or --overwrite")  # fmt: skip
        if begun is not None and is_unknown(self.licence):
            self.licence = str(begun.get("license", UNKNOWN))
        told = self.request | {"license": self.licence}
        if begun != told:
            data = json.dumps(told, sort_keys=True).encode() + b"\n"
            write_whole(self.folder / REQUEST, lambda file: file.write(data))

    def run(self, progress: Progress) -> None:
        """Write what is not there yet. Raises StoreAccessError, and what reading the source raises."""
        lines = [line for split, samples in self.splits.items() for line in self._pack(split, samples, progress)]
        names = self.companions.class_names
        if names is not None:
            text = "".join(f"{name}\n" for name in names).encode()
            write_whole(self.folder / NAMES_FILE, lambda file: file.write(text))
        write_whole(self.folder / LISTING, lambda file: file.write(listing_bytes(lines)))

    def _pack(self, split: str | None, samples: Sequence[_Sample], progress: Progress) -> Iterator[bytes]:
        """The listing's lines of a split's tars."""
        start = number = 0
        places = [(sample.shard, sample.row) for sample in samples]
        while start < len(samples):
            tar = f"{number:05d}.tar" if split is None else f"{split}-{number:05d}.tar"
            line = self._line_of(tar)
            if line is None:
                images = zip(islice(samples, start, None), read_ahead(self.source, places, start), strict=True)
                members = self._members(images, progress)
                write_whole(self.folder / tar, lambda file: write_tar(file, members))  # noqa: B023
                line = self._list(tar)
                num_images = len(PackedTar.from_line(line).keys)
            else:
                num_images = len(PackedTar.from_line(line).keys)
                progress(num_images)
            yield line
            start, number = start + num_images, number + 1

    def _line_of(self, tar: str) -> bytes | None:
        """The line of a tar that an earlier run finished."""
        try:
            line = (self.folder / PARTS / tar).read_bytes()
            is_whole = (self.folder / tar).stat().st_size == PackedTar.from_line(line).num_bytes
        except (OSError, ValueError, TypeError):
            return None
        return line if is_whole else None

    def _list(self, tar: str) -> bytes:
        """Read a finished tar back, and write its line."""
        source = index_tars(tar, LocalFiles(self.folder), [tar], map)
        line = source.list_shard(0, lambda data: (hash64(data), *header_size(data))).to_line()
        source.close()
        write_whole(self.folder / PARTS / tar, lambda file: file.write(line))
        return line

    def _members(self, images: Iterable[tuple[_Sample, bytes]], progress: Progress) -> Iterator[tuple[str, bytes]]:
        """Of the next tar; `images` are those that are not packed yet."""
        num_bytes = 0
        for number, (sample, data) in enumerate(images):
            members = self._named(sample, data)
            num_bytes += sum(BLOCK_BYTES + len(data) + -len(data) % BLOCK_BYTES for _, data in members)
            if number and (num_bytes > self.size.shard_mb << 20 or number == self.size.shard_size):
                return
            yield from members
            progress(1)

    def _named(self, sample: _Sample, data: bytes) -> Members:
        beside = self.companions.read(sample.shard, sample.row)
        suffix = sample.suffix or _suffix_of(data)
        return [(f"{sample.stem}.{suffix}", data), *((f"{sample.stem}.{kind}", beside[kind]) for kind in beside)]


def _by_split(source: ImageSource, companions: Companions, limit: int | None) -> dict[str | None, list[_Sample]]:
    """Samples in listing order by what names their tars; those without a split first."""
    places = [(shard, row) for shard, own in enumerate(source.shards) for row in range(len(own.keys))]
    names = member_names([key for own in source.shards for key in own.keys])
    splits: dict[str | None, list[_Sample]] = {None: [], TRAIN: [], VAL: [], TEST: []}
    for (shard, row), (stem, suffix) in list(zip(places, names, strict=True))[:limit]:
        splits[companions.split(shard, row)].append(_Sample(shard, row, stem, suffix))
    found = {split: samples for split, samples in splits.items() if samples}
    if None in found and len(found) > 1:
        raise DataError(f"{source.name}: some tars say their split in their name and others don't: name all or none")
    return found


def _suffix_of(data: bytes) -> str:
    try:
        suffix = image_suffix(data)
    except UndecodableImageError:
        return UNKNOWN_SUFFIX
    assert suffix in IMAGE_SUFFIXES
    return suffix


def _hold(folder: Path) -> FolderHold:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return FolderHold(folder)
    except BlockingIOError:
        raise UsageError(f"another command packs into {folder}: wait for it, or type another --out") from None
    except OSError as error:
        raise StoreAccessError(f"cannot write {folder}: {error.strerror or error}") from error


def check_way(folder: Path, *, overwrite: bool, resume: bool) -> None:
    """Nothing is overwritten silently, and nothing but a packed set is ever removed. Raises OutputExistsError."""
    if not folder.exists() or (folder.is_dir() and all(is_leftover(path) for path in folder.iterdir())):
        return
    if not (folder / REQUEST).is_file():
        raise OutputExistsError(folder, "it is not a packed set; type --out to write elsewhere")
    if not (overwrite or resume):
        how = "complete" if (folder / LISTING).exists() else "unfinished"
        raise OutputExistsError(folder, f"it is {how}; type --resume to continue it or --overwrite to start again")


def read_request(folder: Path) -> dict[str, object] | None:
    """What a set was begun with. Raises DataError."""
    try:
        document = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / REQUEST} cannot be read: type --overwrite to start again") from error
    return document if isinstance(document, dict) else {}


def remove_packed(folder: Path) -> None:
    """What packing wrote, and nothing else; pack.json last, so that a killed removal is known for what it is."""
    tars = [path for path in folder.glob("*.tar") if _is_packed_tar(path.stem)]
    try:
        for path in (folder / LISTING, folder / NAMES_FILE, *tars):
            path.unlink(missing_ok=True)
        shutil.rmtree(folder / PARTS, ignore_errors=True)
        (folder / REQUEST).unlink(missing_ok=True)
    except OSError as error:
        raise StoreAccessError(f"cannot replace {folder}: {error.strerror or error}; type another --out") from error


def sweep(folder: Path) -> None:
    """Remove what only an unfinished set needs."""
    shutil.rmtree(folder / PARTS, ignore_errors=True)
    for path in filter(is_leftover, folder.iterdir()):
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108


def _is_packed_tar(stem: str) -> bool:
    split, _, number = stem.rpartition("-")
    return number.isdigit() and split in ("", TRAIN, VAL, TEST)
