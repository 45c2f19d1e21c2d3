"""A class of objects: which files of the assets are such objects, and what lies among them but is something else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Group:
    """One class. Its places, relative to their asset, are folders ("a/b"), folders with those below them ("a/b/"), or
    patterns of files ("a/b/*cup*.png", "*/cup/*")."""

    name: str
    clipart: tuple[str, ...] = ()
    photographs: tuple[str, ...] = ()
    emoji: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    """Words in paths of what is no such object."""
    may_fill_box: bool = False
    """Whether a picture without any transparency is an object, such as a flag, not a scene in a box."""

    def places(self) -> Iterator[tuple[str, str]]:
        """Each with its asset, in the order in which files are looked for."""
        for asset, places in (("openclipart", self.clipart), ("photographs", self.photographs), ("emoji", self.emoji)):
            for place in places:
                yield asset, place
