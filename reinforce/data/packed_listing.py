"""The frozen listing beside packed tars: what freezing a set would find out by reading every image, and where all lies.

    listing.jsonl   {"format": "reinforce packed listing", "version": 1}
                    one object a tar, in order: its name, bytes, and columns over its images (`PackedTar`)
                    {"sha256": SHA-256 over all bytes before this line}

Lines are JSON with sorted members, without spaces, in ASCII. A tar of the listed size is taken for the listed one, so
its headers are not read. What is said of an image's bytes need not be trusted: they are hashed whenever they are used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from reinforce.errors import DataError

LISTING = "listing.jsonl"
_HEADER = {"format": "reinforce packed listing", "version": 1}


@dataclass(frozen=True, kw_only=True)
class PackedTar:
    """One tar; columns have a value for each of its images, in the order of the members."""

    tar: str
    """File name, in the listing's folder."""
    num_bytes: int
    """Of the tar."""
    keys: Sequence[str]
    """Without what the tar's name adds to them."""
    sha64: Sequence[str]
    """16 hex digits."""
    offset: Sequence[int]
    """Where the image's bytes begin."""
    size: Sequence[int]
    width: Sequence[int]
    """px as the header says; 0 where it cannot be read."""
    height: Sequence[int]
    beside: Mapping[str, Sequence[Sequence[int]]]
    """Suffix -> offset and size of each image's member of that suffix; offset -1 where it has none."""

    def to_line(self) -> bytes:
        return _line(asdict(self))

    @classmethod
    def from_line(cls, line: bytes) -> PackedTar:
        """Raises ValueError for what `to_line` does not write."""
        tar = cls(**json.loads(line))
        columns = (tar.sha64, tar.offset, tar.size, tar.width, tar.height, *tar.beside.values())
        if any(len(column) != len(tar.keys) for column in columns):
            raise ValueError(f"columns of {tar.tar} differ in length")
        return tar


def listing_bytes(lines: Sequence[bytes]) -> bytes:
    """The whole file, from each tar's line."""
    content = b"".join([_line(_HEADER), *lines])
    return content + _line({"sha256": hashlib.sha256(content).hexdigest()})


def parse_listing(data: bytes, where: str) -> dict[str, PackedTar]:
    """Tar's name -> what is listed of it. Raises DataError for a damaged listing and for one of a newer version."""
    content, _, digest_line = data.rstrip(b"\n").rpartition(b"\n")
    content += b"\n"
    if digest_line + b"\n" != _line({"sha256": hashlib.sha256(content).hexdigest()}):
        raise DataError(f"{where} is damaged: copy it again, or delete it, and every image is read once to be frozen")
    header, *lines = content.splitlines(keepends=True)
    if header != _line(_HEADER):
        raise DataError(f"{where} has another format than {_HEADER['format']} {_HEADER['version']}: upgrade "
                        "reinforce-vision, or delete it")  # fmt: skip
    try:
        tars = [PackedTar.from_line(line) for line in lines]
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{where} is not as reinforce pack writes it ({error}): delete it, or pack again") from error
    return {tar.tar: tar for tar in tars}


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode() + b"\n"
