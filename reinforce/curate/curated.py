"""What lies in a curated transfer set, for those who read it: `open_source` sees its images, this module the rest.

    images/00000.tar ...   the retrieved images or crops, then the query images, as WebDataset members
    manifest.jsonl         one retrieved item a line, in the order of the images
    queries.jsonl          one query image a line
    duplicates.jsonl       one cluster of duplicates a line, of which one item was kept
    leaks.jsonl, leaks.csv possible leaks of the target dataset with their nearest images; what a person decided
    map.npz                vectors of some queries, curated and gallery items, for the map
    curated.json           the summary with every file's SHA-256, written last: a set without it is unfinished
    request.json           what the set was begun with
    search/...             what a search found: for --resume, and to be removed at will
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from reinforce.errors import DataError, MissingDataError

REQUEST, SUMMARY, MANIFEST, QUERIES = "request.json", "curated.json", "manifest.jsonl", "queries.jsonl"
DUPLICATES, LEAKS, DECISIONS = "duplicates.jsonl", "leaks.jsonl", "leaks.csv"
MAP, IMAGES, SEARCHES = "map.npz", "images", "search"
FORMAT = 1

R = TypeVar("R")
Crop = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class CuratedItem:
    """A retrieved image or crop."""

    key: str
    """Of the original image in the gallery."""
    source: str
    """The gallery's name."""
    crop: Crop | None
    """Left, top, width and height in px of the original; None for the whole image."""
    query: str | None
    """Key of the query image, or class name of the text query, that ranks it best; None where it was drawn."""
    rank: int | None
    """Of the item among that query's neighbours, from 1, the nearest; with best-matches, among all items."""
    cosines: tuple[float, ...]
    """With that query, one per encoder."""
    sha64: str
    """hash64 of the original's encoded bytes, 16 hex digits."""
    file: str
    """Key of the image in the curated set as a transfer set."""


@dataclass(frozen=True, kw_only=True)
class QueryItem:
    """A query image, which the set holds, too (section 3.4)."""

    key: str
    source: str
    """Name of the dataset."""
    sha64: str
    file: str
    """Key of the image in the curated set; that of a retrieved item whose bytes are the same."""


@dataclass(frozen=True, kw_only=True)
class ClusterRecord:
    """Duplicates by their original images (B.3)."""

    kept: str
    """Key of the item that stays."""
    members: tuple[str, ...]
    """Keys of all, the kept one included."""
    weakest: tuple[str, str]
    """The least similar two: duplicates of duplicates need not be alike."""
    similarity: float
    """Of these two: the mean of the encoders' cosines."""


@dataclass(frozen=True, kw_only=True)
class LeakRecord:
    """A retrieved item that may be an image of the target dataset (B.4)."""

    key: str
    max_cosine: float
    """Largest of any encoder with any target image."""
    nearest: tuple[tuple[str, float], ...]
    """Up to five target images and their similarity, the most similar first."""


@dataclass(frozen=True, kw_only=True)
class CuratedSet:
    """A finished curated set."""

    path: Path
    summary: Mapping[str, Any]
    items: tuple[CuratedItem, ...]
    queries: tuple[QueryItem, ...]
    """Empty for text queries."""
    clusters: tuple[ClusterRecord, ...]
    leaks: tuple[LeakRecord, ...]

    @classmethod
    def open(cls, location: str | Path) -> CuratedSet:
        """Raises MissingDataError where there is none, or an unfinished one, DataError for damaged records; images are
        not looked at."""
        path = Path(location)
        if not (path / SUMMARY).is_file():
            raise MissingDataError(f"{path}: {_no_set(path)}")
        summary = _parse((path / SUMMARY).read_text(encoding="utf-8"), path / SUMMARY, 1)
        if summary.get("format") != FORMAT:
            raise DataError(f"{path / SUMMARY} has another format than {FORMAT}: upgrade reinforce-vision")
        _check_records(path, summary.get("files", {}))
        return cls(
            path=path,
            summary=summary,
            items=tuple(_record(CuratedItem, line, path / MANIFEST) for line in _lines(path / MANIFEST)),
            queries=tuple(_record(QueryItem, line, path / QUERIES) for line in _lines(path / QUERIES)),
            clusters=tuple(_record(ClusterRecord, line, path / DUPLICATES) for line in _lines(path / DUPLICATES)),
            leaks=tuple(_record(LeakRecord, line, path / LEAKS) for line in _lines(path / LEAKS)),
        )


def _check_records(path: Path, hashes: Mapping[str, str]) -> None:
    """Raises DataError for a .jsonl that is gone or has other bytes than the summary says."""
    for name in (MANIFEST, QUERIES, DUPLICATES, LEAKS):
        data = (path / name).read_bytes() if (path / name).is_file() else b""
        if name in hashes and hashlib.sha256(data).hexdigest() != hashes[name]:
            raise DataError(f"{path / name} is not as it was written: type the same reinforce curate with --resume")


Record = CuratedItem | QueryItem | ClusterRecord | LeakRecord


def to_line(record: Record) -> str:
    """One line of a .jsonl; ASCII, as names of files need not be Unicode."""
    return json.dumps(asdict(record)) + "\n"


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            yield _parse(line, path, number)


def _no_set(path: Path) -> str:
    """What is there instead of a finished set, and what to type."""
    if (path / REQUEST).is_file():
        return "a curated set is unfinished: type the same reinforce curate with --resume"
    here = "this is no curated set" if path.exists() else "a curated set is not there"
    return f"{here}: type the --out of a reinforce curate"


def _parse(text: str, path: Path, line: int) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}, line {line}: {error.msg}") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}, line {line}: not an object")
    return document


def _record(kind: type[R], document: Mapping[str, Any], path: Path) -> R:
    try:
        return kind(**{name: _frozen(value) for name, value in document.items()})
    except TypeError as error:
        raise DataError(f"{path}: not as reinforce curate writes it ({error})") from error


def _frozen(value: Any) -> Any:
    return tuple(_frozen(part) for part in value) if isinstance(value, list) else value
