"""Names of loose images inside a WebDataset tar, where a sample's key ends at the first dot of its base name.

    cat/1.jpg            -> cat/1.jpg
    cat/a.v2.jpg         -> cat/a%2Ev2.jpg        a dot of the base name is written %2E, a percent sign %25
    ../x/1.jpg           -> %2E%2E/x/1.jpg        no member leads out of the folder that it is unpacked into
    1.jpg and 1.png      -> 1%2Ejpg.jpg and 1%2Epng.png      images that differ in their suffix alone keep it in the key

`urllib.parse.unquote` of a member's key gives the original's name back, without the suffix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reinforce.data.sources import IMAGE_SUFFIXES, suffix_of
from reinforce.errors import DataError


def member_names(keys: Sequence[str]) -> list[tuple[str, str]]:
    """(stem, suffix) of each image; the suffix is "" where the key has none of an image's. Stems are unique.

    Raises DataError naming two keys that would have the same stem.
    """
    parts = [_split(key) for key in keys]
    shared = Counter(stem for stem, _ in parts)
    stems = [_escape(key if shared[stem] > 1 else stem) for key, (stem, _) in zip(keys, parts, strict=True)]
    first: dict[str, str] = {}
    for key, stem in zip(keys, stems, strict=True):
        if (other := first.setdefault(stem, key)) != key:
            raise DataError(f"'{other}' and '{key}' would both be called '{stem}' in a tar: rename one of them")
    return [(stem, suffix) for stem, (_, suffix) in zip(stems, parts, strict=True)]


def _split(key: str) -> tuple[str, str]:
    """The key without its suffix, and the suffix as it is written."""
    suffix = key[len(key) - len(suffix_of(key)) :]
    base = key.rpartition("/")[2]
    if suffix.lower() not in IMAGE_SUFFIXES or base == f".{suffix}":
        return key, ""
    return key[: -len(suffix) - 1], suffix


def _escape(name: str) -> str:
    *folders, base = name.replace("%", "%25").split("/")
    safe = [folder.replace(".", "%2E") if folder in ("", ".", "..") else folder for folder in folders]
    return "/".join([*safe, base.replace(".", "%2E")])
