"""Cut-outs: pictures with alpha, decoded once and kept small, filtered, without near-duplicates, split by hash."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from reinforce.data import hash64, header_size
from scenes.alike import Thumb, is_new
from scenes.group import Group

MAX_PIXELS = 4_000_000
SOLID = 242
"""Alpha from which a pixel belongs to its object: 95 %."""
FAINT = 13
"""Alpha up to which it doesn't: 5 %."""

MIN_SIDE_PX = 24
MAX_ASPECT = 5.0
LEAST_SOLID, MOST_SOFT, MOST_SOLID = 0.30, 0.35, 0.97
"""Shares of the object's box: outlines, glass and scenes in a box are left out."""

TEST_SHARE = 0.2


class FromFile(Protocol):
    """What was made of a file of an asset."""

    @property
    def name(self) -> str: ...

    @property
    def sha256(self) -> str: ...


@dataclass(frozen=True)
class Cutout:
    """One object."""

    name: str
    """asset/path, what its split follows from."""
    class_id: int
    sha256: str
    """Of the file."""
    picture: Image.Image
    """RGBA, cropped to what is not faint, at most `keep_px` at its longer side."""


def load_cutouts(groups: Sequence[Group], roots: Mapping[str, Path], keep_px: int) -> list[Cutout]:
    """All usable objects of the groups, class ids from 1; of near-duplicates and links the first.

    `roots`: where each asset is that the groups have places in.
    """
    seen_files: set[str] = set()
    kept: list[Cutout] = []
    for class_id, group in enumerate(groups, 1):
        thumbs: list[Thumb] = []
        for name, path in _files(group, roots):
            data = path.read_bytes()
            sha256 = hashlib.sha256(data).hexdigest()
            picture = None if sha256 in seen_files else _object(data, group.may_fill_box)
            seen_files.add(sha256)
            if picture is not None and is_new(picture, thumbs):
                picture.thumbnail((keep_px, keep_px), Image.Resampling.LANCZOS)
                kept.append(Cutout(name, class_id, sha256, picture))
    return kept


def split_cutouts(cutouts: Iterable[Cutout]) -> dict[str, list[Cutout]]:
    """ "train" and "test" by the hash of the name, whatever the seed, so that no two runs share objects across."""
    by_class: dict[int, list[Cutout]] = {}
    for cutout in cutouts:
        by_class.setdefault(cutout.class_id, []).append(cutout)
    splits: dict[str, list[Cutout]] = {"train": [], "test": []}
    for members in by_class.values():
        ranked = sorted(members, key=lambda cutout: hash64(cutout.name))
        num_test = max(1, round(TEST_SHARE * len(ranked)))
        splits["test"] += ranked[:num_test]
        splits["train"] += ranked[num_test:]
    return splits


def files_sha256(items: Iterable[FromFile]) -> str:
    """SHA-256 over the lines "name TAB sha256 of the file", by name."""
    lines = sorted(f"{item.name}\t{item.sha256}\n" for item in items)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _files(group: Group, roots: Mapping[str, Path]) -> Iterator[tuple[str, Path]]:
    for asset, place in group.places():
        for path in sorted(_matching(roots[asset], place)):
            name = f"{asset}/{path.relative_to(roots[asset]).as_posix()}"
            if not any(word in name for word in group.left_out):
                yield name, path


def _matching(root: Path, place: str) -> Iterator[Path]:
    if place.endswith((".png", "*")):
        return root.glob(place)
    return (root / place).rglob("*.png") if place.endswith("/") else (root / place).glob("*.png")


def _object(data: bytes, may_fill_box: bool) -> Image.Image | None:
    """The cropped picture, RGBA, or None for what is no object."""
    width, height = header_size(data)
    if not 0 < width * height < MAX_PIXELS:
        return None
    with Image.open(io.BytesIO(data)) as image:
        picture = _cropped(image.convert("RGBA"))
    return picture if picture is not None and _is_object(picture, may_fill_box) else None


def _cropped(picture: Image.Image) -> Image.Image | None:
    """What is not faint; None where it is small, or longer than anything that is seen well in a scene."""
    box = picture.getchannel("A").point([0] * FAINT + [255] * (256 - FAINT)).getbbox()
    if box is None:
        return None
    width, height = box[2] - box[0], box[3] - box[1]
    if min(width, height) < MIN_SIDE_PX or max(width, height) > MAX_ASPECT * min(width, height):
        return None
    return picture.crop(box)


def _is_object(picture: Image.Image, may_fill_box: bool) -> bool:
    alpha_HW = np.asarray(picture.getchannel("A"))
    solid, soft = (alpha_HW >= SOLID).mean(), ((alpha_HW > FAINT) & (alpha_HW < SOLID)).mean()
    return bool(solid >= LEAST_SOLID and soft <= MOST_SOFT and (may_fill_box or solid <= MOST_SOLID))
