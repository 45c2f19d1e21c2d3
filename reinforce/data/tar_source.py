"""WebDataset tars: indexed once by their headers, then any row is one `pread`.

Key = "<tar's path without .tar>/<member's name up to the first dot of its base name>", the tar's path being relative to
the common folder of the set: a moved set keeps its keys. Beside an image X.jpg, its class may lie in X.cls and its
caption in X.txt or X.json; other members are ignored.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from reinforce.data.keys import check_keys
from reinforce.data.sources import Shard, is_image_name, suffix_of
from reinforce.data.tar_index import Member, read_members
from reinforce.errors import DataError, MissingDataError

_MAX_OPEN_FILES = 64
BESIDE = ("cls", "txt", "json")
"""Suffixes of what may lie beside an image."""

_Positions = npt.NDArray[np.int64]  # (rows, 2): offset and size in bytes; offset -1 = not there


@dataclass(frozen=True)
class _TarTable:
    shard: Shard
    images: _Positions
    beside: Mapping[str, _Positions]
    """Suffix -> where the members lie; without the suffixes that no image of the tar has."""


class TarSource:
    """See ImageSource. One shard a tar, in the order of the tars given; rows in the order of the members."""

    def __init__(self, name: str, root: str, tables: Sequence[_TarTable]) -> None:
        self.name = name
        self.root = root
        self.shards = tuple(table.shard for table in tables)
        self._images = [table.images for table in tables]
        self._beside = [table.beside for table in tables]
        self._files: OrderedDict[int, int] = OrderedDict()

    def read(self, shard: int, row: int) -> bytes:
        return self._read(shard, row, self._images[shard][row])

    def read_class(self, shard: int, row: int) -> bytes | None:
        """The bytes of the row's `.cls` member, or None where it has none."""
        return self.read_beside(shard, row, "cls")

    def read_beside(self, shard: int, row: int, suffix: str) -> bytes | None:
        """The bytes of the row's member of that suffix, one of BESIDE, or None where it has none."""
        if not self.has_beside(shard, row, suffix):
            return None
        return self._read(shard, row, self._beside[shard][suffix][row])

    def has_beside(self, shard: int, row: int, suffix: str) -> bool:
        return suffix in self._beside[shard] and int(self._beside[shard][suffix][row, 0]) >= 0

    def close(self) -> None:
        """Close the tars; the next read opens its own again."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": OrderedDict()}

    def __del__(self) -> None:
        if hasattr(self, "_files"):
            self.close()

    def _read(self, shard: int, row: int, position: _Positions) -> bytes:
        offset, size = position.tolist()
        data = os.pread(self._descriptor(shard), size, offset)
        if len(data) < size:
            path = Path(self.root, self.shards[shard].name)
            raise DataError(f"{path} was cut short after it was opened: '{self.shards[shard].keys[row]}' is not whole")
        return data

    def _descriptor(self, shard: int) -> int:
        if shard in self._files:
            self._files.move_to_end(shard)
            return self._files[shard]
        if len(self._files) >= _MAX_OPEN_FILES:
            os.close(self._files.popitem(last=False)[1])
        path = Path(self.root, self.shards[shard].name)
        try:
            self._files[shard] = os.open(path, os.O_RDONLY)
        except FileNotFoundError as error:
            raise MissingDataError(f"{path} is not there: put the tar back") from error
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        return self._files[shard]


def open_tars(paths: Iterable[Path], root: Path | None = None) -> TarSource:
    """Index plain tars. `root`: the folder that shard names and keys are relative to (default: their common one).

    Raises DataError when a tar is damaged, a key is there twice, or there is no image in any of them.
    """
    absolute = [path.absolute() for path in paths]
    base = root.absolute() if root else Path(os.path.commonpath([path.parent for path in absolute]))
    if missing := [path for path in absolute if not path.exists()]:
        raise MissingDataError(f"{len(missing)} of {len(absolute)} tars are not there, the first is {missing[0]}")
    tables = [_table(path, path.relative_to(base).as_posix()) for path in absolute]
    tables = [table for table in tables if table.shard.keys]
    if not tables:
        raise DataError(f"no image in {_described(absolute)}: expected members such as 000001.jpg")
    keys = [key for table in tables for key in table.shard.keys]
    check_keys(keys, f"{_described(absolute)} (a key ends at the first dot)")
    name = absolute[0].stem if len(absolute) == 1 else base.name
    return TarSource(name, str(base), tables)


def _table(path: Path, shard_name: str) -> _TarTable:
    keys: list[str] = []
    stems: list[str] = []
    images: list[tuple[int, int]] = []
    beside: dict[str, dict[str, tuple[int, int]]] = {suffix: {} for suffix in BESIDE}
    prefix = shard_name.removesuffix(".tar")
    for member in read_members(path):
        folder, slash, base = member.name.removeprefix("./").lstrip("/").rpartition("/")
        name, suffix = f"{prefix}/{folder}{slash}", suffix_of(base)
        if is_image_name(base):
            _check_is_regular(member, path)
            keys.append(name + base.partition(".")[0])
            stems.append(name + base.rpartition(".")[0])
            images.append((member.offset, member.size_bytes))
        elif suffix in beside and member.regular:
            beside[suffix][name + base.rpartition(".")[0]] = (member.offset, member.size_bytes)
    found = {suffix: _positions([_beside(members, *names) for names in zip(stems, keys, strict=True)])
             for suffix, members in beside.items() if members}  # fmt: skip
    return _TarTable(Shard(shard_name, tuple(keys)), _positions(images), found)


def _beside(members: Mapping[str, tuple[int, int]], stem: str, key: str) -> tuple[int, int]:
    """Of X.v2.jpg: X.v2.txt, which has its name up to the last dot, or X.txt, which is WebDataset's field "txt"."""
    return members.get(stem) or members.get(key) or (-1, 0)


def _positions(rows: list[tuple[int, int]]) -> _Positions:
    return np.array(rows, dtype=np.int64).reshape(-1, 2)


def _check_is_regular(member: Member, path: Path) -> None:
    if not member.regular:
        raise DataError(f"{path}: '{member.name}' is a link or a sparse file: repack with tar -h --hard-dereference")


def _described(paths: Sequence[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} ... ({len(paths)} tars)"
