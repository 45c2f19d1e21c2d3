"""The few operations that a store needs from where it lies: create-only puts, reads, listing, deletes.

A store never changes an object: `put_new` makes a whole object visible or nothing, and refuses an existing name. So a
process may be killed at any moment, and two that do the same work cannot leave a mixture.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from reinforce.errors import CorruptStoreError, StoreAccessError
from reinforce.store.canonical import one_line
from reinforce.whole_file import TEMPORARY_PREFIX

_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_SAFE_PATH = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*")
_ATTEMPTS = 4
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}


class ObjectExistsError(FileExistsError):
    """`put_new` met an object of that name; what is there stays."""


class Objects(Protocol):
    """A flat name space of immutable byte strings; names are relative POSIX paths (`check_path`).

    `name` is what messages call the place. Reads of what is not there raise FileNotFoundError; an operation that the
    medium refuses (disk full, permission) raises StoreAccessError and leaves no partial object.
    """

    @property
    def name(self) -> str: ...

    def put_new(self, path: str, data: bytes) -> None:
        """Publish a whole object durably. Raises ObjectExistsError where the name is taken."""

    def get(self, path: str) -> bytes: ...

    def get_range(self, path: str, start: int, length: int) -> bytes:
        """`length` bytes from `start`; fewer at the object's end."""

    def size(self, path: str) -> int: ...

    def exists(self, path: str) -> bool: ...

    def list(self) -> Iterator[tuple[str, int]]:
        """Every (path, bytes), unordered, leftovers of killed puts included; -1 bytes for what is no plain object."""

    def delete(self, path: str) -> None:
        """Remove one object, temporaries and links included; nothing happens where there is none."""


def check_path(path: object) -> str:
    """`path` itself if it is a relative POSIX path of plain segments (no `..`, nothing hidden, no backslash).

    Raises CorruptStoreError for anything else, so that no manifest can point outside its store.
    """
    if not isinstance(path, str) or len(path) > 512 or not _SAFE_PATH.fullmatch(path):
        raise CorruptStoreError(f"not a name of an object inside a store: {one_line(repr(path))}")
    return path


def is_hidden(path: str) -> bool:
    """Whether any segment starts with a dot: temporaries and what file managers drop, never an object of a store."""
    return any(segment.startswith(".") for segment in path.split("/"))


def is_temporary(path: str) -> bool:
    """Whether a killed put has left it."""
    return path.rpartition("/")[2].startswith(TEMPORARY_PREFIX)


def publish(objects: Objects, contents: Mapping[str, bytes]) -> None:
    """Put every object, in the mapping's order; equal ones stay, different ones of a killed attempt are replaced.

    Only for paths that the caller owns by claim or that are functions of the plan.
    """
    for path, data in contents.items():
        try:
            objects.put_new(path, data)
        except ObjectExistsError:
            if objects.size(path) != len(data) or objects.get(path) != data:
                objects.delete(path)
                objects.put_new(path, data)


class LocalObjects:
    """Objects as files under a folder: temp file, fsync, hard link (create-only), fsync of the folder.

    Where hard links don't exist (FAT, some network mounts) a rename takes their place: still never a partial object,
    but create-only for a single writer only. Links below the folder are never followed.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._real_folders: set[str] = set()

    @property
    def name(self) -> str:
        return str(self.root)

    def __reduce__(self) -> tuple[type[LocalObjects], tuple[str]]:
        return (LocalObjects, (str(self.root),))

    def put_new(self, path: str, data: bytes) -> None:
        with self._medium("write", path, passes=ObjectExistsError):
            target = self._locate(path)
            for _ in range(_ATTEMPTS - 1):
                try:
                    _put_once(target, data)
                except FileNotFoundError:
                    continue  # another process pruned the folder that we made, or swept our temporary out
                return
            _put_once(target, data)

    def get(self, path: str) -> bytes:
        with self._medium("read", path), _open_plain(self._locate(path)) as file:
            return file.readall()

    def get_range(self, path: str, start: int, length: int) -> bytes:
        with self._medium("read", path), _open_plain(self._locate(path)) as file:
            file.seek(start)
            return _read_fully(file, length)

    def size(self, path: str) -> int:
        with self._medium("read", path):
            try:
                status = self._locate(path).lstat()
            except NotADirectoryError as error:
                raise FileNotFoundError(errno.ENOENT, "no such object", path) from error
            return status.st_size if stat.S_ISREG(status.st_mode) else -1

    def exists(self, path: str) -> bool:
        try:
            self.size(path)
        except FileNotFoundError:
            return False
        return True

    def list(self) -> Iterator[tuple[str, int]]:
        root, pending = f"{self.root}/", [""]
        while pending:
            prefix = pending.pop()
            with self._medium("list", prefix or "the objects"):
                try:
                    entries = os.scandir(root + prefix)
                except FileNotFoundError:
                    continue  # another process has just emptied it
                with entries:
                    for entry in entries:
                        path = prefix + entry.name
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(path + "/")
                        else:
                            yield path, _plain_bytes(entry)

    def delete(self, path: str) -> None:
        """Also removes folders that became empty, so that a finished store has none."""
        parts = path.split("/")
        if "" in parts or "." in parts or ".." in parts:
            raise CorruptStoreError(f"not a name of an object inside a store: {one_line(repr(path))}")
        with self._medium("delete", path):
            self._refuse_links(parts[:-1])
            target = self.root / path
            try:
                target.unlink(missing_ok=True)
            except NotADirectoryError:
                return
            _sync_folder(target.parent)
            self._prune(target.parent)

    @contextlib.contextmanager
    def _medium(self, action: str, path: str, passes: type[OSError] = FileNotFoundError) -> Iterator[None]:
        """What the operating system refuses, as one line; `passes` is for the caller."""
        try:
            yield
        except passes:
            raise
        except OSError as error:
            reason = error.strerror or one_line(error)
            raise StoreAccessError(f"cannot {action} {one_line(path)} in {self.root}: {reason}") from error

    def _prune(self, folder: Path) -> None:
        while folder != self.root:
            try:
                folder.rmdir()
            except OSError:
                return
            self._real_folders.discard(folder.relative_to(self.root).as_posix())
            folder = folder.parent

    def _locate(self, path: str) -> Path:
        check_path(path)
        self._refuse_links(path.split("/")[:-1])
        return self.root / path

    def _refuse_links(self, folders: Sequence[str]) -> None:
        for depth in range(1, len(folders) + 1):
            folder = "/".join(folders[:depth])
            if folder in self._real_folders:
                continue
            if (self.root / folder).is_symlink():
                raise CorruptStoreError(f"{self.root}: {one_line(folder)} is a link: a store holds plain folders only")
            self._real_folders.add(folder)


def _put_once(target: Path, data: bytes) -> None:
    temporary = _write_temporary(target.parent, data)
    try:
        _link_new(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _write_temporary(folder: Path, data: bytes) -> Path:
    _make_folder(folder)
    temporary = folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def _open_plain(path: Path) -> io.FileIO:
    # O_NONBLOCK: a FIFO in a hostile store must not make the open wait for a writer.
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ENOTDIR:
            raise FileNotFoundError(errno.ENOENT, "no such object", str(path)) from error
        if error.errno in {errno.ELOOP, errno.EISDIR}:
            raise CorruptStoreError(f"{path} is no plain file") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise CorruptStoreError(f"{path} is no plain file")
    return io.FileIO(descriptor, "rb")


def _read_fully(file: io.FileIO, length: int) -> bytes:
    parts = []
    while length > 0 and (part := file.read(length)):
        parts.append(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _plain_bytes(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else -1
    except FileNotFoundError:
        return -1


def _link_new(temporary: Path, target: Path) -> None:
    try:
        os.link(temporary, target)
        return
    except FileExistsError as error:
        raise ObjectExistsError(errno.EEXIST, "object exists", str(target)) from error
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    if os.path.lexists(target):
        raise ObjectExistsError(errno.EEXIST, "object exists", str(target))
    temporary.rename(target)


def _make_folder(folder: Path) -> None:
    """Like `mkdir -p`, but each new folder's entry is durable before anything inside it is."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:
        return
    except FileNotFoundError:
        return  # the parent was pruned meanwhile: the caller tries again
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
