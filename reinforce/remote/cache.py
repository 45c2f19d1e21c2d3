"""A bounded cache of bytes on disk, for several processes at once and for kills at any moment.

Entries are files named by a hash of what they are parts of, and begin with a SHA-256 of what follows: a damaged or
half-written one counts as absent. They lie in buckets; whoever adds to a bucket keeps it within its share of the limit,
by removing what was used least recently. Nothing depends on an entry being there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from reinforce.errors import UsageError

SIZE_VARIABLE = "REINFORCE_CACHE_MB"
DEFAULT_MB = 8192
NUM_BUCKETS = 16
KEPT_SHARE = 0.9
"""Of a full bucket, after the least recently used entries are gone."""
CHECKED_SHARE = 0.05
"""Of a bucket's limit: having added so much, a process looks again at what others have added."""
_DIGEST_BYTES = 32


class PartCache:
    """Bytes by name below a folder. Picklable."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        """`limit_bytes` 0 keeps nothing."""
        self.folder, self.limit_bytes = folder, limit_bytes
        self._added = dict.fromkeys(range(NUM_BUCKETS), limit_bytes)  # the first entry makes us look at what is there

    def get(self, name: str) -> bytes | None:
        """None where it is not there, or not whole."""
        if not self.limit_bytes:
            return None
        path = self._path(name)
        try:
            entry = path.read_bytes()
            os.utime(path)  # it was used just now
        except OSError:
            return None
        data = entry[_DIGEST_BYTES:]
        return data if hashlib.sha256(data).digest() == entry[:_DIGEST_BYTES] else None

    def put(self, name: str, data: bytes) -> None:
        """Keep it if there is room; never fails."""
        bucket_limit = self.limit_bytes // NUM_BUCKETS
        if len(data) + _DIGEST_BYTES > bucket_limit // 2:
            return
        path = self._path(name)
        temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(hashlib.sha256(data).digest() + data)
            temporary.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            return
        bucket = int(path.parent.name, 16)
        self._added[bucket] += len(data)
        if self._added[bucket] > CHECKED_SHARE * bucket_limit:
            self._added[bucket] = 0
            _shrink(path.parent, bucket_limit)

    def _path(self, name: str) -> Path:
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
        return self.folder / digest[0] / digest[1:40]


def _shrink(folder: Path, limit_bytes: int) -> None:
    """Remove what was used least recently, left-overs of killed processes among it."""
    entries = []
    with contextlib.suppress(OSError), os.scandir(folder) as files:
        for file in files:
            with contextlib.suppress(OSError):
                status = file.stat()
                entries.append((status.st_mtime, status.st_size, file.path))
    total = sum(size for _, size, _ in entries)
    if total <= limit_bytes:
        return
    for _, size, path in sorted(entries):
        if total <= KEPT_SHARE * limit_bytes:
            return
        with contextlib.suppress(OSError):
            Path(path).unlink()
        total -= size


def default_cache(folder: Path) -> PartCache:
    """$REINFORCE_CACHE_MB of it below `folder`; 0 for none. Raises UsageError."""
    text = os.environ.get(SIZE_VARIABLE, str(DEFAULT_MB))
    if not text.isdigit():
        raise UsageError(f"{SIZE_VARIABLE} is '{text}': set it to a number of MiB, or 0 for no cache")
    return PartCache(folder / "parts", int(text) << 20)
