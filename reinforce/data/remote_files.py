"""Transfer sets on object stores: tars by ranged reads, loose images one request each, both read ahead and cached.

Keys and order are those of the same files in a folder, so a set that is uploaded stays the same transfer set.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from braceexpand import braceexpand

from reinforce import catalog
from reinforce.data.class_names import NAMES_FILE
from reinforce.data.files import ReadRange
from reinforce.data.folder import KNOWN_SUFFIXES, TAR_SUFFIXES, FolderContents
from reinforce.data.keys import check_keys
from reinforce.data.mask_layouts import without_masks
from reinforce.data.packed_listing import LISTING
from reinforce.data.sources import IMAGE_SUFFIXES, UNREAD_SUFFIXES, Places, Shard, suffix_of, virtual_shards
from reinforce.data.tar_source import BESIDE, TarSource, index_tars
from reinforce.errors import DataError, MissingDataError, UsageError
from reinforce.remote import Part, PartReader, RemoteObject, RemotePlace, default_cache

NUM_THREADS = 16
SMALLEST_BLOCK_BYTES, LARGEST_BLOCK_BYTES = 64 << 10, 8 << 20
"""Of one read of headers."""


class RemoteFiles:
    """See Files. What is known of the objects is asked for once."""

    is_remote = True

    def __init__(self, place: RemotePlace, known: dict[str, RemoteObject], *, are_all: bool) -> None:
        """`are_all`: the place was listed, and nothing else is there."""
        self.place, self.known, self.are_all = place, known, are_all
        self.reader = PartReader(place, default_cache(catalog.home()))

    @property
    def root(self) -> str:
        return self.place.url

    def path(self, name: str) -> str:
        return self.place.name_of(name)

    def size(self, name: str) -> int:
        return self._object(name).size

    def read(self, name: str) -> bytes:
        if self.are_all and name not in self.known:
            raise self._missing(name)
        try:
            return self.place.get(name)
        except FileNotFoundError as error:
            raise self._missing(name) from error

    def read_range(self, name: str, start: int, length: int) -> bytes:
        try:
            return self.reader.read(self.part(name, start, length))
        except FileNotFoundError as error:
            raise self._missing(name) from error

    def prefetch(self, ranges: Sequence[tuple[str, int, int]]) -> None:
        """Say which (name, start, length) will be read next."""
        self.reader.prefetch([self.part(*place) for place in ranges])

    def part(self, name: str, start: int, length: int) -> Part:
        return Part(name, self._object(name).tag, start, length)

    def scan(self, name: str) -> ReadRange:
        return _Blocks(lambda start, length: self.place.get_range(name, start, length))

    def close(self) -> None:
        """Nothing is open."""

    def _object(self, name: str) -> RemoteObject:
        if name not in self.known:
            try:
                self.known[name] = self.place.head(name)
            except FileNotFoundError as error:
                raise self._missing(name) from error
        return self.known[name]

    def _missing(self, name: str) -> MissingDataError:
        return MissingDataError(f"{self.path(name)} is not there: put it back")


class _Blocks:
    """Small reads from the front to the end of an object, as few requests: blocks grow while reads lie next to them."""

    def __init__(self, read: ReadRange) -> None:
        self.read = read
        self.start, self.block, self.num_bytes = 0, b"", SMALLEST_BLOCK_BYTES
        self.is_last = False
        """Whether the block ends where the object does."""

    def __call__(self, start: int, length: int) -> bytes:
        end = self.start + len(self.block)
        if not self.start <= start <= end or (start + length > end and not self.is_last):
            is_near = bool(self.block) and self.start <= start < end + self.num_bytes
            self.num_bytes = min(LARGEST_BLOCK_BYTES, 2 * self.num_bytes) if is_near else SMALLEST_BLOCK_BYTES
            asked = max(length, self.num_bytes)
            self.start, self.block = start, self.read(start, asked)
            self.is_last = len(self.block) < asked
        return self.block[start - self.start : start - self.start + length]


@dataclass(frozen=True)
class ObjectSource:
    """See ImageSource: loose images on an object store, with the keys that a folder would give them."""

    name: str
    files: RemoteFiles
    shards: tuple[Shard, ...]
    unread: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()

    is_remote = True

    @property
    def root(self) -> str:
        return self.files.root

    def read(self, shard: int, row: int) -> bytes:
        return self.files.read_range(*self._place(shard, row))

    def prefetch(self, places: Places) -> None:
        self.files.prefetch([self._place(shard, row) for shard, row in places])

    def read_beside(self, shard: int, row: int, suffix: str) -> bytes | None:
        """The object of the image's name with another suffix, or None where there is none."""
        name = f"{self.shards[shard].keys[row].rpartition('.')[0]}.{suffix}"
        return self.files.read_range(name, 0, self.files.size(name)) if name in self.files.known else None

    def has_beside(self, shard: int, row: int, suffix: str) -> bool:
        return f"{self.shards[shard].keys[row].rpartition('.')[0]}.{suffix}" in self.files.known

    def _place(self, shard: int, row: int) -> tuple[str, int, int]:
        key = self.shards[shard].keys[row]
        return key, 0, self.files.size(key)


def open_remote(url: str) -> TarSource | ObjectSource:
    """Open a URL of a prefix, of a tar, or of tars by a brace pattern.

    Raises MissingDataError where nothing is, DataError where no image is, MissingExtraError without obstore, UsageError
    for a malformed URL, RemoteAccessError where the store cannot be reached or refuses.
    """
    if url.endswith(".tar"):
        return _open_tars(url)
    place = RemotePlace(url)
    known = {found.path: found for found in place.list() if _is_wanted(found.path)}
    files = RemoteFiles(place, known, are_all=True)
    name = place.url.rpartition("/")[2]
    by_kind = [tuple(sorted(path for path in known if suffix_of(path) in kind))
               for kind in (IMAGE_SUFFIXES, TAR_SUFFIXES, UNREAD_SUFFIXES)]  # fmt: skip
    contents = without_masks(FolderContents(*by_kind))
    if contents.images and contents.tars:
        raise DataError(f"{url} holds tars and loose images, such as {contents.images[0]}: type a pattern of the tars")
    if contents.tars:
        return _indexed(name, files, contents.tars)
    if not contents.images:
        raise MissingDataError(f"{url} holds no images: type a prefix of loose ones or of tars, or a URL of a .tar")
    check_keys(contents.images, url)
    return ObjectSource(name, files, virtual_shards("folder", contents.images), contents.unread, contents.masks)


def _open_tars(pattern: str) -> TarSource:
    try:
        urls = list(braceexpand(pattern))
    except ValueError as error:
        raise UsageError(f"the braces in {pattern} do not match: write for example x/{{00000..00012}}.tar") from error
    root = _common_folder(urls)
    place = RemotePlace(root)
    files = RemoteFiles(place, {}, are_all=False)
    names = [url[len(root) + 1 :] for url in urls]
    name = names[0].rpartition("/")[2].removesuffix(".tar") if len(names) == 1 else root.rpartition("/")[2]
    return _indexed(name, files, names)


def _indexed(name: str, files: RemoteFiles, tars: Sequence[str]) -> TarSource:
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        return index_tars(name, files, tars, pool.map)


def _common_folder(urls: Sequence[str]) -> str:
    """The longest URL of which all lie below."""
    folders = [url.split("/")[:-1] for url in urls]
    shared = next((depth for depth, parts in enumerate(zip(*folders, strict=False)) if len(set(parts)) > 1),
                  min(map(len, folders)))  # fmt: skip
    if shared < 3:
        raise UsageError(f"{urls[0]} and {urls[-1]} are of different buckets: type tars of one")
    return "/".join(folders[0][:shared])


def _is_wanted(path: str) -> bool:
    """Images, tars and what belongs to them; nothing hidden, no placeholders of folders."""
    if any(part.startswith(".") for part in path.split("/")):
        return False
    base = path.rpartition("/")[2]
    return suffix_of(path) in KNOWN_SUFFIXES | {*BESIDE} or base in (LISTING, NAMES_FILE)
