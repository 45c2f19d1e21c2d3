"""Text from outside, for a terminal: what it could obey, or would not show, is escaped."""

from __future__ import annotations


def printable(text: str, keep: str = "") -> str:
    """Letters of any script stay, and the signs of `keep`; others that are not printed become such as `\\x1b`."""
    return "".join(sign if sign.isprintable() or sign in keep else _escaped(sign) for sign in text)


def _escaped(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")
