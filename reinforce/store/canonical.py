"""Canonical JSON: the one serialisation of every JSON object in a store, so that equal content means equal bytes."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from reinforce.errors import CorruptStoreError
from reinforce.printable import printable

_SHA256 = re.compile("[0-9a-f]{64}")
MAX_JSON_BYTES = 32 << 20
"""The largest JSON object that is parsed: a plan of 100,000 units or a manifest of 200,000 objects fits."""


def canonical_json(value: object) -> bytes:
    """Members sorted by code point, no spaces, ASCII only, shortest floats that read back equal, no NaN or infinity.

    Raises ValueError for NaN and infinity, TypeError for what JSON has no word for.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def parse_object(data: bytes, name: str, *, canonical: bool = True) -> dict[str, Any]:
    """The JSON object in `data`; `name` is only for the message.

    Raises CorruptStoreError where it is too large, no JSON, no object, or (with `canonical`) other bytes than
    `canonical_json` writes, which rules out repeated members.
    """
    if len(data) > MAX_JSON_BYTES:
        raise CorruptStoreError(f"{name} has {len(data)} bytes, over the limit of {MAX_JSON_BYTES}")
    try:
        value = json.loads(data)
        same = not canonical or canonical_json(value) == data
    except (ValueError, RecursionError) as error:
        raise CorruptStoreError(f"{name} is not valid JSON ({one_line(error)})") from error
    if not isinstance(value, dict):
        raise CorruptStoreError(f"{name} holds no JSON object")
    if not same:
        raise CorruptStoreError(f"{name} is not canonical JSON: it was edited after it was written")
    return value


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def is_sha256(value: object) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def one_line(error: object, limit: int = 160) -> str:
    """An error's text (or any name from outside) made fit for a one-line message: what a terminal could obey, or
    would not show, is escaped; letters of any script stay."""
    text = printable(str(error))
    return text if len(text) <= limit else text[: limit - 3] + "..."


class Fields:
    """Typed look-ups in a JSON object that came from outside; every miss is a CorruptStoreError naming the member."""

    def __init__(self, members: object, name: str) -> None:
        if not isinstance(members, Mapping):
            raise CorruptStoreError(f"{name} is no JSON object")
        self.members: Mapping[str, Any] = members
        self.name = name

    def integer(self, key: str, low: int, high: int) -> int:
        value = self.members.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise CorruptStoreError(f"{self.name}: '{key}' is not an integer in {low}..{high}: {one_line(repr(value))}")
        return value

    def number(self, key: str) -> float:
        value = self.members.get(key)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise CorruptStoreError(f"{self.name}: '{key}' is not a number: {one_line(repr(value))}")
        try:
            return float(value)
        except OverflowError as error:
            raise CorruptStoreError(f"{self.name}: '{key}' is too large a number") from error

    def text(self, key: str) -> str:
        value = self.members.get(key)
        if not isinstance(value, str):
            raise CorruptStoreError(f"{self.name}: '{key}' is not a string: {one_line(repr(value))}")
        return value

    def digest(self, key: str) -> str:
        value = self.text(key)
        if not is_sha256(value):
            raise CorruptStoreError(f"{self.name}: '{key}' is not a SHA-256: {one_line(repr(value))}")
        return value

    def items(self, key: str) -> list[Any]:
        value = self.members.get(key)
        if not isinstance(value, list):
            raise CorruptStoreError(f"{self.name}: '{key}' is not a list: {one_line(repr(value))}")
        return value

    def inner(self, key: str) -> Fields:
        return Fields(self.members.get(key), f"{self.name}: '{key}'")
