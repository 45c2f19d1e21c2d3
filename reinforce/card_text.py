"""Text from outside (names, licences, classes), made fit to stand in Markdown, YAML, JSON and BibTeX of a card."""

from __future__ import annotations

import json
import re

MAX_TEXT = 200
"""Characters of a name that a card shows."""
_UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ud800-\udfff\ufeff\ufff0-\uffff\U000e0000-\U000e0fff]"
)
"""Controls, line ends, what hides or turns around its neighbours, and what is no character. Stated here, not asked of
Python's tables: those change with its version, and a card's bytes must not."""


class Words(str):
    """Text of our own, which stands in a card as it is; any other string is a name and is shown as code."""

    __slots__ = ()


def plain(text: object) -> str:
    """One line of visible characters, of bounded length; the others as escapes such as \\u202e."""
    seen = _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))
    return seen if len(seen) <= MAX_TEXT else f"{seen[: MAX_TEXT - 3]}..."


def code(text: object) -> Words:
    """A Markdown code span, in which nothing has a meaning: its fence is longer than any row of backticks inside."""
    inside = plain(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", inside)), default=0))
    pad = " " if not inside.strip() or "`" in (inside[0], inside[-1]) else ""
    return Words(f"{fence}{pad}{inside}{pad}{fence}")


def yaml_scalar(text: object) -> str:
    """A double-quoted scalar, which YAML reads as JSON does once the text is plain."""
    return json.dumps(plain(text), ensure_ascii=False)


def bibtex_text(text: object) -> str:
    """Letters, digits and signs without a meaning in BibTeX or TeX."""
    return re.sub(r"[^A-Za-z0-9 .,:/+()-]", "-", plain(text))
