"""Several sets of one gallery side by side: what the same queries brought, and how much the sets share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from reinforce.curate.curated import CuratedSet
from reinforce.curate_pages.contribution import Contribution
from reinforce.curate_pages.retrieved import Albums, ShownItem, ShownQuery, retrieved
from reinforce.errors import UsageError

QUERIES_SHOWN, ITEMS_SHOWN = 6, 6


@dataclass(frozen=True, kw_only=True)
class SetRow:
    """A set in a line of the table."""

    name: str
    strategy: str
    num_items: int
    depth: int | None
    contribution: Contribution | None
    mean_cosine: float | None
    """Of the items with their queries, over items and encoders; None where items were drawn."""


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Items that two sets share: the same image, or the same crop of it."""

    first: str
    second: str
    shared: int
    jaccard: float
    """Shared items over all items of both."""


@dataclass(frozen=True, kw_only=True)
class QueryRow:
    """What a query brought in each set; None in a set that wasn't asked it."""

    name: str
    results: Sequence[tuple[str, ShownQuery | None]]
    """(name of a set, ...)"""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    sets: Sequence[SetRow]
    overlaps: Sequence[Overlap]
    samples: Sequence[tuple[str, Sequence[ShownItem]]]
    """Items of each set, spread evenly over it."""
    queries: Sequence[QueryRow]
    """Of those that several sets were asked."""


def check_comparable(sets: Sequence[CuratedSet]) -> None:
    """Raises UsageError where two are known to be of different galleries."""
    first, *others = [_gallery(one) for one in sets]
    for curated, (name, digest) in zip(sets[1:], others, strict=True):
        if None not in (digest, first[1]) and digest != first[1]:
            raise UsageError(f"{sets[0].path} and {curated.path} are of different galleries ({first[0]}, {name}): "
                             "type sets of one gallery")  # fmt: skip


def set_names(sets: Sequence[CuratedSet]) -> list[str]:
    """Names of their folders; later ones of the same name have a number."""
    names = [curated.path.resolve().name for curated in sets]
    return [f"{name} ({names[:number].count(name) + 1})" if name in names[:number] else name
            for number, name in enumerate(names)]  # fmt: skip


def compare(sets: Sequence[CuratedSet], albums: Sequence[Albums]) -> Comparison:
    names = set_names(sets)
    return Comparison(
        sets=[_row(name, curated) for name, curated in zip(names, sets, strict=True)],
        overlaps=overlaps(sets),
        samples=[(name, _sample(curated, own)) for name, curated, own in zip(names, sets, albums, strict=True)],
        queries=_query_rows(sets, albums),
    )


def overlaps(sets: Sequence[CuratedSet]) -> list[Overlap]:
    """Of every two sets."""
    items = [{(item.key, item.crop) for item in curated.items} for curated in sets]
    return [Overlap(first=first[0], second=second[0], shared=len(first[1] & second[1]),
                    jaccard=len(first[1] & second[1]) / (len(first[1] | second[1]) or 1))
            for first, second in combinations(zip(set_names(sets), items, strict=True), 2)]  # fmt: skip


def _gallery(curated: CuratedSet) -> tuple[object, object]:
    record = curated.summary.get("gallery")
    return (record.get("name"), record.get("digest")) if isinstance(record, dict) else (None, None)


def _row(name: str, curated: CuratedSet) -> SetRow:
    means = [float(np.mean(item.cosines)) for item in curated.items if item.cosines]
    depth = curated.summary.get("depth")
    return SetRow(name=name, strategy=str(curated.summary.get("strategy", "")), num_items=len(curated.items),
                  depth=depth if isinstance(depth, int) and depth else None, contribution=Contribution.of(curated),
                  mean_cosine=float(np.mean(means)) if means else None)  # fmt: skip


def _sample(curated: CuratedSet, albums: Albums) -> list[ShownItem]:
    places = np.linspace(0, len(curated.items) - 1, min(ITEMS_SHOWN, len(curated.items))).round().astype(int)
    return [albums.shown(curated.items[place]) for place in places.tolist()]


def _query_rows(sets: Sequence[CuratedSet], albums: Sequence[Albums]) -> list[QueryRow]:
    """Of queries that more than one set was asked, spread evenly over what they brought in the first such set."""
    asked = [Contribution.of(curated) for curated in sets]
    names = [set() if own is None else set(own.counts) for own in asked]
    shared = {name for name in set().union(*names) if sum(name in own for own in names) > 1}
    if not shared:
        return []
    first = next(own for own in asked if own is not None and shared & own.counts.keys())
    counts = {name: count for name, count in first.counts.items() if name in shared}
    chosen = Contribution(counts=counts, num_unnamed=0).spread(QUERIES_SHOWN)
    found = [{query.name: query for query in retrieved(curated, own, [name for name in chosen if name in there],
                                                       ITEMS_SHOWN)}
             for curated, own, there in zip(sets, albums, names, strict=True)]  # fmt: skip
    return [QueryRow(name=name, results=[(title, own.get(name)) for title, own in zip(set_names(sets), found,
                                                                                      strict=True)])
            for name in chosen]  # fmt: skip
