"""Queries beside what they brought (figures 6, 8 and 9)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from reinforce.curate.curated import CuratedItem, CuratedSet
from reinforce.curate_pages.pictures import Album, Picture


@dataclass(frozen=True, kw_only=True)
class ShownItem:
    item: CuratedItem
    picture: Picture | None
    """Of the item as it lies in the set."""
    original: Picture | None
    """Of a crop: the whole image with the crop's rectangle."""


@dataclass(frozen=True, kw_only=True)
class ShownQuery:
    name: str
    is_text: bool
    picture: Picture | None
    num_items: int
    """That it brought."""
    items: Sequence[ShownItem]
    """Its nearest ones."""


@dataclass(frozen=True, kw_only=True)
class Albums:
    """Where a set's pictures are."""

    images: Album
    """By the keys of the curated set as a transfer set."""
    gallery: Album
    """By the keys of the gallery."""
    whole_files: Mapping[str, str]
    """Key of an image in the gallery -> its key in the set, where that holds all of it."""

    def original(self, key: str) -> Picture | None:
        """Of the gallery, or of the set where that holds it whole."""
        found = self.gallery.picture(key)
        return self.images.picture(self.whole_files[key]) if found is None and key in self.whole_files else found

    def shown(self, item: CuratedItem) -> ShownItem:
        original = None if item.crop is None else self.gallery.picture(item.key, sha64=item.sha64, crop=item.crop)
        return ShownItem(item=item, picture=self.images.picture(item.file), original=original)


def retrieved(curated: CuratedSet, albums: Albums, names: Iterable[str], limit: int) -> list[ShownQuery]:
    """Each of the named queries with up to `limit` items that it ranks best."""
    files = {query.key: query.file for query in curated.queries}
    items_of = items_by_query(curated)
    return [
        ShownQuery(name=name, is_text=name not in files,
                   picture=albums.images.picture(files[name]) if name in files else None,
                   num_items=len(items_of.get(name, ())), items=[*map(albums.shown, items_of.get(name, ())[:limit])])
        for name in names
    ]  # fmt: skip


def items_by_query(curated: CuratedSet) -> dict[str, list[CuratedItem]]:
    """By ascending rank."""
    found: dict[str, list[CuratedItem]] = {}
    for item in curated.items:
        if item.query is not None:
            found.setdefault(item.query, []).append(item)
    for items in found.values():
        items.sort(key=lambda item: (item.rank or 0, item.file))
    return found
