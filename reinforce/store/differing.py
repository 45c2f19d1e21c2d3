"""Which members of two JSON documents differ, by name: what a message says of two plans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_ABSENT = object()


def differing_members(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Dotted names such as teacher.preprocess.mean, in the order of their bytes: the innermost members that differ."""
    return list(_differing(first, second, ""))


def member(document: Mapping[str, Any], dotted: str) -> Any:
    """What has this name, as `differing_members` gives it; None where nothing has."""
    value: Any = document
    for name in dotted.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _differing(first: Mapping[str, Any], second: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name in sorted(first.keys() | second.keys()):
        a, b = first.get(name, _ABSENT), second.get(name, _ABSENT)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from _differing(a, b, f"{prefix}{name}.")
        elif a != b:
            yield prefix + name
