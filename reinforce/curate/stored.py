"""A store of `reinforce embed` as a gallery: its crops, or its whole images, as items to search.

    V = views a sample: the whole image, then its crops. Item = V * (position of the sample in the listing) + view.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reinforce.curate.embeddings import Block, Items, Vectors, check_unit_length
from reinforce.errors import CorruptStoreError, EmbeddingError
from reinforce.store import EMBEDDINGS, STATE_OK, Store, TargetReader
from reinforce.store.canonical import Fields
from reinforce.store.schema import PLAN
from reinforce.views.gallery_policy import WHOLE_VIEW

READER_BYTES = 64 << 20


class EmbeddingStore:
    """An opened store of embeddings, and what curation asks of it."""

    def __init__(self, location: str | Path) -> None:
        """Raises StoreError as `Store.open`, and EmbeddingError for a store of another kind."""
        self.location = str(location)
        self.store = Store.open(location)
        if self.store.target != EMBEDDINGS:
            raise EmbeddingError(f"{location} is a store of {self.store.target}: type reinforce embed --gallery NAME "
                                 "--encoder NAME to make one that can be searched")  # fmt: skip
        if self.store.first_view:
            raise EmbeddingError(f"{location} is a part without view 0, the whole images: pull one with --views 0:N")
        self.encoders = Fields(self.store.plan, PLAN).inner("teacher").items("encoders")
        self.widths = tuple(Fields(record, PLAN).integer("dimensions", 1, 1 << 20) for record in self.encoders)
        if sum(self.widths) != self.store.num_channels:
            raise CorruptStoreError(f"{location}: {PLAN}: its encoders have other dimensions than its vectors")

    @property
    def name(self) -> str:
        return self.store.name

    @property
    def num_crops(self) -> int:
        """Random crops of every image besides the whole one."""
        return self.store.num_views - 1

    @property
    def wholes(self) -> StoredEmbeddings:
        """The whole images."""
        return StoredEmbeddings(self, range(1))

    @property
    def searched(self) -> StoredEmbeddings:
        """What retrieval searches: the crops, or the whole images where there are none."""
        return StoredEmbeddings(self, range(1, self.store.num_views)) if self.num_crops else self.wholes

    @cached_property
    def keys(self) -> list[str]:
        """Of all samples, in listing order."""
        return self.store.keys(0, self.store.num_samples)

    @cached_property
    def is_embedded(self) -> NDArray[np.bool_]:
        """(samples,) whether the image could be decoded."""
        states = self.store.states().reshape(self.store.num_units, self.store.unit_rows)
        sizes = [stop - start for _, start, stop in self.store.units]
        return np.concatenate([row[:size] == STATE_OK for row, size in zip(states, sizes, strict=True)])

    @cached_property
    def embedded_samples(self) -> Items:
        """Samples whose image could be decoded."""
        return np.flatnonzero(self.is_embedded)

    @cached_property
    def key_places(self) -> Items:
        """(samples,) place of each sample's key among all, sorted."""
        order = np.argsort(np.array(self.keys, dtype=object), kind="stable")
        places = np.empty(len(order), np.int64)
        places[order] = np.arange(len(order))
        return places

    @cached_property
    def unit_starts(self) -> Items:
        """(units,) first sample of each."""
        return np.array([start for _, start, _ in self.store.units], np.int64)

    def sample(self, item: int) -> int:
        return item // self.store.num_views

    def view(self, item: int) -> int:
        return item % self.store.num_views

    def siblings(self, items: Items) -> Items:
        """(n, K) all K crops of the images that these items show, whole images alone being one."""
        first = items // self.store.num_views * self.store.num_views
        return np.asarray(first[:, None] + np.array(self.searched.views))

    def whole(self, items: Items) -> Items:
        """The items that are the whole images of what these show."""
        return items // self.store.num_views * self.store.num_views + WHOLE_VIEW


class StoredEmbeddings:
    """Some views of a store of embeddings. See `Embeddings`."""

    def __init__(self, owner: EmbeddingStore, views: range) -> None:
        self.owner, self.views, self.widths = owner, views, owner.widths
        self._reader = TargetReader(owner.store, budget_bytes=READER_BYTES)

    @property
    def num_items(self) -> int:
        return self.owner.store.num_samples * self.owner.store.num_views

    @property
    def num_units(self) -> int:
        return self.owner.store.num_units

    @property
    def num_embedded(self) -> int:
        """Items that have a vector."""
        return len(self.owner.embedded_samples) * len(self.views)

    def unit(self, unit: int) -> Block:
        store = self.owner.store
        _, start, stop = store.units[unit]
        rows = np.flatnonzero(self.owner.is_embedded[start:stop])
        items = (start + rows)[:, None] * store.num_views + np.array(self.views)
        vectors = np.empty((len(rows), len(self.views), store.num_channels), np.float16)
        for place, view in enumerate(self.views):
            vectors[:, place] = store.read_targets(unit, view)[rows]
        return Block(items.reshape(-1), vectors.reshape(-1, store.num_channels))

    def vectors(self, items: Items) -> Vectors:
        samples, views = np.divmod(np.asarray(items, np.int64), self.owner.store.num_views)
        if not self.owner.is_embedded[samples].all():
            raise KeyError(int(items[np.argmin(self.owner.is_embedded[samples])]))
        units = np.searchsorted(self.owner.unit_starts, samples, side="right") - 1
        rows = units * self.owner.store.unit_rows + samples - self.owner.unit_starts[units]
        vectors = self._reader.read(rows, views).astype(np.float16)
        check_unit_length(vectors, self.widths, self.owner.name)
        return vectors

    def tie_order(self, items: Items) -> Items:
        samples, views = np.divmod(np.asarray(items, np.int64), self.owner.store.num_views)
        return np.asarray(self.owner.key_places[samples] * self.owner.store.num_views + views, np.int64)
