"""`reinforce review`: what a curated set holds, and a page to judge it by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from reinforce.command import POSITIONAL, TalkOptions
from reinforce.counting import counted
from reinforce.errors import UsageError

if TYPE_CHECKING:
    from reinforce.curate.curated import CuratedSet
    from reinforce.curate_pages.contribution import Contribution
    from reinforce.curate_pages.strategies import Overlap


@dataclass(frozen=True, kw_only=True)
class ReviewConfig(TalkOptions):
    curated: tuple[str, ...] = field(metadata=POSITIONAL)
    """A curated set; others of the same gallery are compared with it."""
    html: str | None = None
    """Also write an offline page to this file: queries beside what they brought, duplicates, possible leaks, a map."""
    transfer: str | None = None
    """Where the gallery's images lie, for --html; by default as registered."""
    target_data: str | None = None
    """Where the target dataset lies that possible leaks are compared with, for --html; by default as registered."""
    overwrite: bool = False
    """Replace an existing page."""

    def __post_init__(self) -> None:
        if not self.curated:
            raise UsageError("no curated set is named: type reinforce review FOLDER")


@dataclass(frozen=True, kw_only=True)
class SetSummary:
    """Of a curated set; what its summary doesn't say is None."""

    path: str
    strategy: str | None
    items: int
    queries: int
    """Query images that the set holds besides the items."""
    depth: int | None
    """k, the neighbours of each query."""
    approximate: str | None
    """How the items were found, where the search was not exact."""
    gallery: str | None
    encoders: Sequence[str]
    contribution: Contribution | None
    """None where items were drawn."""
    clusters: int
    duplicates_removed: int
    leaks: dict[str, int]
    """Possible ones, and how many of them a person decided: possible, leak, keep, undecided."""

    @classmethod
    def of(cls, curated: CuratedSet) -> SetSummary:
        """Raises DataError for a damaged leaks.csv."""
        from reinforce.curate.curate import described
        from reinforce.curate_pages.contribution import Contribution
        from reinforce.curate_pages.leak_review import count_decisions

        summary = curated.summary
        approximate = summary.get("approximate")
        depth, encoders = summary.get("depth"), summary.get("encoders")
        return cls(
            path=str(curated.path),
            strategy=_text(summary.get("strategy")),
            items=len(curated.items),
            queries=len(curated.queries),
            depth=depth if isinstance(depth, int) and depth else None,
            approximate=described(approximate) if isinstance(approximate, dict) else None,
            gallery=_text(_inner(summary.get("gallery"), "name")),
            encoders=[str(_inner(record, "name")) for record in encoders] if isinstance(encoders, list) else [],
            contribution=Contribution.of(curated),
            clusters=len(curated.clusters),
            duplicates_removed=sum(len(cluster.members) - 1 for cluster in curated.clusters),
            leaks=count_decisions(curated),
        )

    def to_json(self) -> dict[str, Any]:
        contribution = None if self.contribution is None else self.contribution.to_json()
        return {**self.__dict__, "contribution": contribution}

    def __str__(self) -> str:
        how = f" by {self.strategy}" if self.strategy else ""
        deep = f", k = {self.depth}" if self.depth else ""
        lines = [f"{self.path}: {counted(self.items, 'item')}{how}{deep}, and {counted(self.queries, 'query image')}"]
        if self.approximate is not None:
            lines.append(f"  approximate {self.approximate}")
        if self.gallery is not None:
            by = f", by {', '.join(self.encoders)}" if self.encoders else ""
            lines.append(f"  gallery     {self.gallery}{by}")
        if self.contribution is not None:
            lines.append(f"  brought     {self.contribution}")
        lines.append(f"  duplicates  {self.duplicates_removed} left out of {counted(self.clusters, 'cluster')}")
        lines.append("  leaks       {possible} possible ones: {leak} leaks, {keep} kept, {undecided} undecided"
                     .format(**self.leaks))  # fmt: skip
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class ReviewSummary:
    """What `review` prints."""

    sets: Sequence[SetSummary]
    overlaps: Sequence[Overlap]
    """Of every two sets."""
    page: str | None = None
    """The page that was written, or None."""
    page_lacks: Sequence[str] = ()
    """What it does without, and why."""

    def to_json(self) -> dict[str, Any]:
        """The first set's figures, and the others'."""
        first, *others = [one.to_json() for one in self.sets]
        return {**first, "others": others, "overlaps": [asdict(one) for one in self.overlaps], "page": self.page,
                "page_lacks": list(self.page_lacks)}  # fmt: skip

    def __str__(self) -> str:
        lines = [str(one) for one in self.sets]
        lines += [f"{one.first} and {one.second} share {counted(one.shared, 'item')} (Jaccard {one.jaccard:.3f})"
                  for one in self.overlaps]  # fmt: skip
        if self.page is not None:
            lines += [f"page: {self.page}", *(f"  {line}" for line in self.page_lacks)]
        return "\n".join([*lines, self._next_line()])

    def _next_line(self) -> str:
        first = self.sets[0]
        if not first.leaks["undecided"]:
            return f"next: reinforce build --teacher NAME --transfer {quote(first.path)}"
        if self.page is None:
            return f"next: reinforce review {quote(first.path)} --html review.html, to judge the possible leaks"
        return (f"next: judge the possible leaks on the page, put its leaks.csv into {first.path}, "
                f"then reinforce curate ... --out {quote(first.path)} --resume")  # fmt: skip


def review(config: ReviewConfig) -> ReviewSummary:
    """Say what curated sets hold, and show it on one offline page (--html).

    Possible leaks are judged on the page: it exports leaks.csv, which `reinforce curate --resume` applies.
    """
    from reinforce.curate.curated import CuratedSet
    from reinforce.curate_pages.strategies import check_comparable, overlaps

    sets = [CuratedSet.open(location) for location in config.curated]
    check_comparable(sets)
    summary = ReviewSummary(sets=[SetSummary.of(curated) for curated in sets], overlaps=overlaps(sets))
    if config.html is None:
        return summary
    from reinforce.curate_pages.page import write_review_page

    page = write_review_page(sets, Path(config.html), transfer=config.transfer, target_data=config.target_data,
                             overwrite=config.overwrite)  # fmt: skip
    return replace(summary, page=str(page.path), page_lacks=page.lacking)


def _inner(record: object, name: str) -> object:
    return record.get(name) if isinstance(record, dict) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
