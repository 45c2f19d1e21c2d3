"""Writing a curated set's images: WebDataset tars whose bytes are a function of what is selected.

An image is a member "<number>-<name>.<suffix>": numbers are in the order of the manifest, names are what can be kept of
the original's key. `open_source` calls it "images/<tar>/<number>-<name>".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from reinforce.curate.curated import IMAGES
from reinforce.data.tar_writing import write_tar
from reinforce.whole_file import write_whole

IMAGES_PER_TAR = 1000
NAME_CHARACTERS = 40

Encoded = Callable[[], tuple[str, bytes]]
"""(suffix, bytes) of an image file."""


@dataclass(frozen=True)
class Member:
    """One image of the set."""

    stem: str
    encoded: Encoded


def member_stem(number: int, key: str) -> str:
    """ "000012-some_name": no dot, as a WebDataset key ends at the first one."""
    base = key.rpartition("/")[2].partition(".")[0]
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", base).strip("_")[:NAME_CHARACTERS]
    return f"{number:06d}-{name}" if name else f"{number:06d}"


def file_key(position: int, stem: str) -> str:
    """Key of the image at a position of the set, in the set as a transfer set."""
    return f"{IMAGES}/{position // IMAGES_PER_TAR:05d}/{stem}"


def write_tars(folder: Path, members: Sequence[Member]) -> Iterator[int]:
    """Write the tars that are not there yet; yields the number of images of each as it is done.

    A tar appears whole or not at all, so a killed run goes on behind the last one. Raises StoreAccessError where the
    medium refuses, and what reading an image raises.
    """
    for start in range(0, len(members), IMAGES_PER_TAR):
        own = members[start : start + IMAGES_PER_TAR]
        path = folder / f"{start // IMAGES_PER_TAR:05d}.tar"
        if not path.exists():
            write_whole(path, lambda file, own=own: write_tar(file, _named_images(own)))  # type: ignore[misc]
        yield len(own)


def _named_images(members: Sequence[Member]) -> Iterator[tuple[str, bytes]]:
    for member in members:
        suffix, data = member.encoded()
        yield f"{member.stem}.{suffix}", data
