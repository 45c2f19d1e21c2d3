"""A number with its noun, as it is said of one and of many."""

from __future__ import annotations


def counted(number: int, one: str, many: str | None = None) -> str:
    """(1, "image") -> "1 image"; (2, "class", "classes") -> "2 classes"; (0, "tar") -> "0 tars"."""
    return f"{number} {one if number == 1 else many or one + 's'}"
