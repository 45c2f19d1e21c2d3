"""Possible leaks of the target dataset beside its nearest images, for a person to judge (section B.4).

What the page exports is the CSV that `reinforce curate` writes and reads: its lines are made here, and the page's
script only puts the decisions into them.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

from markupsafe import Markup

from reinforce.curate.curated import DECISIONS, CuratedSet, LeakRecord
from reinforce.curate.decisions import COLUMNS, KEEP, LEAK, NEAREST, Decision, leak_row, other_row, read_decisions
from reinforce.curate_pages.pictures import Album, Picture
from reinforce.curate_pages.retrieved import Albums

PICTURED = 100
"""Possible leaks that a page shows."""
CHOICES = {LEAK: "leak", KEEP: "keep", "": "undecided"}
"""What stands in the CSV -> what it is called."""


@dataclass(frozen=True)
class Script:
    """What alone may run on a page."""

    code: Markup
    source: str
    """Its hash, for the page's Content-Security-Policy."""

    @classmethod
    def read(cls, name: str) -> Script:
        code = (files(__package__) / "templates" / name).read_text("utf-8")
        digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
        return cls(Markup(code), f"'sha256-{digest}'")


EXPORT_SCRIPT = Script.read("leak_export.js")


@dataclass(frozen=True, kw_only=True)
class ShownLeak:
    leak: LeakRecord
    decision: str
    picture: Picture | None
    nearest: Sequence[tuple[str, float, Picture | None]]
    """Target images: key, similarity, picture."""
    before: str
    """The CSV's line in front of the decision."""
    after: str


@dataclass(frozen=True, kw_only=True)
class LeakReview:
    shown: Sequence[ShownLeak]
    others: str
    """Lines of the CSV, joined by newlines, of which cells have none: leaks that aren't shown, and earlier decisions on
    what is no possible leak any more."""
    num_others: Mapping[str, int]
    """Leaks that aren't shown: decision -> count."""
    counts: Mapping[str, int]
    """All leaks: decision -> count."""
    header: str = ",".join(COLUMNS)
    file: str = DECISIONS
    choices: Mapping[str, str]


def leak_review(curated: CuratedSet, albums: Albums, targets: Album) -> LeakReview:
    """Undecided ones first, then by how alike they are. Raises DataError for a damaged CSV."""
    decided = read_decided(curated)
    ordered = sorted(curated.leaks, key=lambda leak: (leak.key in decided, -leak.max_cosine, leak.key))
    shown, others = ordered[:PICTURED], ordered[PICTURED:]
    gone = sorted(decided.keys() - {leak.key for leak in ordered})
    lines = ["".join((before, decided.get(leak.key, ""), after)) for leak in others for before, after in [_line(leak)]]
    lines += [_joined(other_row(key, decided[key])) for key in gone]
    return LeakReview(
        shown=[_shown(leak, decided.get(leak.key, ""), albums, targets) for leak in shown],
        others="\n".join(lines),
        num_others=Counter(decided.get(leak.key, "") for leak in others),
        counts=Counter(decided.get(leak.key, "") for leak in ordered),
        choices=CHOICES,
    )


def count_decisions(curated: CuratedSet) -> dict[str, int]:
    """Possible leaks, and of how many of them what was decided. Raises DataError for a damaged CSV."""
    decided = read_decided(curated)
    counts = Counter(decided.get(leak.key, "") for leak in curated.leaks)
    return {"possible": len(curated.leaks), **{name: counts[value] for value, name in CHOICES.items()}}


def read_decided(curated: CuratedSet) -> dict[str, Decision]:
    """What a person decided so far. Raises DataError for a damaged CSV."""
    path = curated.path / DECISIONS
    return read_decisions(path) if path.is_file() else {}


def _shown(leak: LeakRecord, decision: str, albums: Albums, targets: Album) -> ShownLeak:
    before, after = _line(leak)
    nearest = [(key, similarity, targets.picture(key)) for key, similarity in leak.nearest[: len(NEAREST)]]
    return ShownLeak(leak=leak, decision=decision, picture=albums.original(leak.key), nearest=nearest, before=before,
                     after=after)  # fmt: skip


def _line(leak: LeakRecord) -> tuple[str, str]:
    """What `write_decisions` puts in front of and behind a decision."""
    key, _, *behind = leak_row(leak, "")
    return f"{_joined([key])},", f",{_joined(behind)}"


def _joined(cells: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()
