"""Keys: the only join id between images, views and targets, and the 64-bit hashes made from them.

A key is a non-empty Unicode string without NUL, unique in its source. Hashes are the first 8 bytes of SHA-256, read
big endian, so that any language with a SHA-256 gets the same numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from reinforce.errors import DataError


def hash64(content: str | bytes) -> int:
    """First 8 bytes, big endian, of the SHA-256 of `content` (a string counts as its UTF-8 bytes)."""
    data = content.encode() if isinstance(content, str) else content
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")


def hex64(value: int) -> str:
    """The 16 hex digits of a 64-bit hash."""
    return f"{value:016x}"


def check_keys(keys: Sequence[str], where: str) -> None:
    """Refuse keys that are empty, not Unicode, hold a NUL, or are there twice; the message names one (DataError)."""
    for key in keys:
        if not key or "\0" in key or not is_unicode(key):
            raise DataError(f"{where}: the name {key!a} is empty, holds a NUL or is not UTF-8: rename that file")
    if len(set(keys)) != len(keys):
        raise DataError(f"{where}: the key '{_first_duplicate(keys)}' is there twice: keys must be unique in a set")


def is_unicode(text: str) -> bool:
    """Whether UTF-8 can hold it."""
    try:
        text.encode()
    except UnicodeEncodeError:  # file names that are not UTF-8 arrive as lone surrogates
        return False
    return True


def _first_duplicate(keys: Sequence[str]) -> str:
    seen: set[str] = set()
    return next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
