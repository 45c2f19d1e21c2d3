"""WebDataset tars: indexed once by their headers, or by the frozen listing beside them, then any row is one read.

Key = "<tar's path without .tar>/<member's name up to the first dot of its base name>", the tar's path being relative to
the common folder of the set: a moved set keeps its keys. Beside an image X.jpg, its class may lie in X.cls and its
caption in X.txt or X.json; other members are ignored.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reinforce.counting import counted
from reinforce.data.files import Files, LocalFiles
from reinforce.data.keys import check_keys, hex64
from reinforce.data.packed_listing import LISTING, PackedTar, parse_listing
from reinforce.data.sources import FrozenColumns, Places, Shard, is_image_name, suffix_of
from reinforce.data.tar_index import Member, read_members
from reinforce.errors import DataError, MissingDataError

BESIDE = ("cls", "txt", "json")
"""Suffixes of what may lie beside an image."""

_Positions = npt.NDArray[np.int64]  # (rows, 2): offset and size in bytes; offset -1 = not there


@dataclass(frozen=True)
class _TarTable:
    shard: Shard
    images: _Positions
    beside: Mapping[str, _Positions]
    """Suffix -> where the members lie; without the suffixes that no image of the tar has."""
    listed: PackedTar | None = None
    """What the listing beside the tar says of it."""


class TarSource:
    """See ImageSource. One shard a tar, in the order of the tars given; rows in the order of the members."""

    def __init__(self, name: str, files: Files, tables: Sequence[_TarTable]) -> None:
        self.name = name
        self.files = files
        self._tables = tuple(tables)
        self.shards = tuple(table.shard for table in tables)

    @property
    def root(self) -> str:
        """The folder or URL that shard names are relative to."""
        return self.files.root

    def read(self, shard: int, row: int) -> bytes:
        return self._read(shard, row, self._tables[shard].images[row])

    @property
    def is_remote(self) -> bool:
        return self.files.is_remote

    def prefetch(self, places: Places) -> None:
        names = ((self.shards[shard].name, self._tables[shard].images[row]) for shard, row in places)
        self.files.prefetch([(name, *position.tolist()) for name, position in names])

    def read_class(self, shard: int, row: int) -> bytes | None:
        """The bytes of the row's `.cls` member, or None where it has none."""
        return self.read_beside(shard, row, "cls")

    def read_beside(self, shard: int, row: int, suffix: str) -> bytes | None:
        """The bytes of the row's member of that suffix, one of BESIDE, or None where it has none."""
        if not self.has_beside(shard, row, suffix):
            return None
        return self._read(shard, row, self._tables[shard].beside[suffix][row])

    def has_beside(self, shard: int, row: int, suffix: str) -> bool:
        beside = self._tables[shard].beside
        return suffix in beside and int(beside[suffix][row, 0]) >= 0

    def frozen(self) -> FrozenColumns | None:
        """What the listing beside the tars says of every image, where all tars have one."""
        listed = [table.listed for table in self._tables if table.listed is not None]
        if len(listed) < len(self._tables):
            return None
        return FrozenColumns(
            where=self.files.path(LISTING),
            sha64=np.fromiter((int(x, 16) for tar in listed for x in tar.sha64), np.uint64),
            num_bytes=_column(tar.size for tar in listed),
            width=_column(tar.width for tar in listed),
            height=_column(tar.height for tar in listed),
        )

    def list_shard(self, shard: int, describe: Callable[[bytes], tuple[int, int, int]]) -> PackedTar:
        """What a listing says of a tar; reads all of it. `describe`: an image's hash64, width and height."""
        table, name = self._tables[shard], self.shards[shard].name
        told = [describe(self.read(shard, row)) for row in range(len(table.shard.keys))]
        prefix = name.removesuffix(".tar") + "/"
        return PackedTar(
            tar=name.rpartition("/")[2],
            num_bytes=self.files.size(name),
            keys=[key.removeprefix(prefix) for key in table.shard.keys],
            sha64=[hex64(sha64) for sha64, _, _ in told],
            offset=table.images[:, 0].tolist(),
            size=table.images[:, 1].tolist(),
            width=[width for _, width, _ in told],
            height=[height for _, _, height in told],
            beside={suffix: positions.tolist() for suffix, positions in table.beside.items()},
        )

    def close(self) -> None:
        """Close the tars; the next read opens its own again."""
        self.files.close()

    def __getstate__(self) -> dict[str, Any]:
        """Without the listing, which is for freezing alone."""
        return self.__dict__ | {"_tables": tuple(replace(table, listed=None) for table in self._tables)}

    def _read(self, shard: int, row: int, position: _Positions) -> bytes:
        offset, size = position.tolist()
        name = self.shards[shard].name
        data = self.files.read_range(name, offset, size)
        if len(data) < size:
            key = self.shards[shard].keys[row]
            raise DataError(f"{self.files.path(name)} was cut short after it was opened: '{key}' is not whole")
        return data


def open_tars(paths: Iterable[Path], root: Path | None = None) -> TarSource:
    """Index plain tars. `root`: the folder that shard names and keys are relative to (default: their common one).

    Raises DataError when a tar is damaged, a key is there twice, or there is no image in any of them.
    """
    absolute = [path.absolute() for path in paths]
    base = root.absolute() if root else Path(os.path.commonpath([path.parent for path in absolute]))
    if missing := [path for path in absolute if not path.exists()]:
        tars = counted(len(absolute), "tar")
        raise MissingDataError(f"{len(missing)} of {tars} not there, the first is {missing[0]}")
    name = absolute[0].stem if len(absolute) == 1 else base.name
    return index_tars(name, LocalFiles(base), [path.relative_to(base).as_posix() for path in absolute], map)


def index_tars(name: str, files: Files, tars: Sequence[str], each: Callable[..., Iterable[_TarTable]]) -> TarSource:
    """The source of the tars of these names. `each` is `map`, or works on several at once. Raises DataError."""
    listings = _Listings(files)
    tables = [table for table in each(lambda tar: _table(files, tar, listings), tars) if table.shard.keys]
    files.close()
    where = files.path(tars[0]) + (f" ... ({len(tars)} tars)" if len(tars) > 1 else "")
    if not tables:
        raise DataError(f"no image in {where}: expected members such as 000001.jpg")
    check_keys([key for table in tables for key in table.shard.keys], f"{where} (a key ends at the first dot)")
    return TarSource(name, files, tables)


class _Listings:
    """The listings of packed tars, each read once."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.found: dict[str, Mapping[str, PackedTar]] = {}
        self.lock = threading.Lock()

    def of(self, tar: str) -> PackedTar | None:
        """What is listed of a tar, if it still has the size that is listed."""
        folder, slash, base = tar.rpartition("/")
        name = f"{folder}{slash}{LISTING}"
        with self.lock:
            if name not in self.found:
                self.found[name] = self._read(name)
        listed = self.found[name].get(base)
        return listed if listed is not None and listed.num_bytes == self.files.size(tar) else None

    def _read(self, name: str) -> Mapping[str, PackedTar]:
        try:
            return parse_listing(self.files.read(name), self.files.path(name))
        except MissingDataError:
            return {}


def _table(files: Files, tar: str, listings: _Listings) -> _TarTable:
    if (listed := listings.of(tar)) is not None:
        return _listed_table(tar, listed)
    where = files.path(tar)
    keys: list[str] = []
    stems: list[str] = []
    images: list[tuple[int, int]] = []
    beside: dict[str, dict[str, tuple[int, int]]] = {suffix: {} for suffix in BESIDE}
    prefix = tar.removesuffix(".tar")
    for member in read_members(where, files.size(tar), files.scan(tar)):
        folder, slash, base = member.name.removeprefix("./").lstrip("/").rpartition("/")
        name, suffix = f"{prefix}/{folder}{slash}", suffix_of(base)
        if is_image_name(base):
            _check_is_regular(member, where)
            keys.append(name + base.partition(".")[0])
            stems.append(name + base.rpartition(".")[0])
            images.append((member.offset, member.size_bytes))
        elif suffix in beside and member.regular:
            beside[suffix][name + base.rpartition(".")[0]] = (member.offset, member.size_bytes)
    found = {suffix: _positions([_beside(members, *names) for names in zip(stems, keys, strict=True)])
             for suffix, members in beside.items() if members}  # fmt: skip
    return _TarTable(Shard(tar, tuple(keys)), _positions(images), found)


def _listed_table(tar: str, listed: PackedTar) -> _TarTable:
    prefix = tar.removesuffix(".tar")
    images = np.stack([np.array(column, np.int64) for column in (listed.offset, listed.size)], axis=1)
    beside = {suffix: _positions(rows) for suffix, rows in listed.beside.items()}
    return _TarTable(Shard(tar, tuple(f"{prefix}/{key}" for key in listed.keys)), images, beside, listed)


def _column(parts: Iterable[Sequence[int]]) -> npt.NDArray[np.int64]:
    return np.fromiter(chain.from_iterable(parts), np.int64)


def _beside(members: Mapping[str, tuple[int, int]], stem: str, key: str) -> tuple[int, int]:
    """Of X.v2.jpg: X.v2.txt, which has its name up to the last dot, or X.txt, which is WebDataset's field "txt"."""
    return members.get(stem) or members.get(key) or (-1, 0)


def _positions(rows: Sequence[Sequence[int]]) -> _Positions:
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def _check_is_regular(member: Member, where: str) -> None:
    if not member.regular:
        raise DataError(f"{where}: '{member.name}' is a link or a sparse file: repack with tar -h --hard-dereference")
