"""A thousand emoji as a task of a thousand classes: a class is an emoji, its images are the drawings of five designs.

`train/CLASS/DESIGN.*` are four designs as they are, `test/CLASS/DESIGN.png` is the fifth: a model that is right there
has learnt what is drawn, not how. Emoji of several code points (flags, keycaps, skin tones, families) are left out.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assets.download import npm_tarball
from reinforce.errors import DataError

NUM_CLASSES = 1000
CATALOGUE = "package/emoji.json"
ATTRIBUTION = "ATTRIBUTION.txt"


@dataclass(frozen=True, kw_only=True)
class Design:
    """One design of all emoji, and the package that has its drawings as FOLDER/CODE.SUFFIX."""

    name: str
    requirement: str
    tarball: str
    sha256: str
    folder: str
    suffix: str
    split: str
    credit: str


TWEMOJI = Design(
    name="twemoji",
    requirement="emoji-datasource-twitter@16.0.0",
    tarball="emoji-datasource-twitter-16.0.0.tgz",
    sha256="f64a530c63bca463bd8317fdc4615ce63a53a0c65018e4ce2d848aaba7a28877",
    folder="package/img/twitter/64",
    suffix=".png",
    split="train",
    credit="Twemoji, Copyright Twitter, Inc and other contributors, CC-BY-4.0",
)
"""Its package also says which emoji there are, in Unicode's order."""
DESIGNS = (
    TWEMOJI,
    Design(
        name="noto",
        requirement="emoji-datasource-google@16.0.0",
        tarball="emoji-datasource-google-16.0.0.tgz",
        sha256="fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438",
        folder="package/img/google/64",
        suffix=".png",
        split="train",
        credit="Noto Emoji, Copyright Google LLC, Apache-2.0",
    ),
    Design(
        name="blob",
        requirement="emoji-datasource-google@3.0.0",
        tarball="emoji-datasource-google-3.0.0.tgz",
        sha256="3247dd55dee7954d6d1d3d84b05759e49daf71cab5cccb4566940209679af66f",
        folder="package/img/google/64",
        suffix=".png",
        split="train",
        credit="Noto Emoji as it was until 2017, Copyright Google LLC, Apache-2.0",
    ),
    Design(
        name="fluent",
        requirement="@lobehub/fluent-emoji-3d@1.1.0",
        tarball="lobehub-fluent-emoji-3d-1.1.0.tgz",
        sha256="c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
        folder="package/assets",
        suffix=".webp",
        split="train",
        credit="Fluent Emoji, Copyright Microsoft Corporation, packaged by LobeHub, MIT",
    ),
    Design(
        name="emojione",
        requirement="emojione@2.2.7",
        tarball="emojione-2.2.7.tgz",
        sha256="5fe002738e6e276f49ac37783799d2feab99a6131fdedccfa56569d745449ae5",
        folder="package/assets/png_128x128",
        suffix=".png",
        split="test",
        credit="EmojiOne 2, Copyright Ranks.com Inc., CC-BY-4.0",
    ),
)

Drawings = Mapping[str, bytes]
"""Code point in hexadecimal -> a file's bytes."""


def make(downloads: Path, out: Path) -> None:
    """Raises DataError or MissingDataError when a package cannot be had or holds other files."""
    tarballs = {d.name: npm_tarball(d.requirement, d.tarball, d.sha256, downloads) for d in DESIGNS}
    drawings = {d.name: read_drawings(tarballs[d.name], d.folder, d.suffix) for d in DESIGNS}
    classes = choose(read_catalogue(tarballs[TWEMOJI.name]), drawings.values(), NUM_CLASSES)
    shutil.rmtree(out, ignore_errors=True)
    write_classes(out, drawings, classes)


def read_catalogue(tarball: Path) -> list[dict[str, Any]]:
    with tarfile.open(tarball) as archive:
        member = archive.extractfile(CATALOGUE)
        assert member is not None
        found: list[dict[str, Any]] = json.load(member)
    return found


def read_drawings(tarball: Path, folder: str, suffix: str) -> dict[str, bytes]:
    """Those of single code points; a variation selector behind one says only that it is to be drawn in colour."""
    pattern = re.compile(rf"{re.escape(folder)}/([0-9a-f]+)(-fe0f)?{re.escape(suffix)}", re.IGNORECASE)
    drawings = {}
    with tarfile.open(tarball) as archive:
        for member in archive:
            if (match := pattern.fullmatch(member.name)) and (file := archive.extractfile(member)):
                drawings[match[1].lower()] = file.read()
    return drawings


def choose(catalogue: Sequence[Mapping[str, Any]], drawings: Iterable[Drawings], count: int) -> dict[str, str]:
    """Code point -> name of a class: the first `count` emoji in Unicode's order that every design draws, and unlike
    all others. (What the order ends with are shapes that differ in size or colour alone.)"""
    designs = [_unique(design) for design in drawings]
    chosen: dict[str, str] = {}
    for emoji in sorted(catalogue, key=lambda emoji: emoji["sort_order"]):
        code = emoji["unified"].lower().removesuffix("-fe0f")
        if "obsoleted_by" not in emoji and all(code in design for design in designs):
            chosen[code] = re.sub("[^a-z0-9]+", "-", emoji["name"].lower()).strip("-")
    if len(chosen) < count:
        raise DataError(f"only {len(chosen)} emoji are drawn by every design, not {count}")
    return dict(list(chosen.items())[:count])


def _unique(drawings: Drawings) -> set[str]:
    """The codes whose drawing no other code has."""
    digests = {code: hashlib.sha256(data).digest() for code, data in drawings.items()}
    times = Counter(digests.values())
    return {code for code, digest in digests.items() if times[digest] == 1}


def write_classes(out: Path, drawings: Mapping[str, Drawings], classes: Mapping[str, str]) -> None:
    """`drawings` by the design's name, `classes` by code point; and who drew them, as their licences ask."""
    for design in DESIGNS:
        for code, name in classes.items():
            path = out / design.split / name / (design.name + design.suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(drawings[design.name][code])
    credits = "".join(f"{design.name}: {design.credit}, from {design.requirement}\n" for design in DESIGNS)
    (out / ATTRIBUTION).write_text(credits, encoding="utf-8")
