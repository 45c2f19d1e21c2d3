"""A number with its noun, as it is said of one and of many; and the first of many names."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, one: str, many: str | None = None) -> str:
    """(1, "image") -> "1 image"; (2, "class", "classes") -> "2 classes"; (0, "tar") -> "0 tars"."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def first_of(names: Sequence[str], most: int) -> str:
    """(["a", "b", "c"], 2) -> "a, b and 1 more"."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
