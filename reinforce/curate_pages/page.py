"""From curated sets to their page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from reinforce import catalog
from reinforce.curate.curated import IMAGES, CuratedSet
from reinforce.curate_pages.clusters import shown_clusters
from reinforce.curate_pages.contribution import MAX_BARS, Contribution, contribution_plot, rank_plot
from reinforce.curate_pages.leak_review import EXPORT_SCRIPT, leak_review
from reinforce.curate_pages.map_plot import MapPlotter
from reinforce.curate_pages.pictures import Album
from reinforce.curate_pages.retrieved import Albums, retrieved
from reinforce.curate_pages.sample_map import map_plot
from reinforce.curate_pages.settings import settings_tables
from reinforce.curate_pages.strategies import check_comparable, compare, set_names
from reinforce.data import ImageSource, open_source
from reinforce.errors import DataError, MissingDataError, MissingExtraError, UsageError
from reinforce.pages import Plotter, check_writable, render, write_page

QUERIES_SHOWN, ITEMS_SHOWN = 12, 8
PURPOSE = "review --html"
ABSENT = "was not at hand"


@dataclass(frozen=True, kw_only=True)
class WrittenPage:
    path: Path
    lacking: Sequence[str]
    """What the page does without, and why."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Images that are at hand; None for others."""

    images: Sequence[ImageSource | None]
    """Of each set."""
    gallery: ImageSource | None
    targets: ImageSource | None
    lacking: Sequence[str]
    """What isn't, in words of the page's own."""

    @classmethod
    def open(cls, sets: Sequence[CuratedSet], transfer: str | None, target_data: str | None) -> Sources:
        """Raises UsageError and DataError for a location that was typed and cannot be used."""
        lacking: list[str] = []
        images = [_opened(str(curated.path.absolute()))[0] for curated in sets]
        lacking += [_lack_of_images(name, curated)
                    for name, curated, source in zip(set_names(sets), sets, images, strict=True)
                    if source is None]  # fmt: skip
        gallery, why = _typed_or_known(transfer, _gallery_location(sets[0]))
        if gallery is None:
            lacking.append(f"The gallery {why} when this page was made: originals are not shown. "
                           "--transfer says where it lies.")  # fmt: skip
        targets = None
        if target_data is not None and sets[0].summary.get("decontamination") is None:
            raise UsageError(f"{sets[0].path} was compared with no target dataset (curate --decontaminate): "
                             "leave out --target-data")  # fmt: skip
        if sets[0].leaks:
            targets, why = _typed_or_known(target_data, _name(sets[0].summary.get("decontamination"), "data"))
            if targets is None:
                lacking.append(f"The target dataset {why} when this page was made: of its images only the "
                               "keys are shown. --target-data says where it lies.")  # fmt: skip
        return cls(images=images, gallery=gallery, targets=targets, lacking=lacking)

    def albums(self, sets: Sequence[CuratedSet]) -> list[Albums]:
        asked = {key for curated in sets for key in _gallery_keys(curated)}
        gallery = Album(self.gallery, asked)
        return [Albums(images=Album(source, _own_keys(curated)), gallery=gallery,
                       whole_files={item.key: item.file for item in curated.items if item.crop is None})
                for source, curated in zip(self.images, sets, strict=True)]  # fmt: skip


def write_review_page(
    sets: Sequence[CuratedSet],
    html: Path,
    *,
    transfer: str | None = None,
    target_data: str | None = None,
    overwrite: bool = False,
) -> WrittenPage:
    """Write the page of the first set, with the others beside it, to the file `html`.

    Pictures of what is not at hand are left out, and the page says so.

    Args:
        transfer: where the gallery's images lie; by default what the catalog knows for its digest or name.
        target_data: where the target dataset lies; by default what the catalog knows for its name.

    Raises:
        OutputExistsError: `html` exists and is not to be overwritten.
        UsageError: `html` is a folder, or the sets are of different galleries.
        MissingExtraError: matplotlib is not installed.
        DataError: what was typed as `transfer` or `target_data` is not there or holds no images.
    """
    check_writable(html, overwrite=overwrite)
    check_comparable(sets)
    plotter, map_plotter = Plotter(PURPOSE), MapPlotter(PURPOSE)
    sources = Sources.open(sets, transfer, target_data)
    content = page_content(sets, sources, plotter, map_plotter)
    page = render("review.html", package="reinforce.curate_pages", **content)
    write_page(html, page, overwrite=overwrite)
    return WrittenPage(path=html, lacking=sources.lacking)


def page_content(
    sets: Sequence[CuratedSet], sources: Sources, plotter: Plotter, map_plotter: MapPlotter
) -> dict[str, Any]:
    """What the template `review.html` shows."""
    curated, albums = sets[0], sources.albums(sets)
    contribution = Contribution.of(curated)
    targets = Album(sources.targets, {key for leak in curated.leaks for key, _ in leak.nearest})
    drawn_map, why_no_map = _map(map_plotter, curated)
    return {
        "name": set_names(sets)[0],
        "gallery_name": _name(curated.summary.get("gallery"), "name") or "a gallery",
        "strategy": _name(curated.summary, "strategy") or "",
        "curated": curated,
        "contribution": contribution,
        "tiles": _tiles(curated, contribution),
        "tables": settings_tables(curated.summary),
        "encoder_names": [_name(record, "name") or "?" for record in _sequence(curated.summary.get("encoders"))],
        "lacking": sources.lacking,
        "contribution_plot": contribution and contribution_plot(plotter, contribution),
        "rank_plot": rank_plot(plotter, curated),
        "max_bars": MAX_BARS,
        "has_crops": any(item.crop is not None for item in curated.items),
        "queries": retrieved(curated, albums[0], contribution.spread(QUERIES_SHOWN), ITEMS_SHOWN)
        if contribution
        else [],
        "comparison": compare(sets, albums) if len(sets) > 1 else None,
        "clusters": shown_clusters(curated, albums[0]),
        "compared_items": curated.summary.get("duplicates") is not None,
        "compared_targets": curated.summary.get("decontamination") is not None,
        "review": leak_review(curated, albums[0], targets),
        "script": EXPORT_SCRIPT if curated.leaks else None,
        "map": drawn_map,
        "why_no_map": why_no_map,
    }


def _map(plotter: MapPlotter, curated: CuratedSet) -> tuple[Markup | None, str]:
    """The drawing, or why there is none."""
    try:
        return map_plot(plotter, curated), ""
    except (DataError, MissingExtraError) as error:
        return None, str(error)


def _tiles(curated: CuratedSet, contribution: Contribution | None) -> list[tuple[str, str]]:
    removed = sum(len(cluster.members) - 1 for cluster in curated.clusters)
    return [
        ("items", f"{len(curated.items):,}"),
        *([("queries", f"{contribution.num_queries:,}")] if contribution else []),
        ("query images", f"{len(curated.queries):,}"),
        *([("median a query", f"{contribution.median:,g}")] if contribution else []),
        ("duplicates removed", f"{removed:,}"),
        ("possible leaks", f"{len(curated.leaks):,}"),
    ]


def _gallery_keys(curated: CuratedSet) -> set[str]:
    """All whose originals a page may show."""
    keys = {item.key for item in curated.items} | {leak.key for leak in curated.leaks}
    return keys.union(*(cluster.members for cluster in curated.clusters))


def _own_keys(curated: CuratedSet) -> set[str]:
    return {item.file for item in curated.items} | {query.file for query in curated.queries}


def _gallery_location(curated: CuratedSet) -> str | None:
    record = curated.summary.get("gallery")
    digest = _name(record, "digest")
    location = None if digest is None else catalog.locate(digest)
    return location if location is not None and catalog.is_there(location) else _name(record, "name")


def _typed_or_known(typed: str | None, known: str | None) -> tuple[ImageSource | None, str]:
    """And why there is none. What a user typed must be there; what is known may have gone."""
    if typed is not None:
        return open_source(str(catalog.resolve_data(typed).path)), ""
    return (None, ABSENT) if known is None else _opened(known)


def _opened(data: str) -> tuple[ImageSource | None, str]:
    """And why there is none."""
    try:
        return open_source(str(catalog.resolve_data(data).path)), ""
    except (MissingDataError, UsageError):  # UnknownNameError is a UsageError
        return None, ABSENT
    except DataError:
        return None, "could not be read"


def _lack_of_images(name: str, curated: CuratedSet) -> str:
    what = "damaged" if any((curated.path / IMAGES).glob("*.tar")) else "not there"
    return (f"The images of {name} are {what}: only their keys are shown. "
            "The same reinforce curate with --resume writes them anew.")  # fmt: skip


def _name(record: object, field: str) -> str | None:
    value = record.get(field) if isinstance(record, Mapping) else None
    return value if isinstance(value, str) else None


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else ()
