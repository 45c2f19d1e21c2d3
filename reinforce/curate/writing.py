"""A selection as a curated set on disk: images first, then what is told of them, the summary last."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.curate.curated import (
    FORMAT,
    IMAGES,
    MANIFEST,
    MAP,
    QUERIES,
    SUMMARY,
    CuratedItem,
    QueryItem,
    Record,
    to_line,
)
from reinforce.curate.originals import Originals
from reinforce.curate.queries import QueryImages
from reinforce.curate.select import NONE, Selection
from reinforce.curate.transfer_set import Member, file_key, member_stem, write_tars
from reinforce.data import hash64, hex64
from reinforce.errors import StoreAccessError
from reinforce.views import image_suffix
from reinforce.whole_file import write_whole

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Contents:
    """Everything that a curated set holds, but its images' bytes."""

    items: Sequence[CuratedItem]
    queries: Sequence[QueryItem]
    records: Mapping[str, Sequence[Record]]
    """Name of a .jsonl -> its lines, besides those of the two above."""
    samples: Mapping[str, NDArray[np.float16]]
    """Of the map."""
    summary: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """SHA-256 over what the images are."""
        lines = [*map(to_line, self.items), *map(to_line, self.queries)]
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def lines(self) -> dict[str, Sequence[Record]]:
        """Every .jsonl."""
        return {MANIFEST: self.items, QUERIES: self.queries, **self.records}


def curated_items(selection: Selection, cosines_NE: NDArray[np.float64], names: Sequence[str], originals: Originals
                  ) -> list[CuratedItem]:  # fmt: skip
    """Lines of the manifest. Reads every original once, for its hash and the size of crops."""
    found = zip(selection.items.tolist(), selection.queries.tolist(), selection.ranks.tolist(), cosines_NE.tolist(),
                strict=True)  # fmt: skip
    lines = {}
    for position, (item, query, rank, own) in sorted(enumerate(found), key=lambda pair: pair[1][0]):
        original = originals.read(item)
        key = originals.key(item)
        lines[position] = CuratedItem(
            key=key, source=originals.name, crop=original.crop, query=None if query == NONE else names[query],
            rank=None if rank == NONE else rank, cosines=() if query == NONE else tuple(own), sha64=original.sha64,
            file=file_key(position, member_stem(position, key)))  # fmt: skip
    return [lines[position] for position in range(len(selection))]


def query_items(images: QueryImages, items: Sequence[CuratedItem]) -> list[QueryItem]:
    """The query images behind the retrieved ones; one that was retrieved itself is there once (a union of sets)."""
    file_of = {item.sha64: item.file for item in items if item.crop is None}
    position, lines = len(items), []
    for query, key in enumerate(images.keys):
        sha64 = hex64(hash64(images.read(query)))
        if sha64 not in file_of:
            file_of[sha64] = file_key(position, member_stem(position, key))
            position += 1
        lines.append(QueryItem(key=key, source=images.name, sha64=sha64, file=file_of[sha64]))
    return lines


def write_set(folder: Path, contents: Contents, members: Sequence[Member], progress: Progress) -> None:
    """Replace what is there. A killed run goes on behind the tars that it has written.

    Raises StoreAccessError, and what reading images raises.
    """
    (folder / SUMMARY).unlink(missing_ok=True)
    _write_images(folder, contents.digest, members, progress)
    for name, records in contents.lines.items():
        _write_text(folder / name, map(to_line, records))
    write_whole(folder / MAP, lambda file: np.savez(file, **contents.samples))  # type: ignore[arg-type]
    files = {path: _hash(folder / path) for path in [*contents.lines, MAP, *_tars(folder)]}
    _write_text(folder / SUMMARY, [json.dumps({**_told(contents), "files": files}, indent=2) + "\n"])


def members_of(selection: Selection, items: Sequence[CuratedItem], originals: Originals, queries: Sequence[QueryItem],
               images: QueryImages | None) -> list[Member]:  # fmt: skip
    """The set's images in the order of their positions."""
    members = [Member(_stem(line.file), lambda item=item: originals.read(item).encoded())  # type: ignore[misc]
               for item, line in zip(selection.items.tolist(), items, strict=True)]  # fmt: skip
    known = {item.file for item in items}
    for query, line in enumerate(queries):
        if line.file not in known:
            known.add(line.file)
            members.append(Member(_stem(line.file), lambda query=query: _query(images, query)))  # type: ignore[misc]
    return members


def is_written(folder: Path, contents: Contents) -> bool:
    """Whether a finished set is there that holds just this, every file with its hash. Reads them all."""
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        files = summary.pop("files")
        is_whole = {*_tars(folder)} <= {*files} and all(_hash(folder / path) == files[path] for path in files)
    except (OSError, ValueError, AttributeError, KeyError):
        return False
    return is_whole and bool(summary == json.loads(json.dumps(_told(contents))))


def _told(contents: Contents) -> dict[str, Any]:
    """The summary, without the files' hashes."""
    return {"format": FORMAT, **contents.summary, "digest": contents.digest}


def _tars(folder: Path) -> list[str]:
    return sorted(f"{IMAGES}/{path.name}" for path in (folder / IMAGES).iterdir())


def _hash(path: Path) -> str:
    """SHA-256, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _query(images: QueryImages | None, query: int) -> tuple[str, bytes]:
    assert images is not None
    data = images.read(query)
    return image_suffix(data), data


def _stem(file: str) -> str:
    return file.rpartition("/")[2]


def _write_images(folder: Path, digest: str, members: Sequence[Member], progress: Progress) -> None:
    """Tars are gathered in a hidden folder of their digest, which then takes the place of the old one."""
    gathered = folder / f".{IMAGES}-{digest[:16]}"
    for count in write_tars(gathered, members):
        progress(count)
    try:
        shutil.rmtree(folder / IMAGES, ignore_errors=True)
        gathered.rename(folder / IMAGES)
        for left in folder.glob(f".{IMAGES}-*"):
            shutil.rmtree(left)
    except OSError as error:
        raise StoreAccessError(f"cannot replace {folder / IMAGES}: {error.strerror or error}") from error


def _write_text(path: Path, lines: Iterable[str]) -> None:
    data = "".join(lines).encode()
    write_whole(path, lambda file: file.write(data))
