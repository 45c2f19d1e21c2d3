"""The images of a gallery behind its items: encoded originals, checked by hash, and crops as boxes of them."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from reinforce import catalog
from reinforce.curate.curated import Crop
from reinforce.curate.stored import EmbeddingStore
from reinforce.data import hash64, hex64, open_source
from reinforce.data.licence import data_licence
from reinforce.dataset import ReinforcedDataset, transfer_location
from reinforce.licences import Licences, is_unknown
from reinforce.views import decode_image, image_suffix, named_policy
from reinforce.views.gallery_policy import WHOLE_VIEW
from reinforce.views.params import ViewParams

FULL_PX = 4096
"""Decoding reduces no image that a policy of this size can't show in full."""


@dataclass(frozen=True)
class Original:
    """The encoded image behind an item."""

    data: bytes
    crop: Crop | None
    """What the item shows of it: left, top, width, height in px; None for all of it."""

    @property
    def sha64(self) -> str:
        return hex64(hash64(self.data))

    def encoded(self) -> tuple[str, bytes]:
        """(suffix, bytes) of an image file of what the item shows: the original's own bytes, or a PNG of the crop."""
        if self.crop is None:
            return image_suffix(self.data), self.data
        left, top, width, height = self.crop
        image = decode_image(self.data, named_policy("center", size_px=FULL_PX))
        file = io.BytesIO()
        image.crop((left, top, left + width, top + height)).save(file, "PNG")
        return "png", file.getvalue()


class Originals:
    """Reads what items of an embedding store show. Images near each other in the gallery are cheap."""

    def __init__(self, embeddings: EmbeddingStore, transfer: str | None) -> None:
        """`transfer`: where the gallery's images lie, by default as registered. Raises as `open_dataset`."""
        self.embeddings, self.place = embeddings, transfer or transfer_location(embeddings.store)
        self.source = open_source(str(catalog.resolve_data(self.place).path))
        self.dataset = ReinforcedDataset(embeddings.store, self.source)

    def read(self, item: int) -> Original:
        """Raises TransferMismatchError where the image is another one than was embedded."""
        sample, view = self.embeddings.sample(item), self.embeddings.view(item)
        unit = int(np.searchsorted(self.embeddings.unit_starts, sample, side="right")) - 1
        row = sample - int(self.embeddings.unit_starts[unit])
        data = self.dataset.images(unit).read(row)
        return Original(data, None if view == WHOLE_VIEW else self._crop(unit, row, view))

    def key(self, item: int) -> str:
        return self.embeddings.keys[self.embeddings.sample(item)]

    @cached_property
    def name(self) -> str:
        """Of the gallery."""
        return str(self.embeddings.store.plan["transfer"]["name"])

    @cached_property
    def licence(self) -> str:
        """Of the gallery's images: what its store was told, or else what is said where they lie now."""
        told = Licences.of_plan(self.embeddings.store.plan).images
        if not is_unknown(told):
            return told
        found = data_licence(catalog.resolve_data(self.place), self.source)
        return told if is_unknown(found) else found

    def _crop(self, unit: int, row: int, view: int) -> Crop:
        """The view's box in px of the original, rounded outwards where its working image is a reduced one."""
        replayer = self.dataset.replayer(unit)
        params = replayer.params(row, view)
        assert isinstance(params, ViewParams)
        left, top, width, height = params.crop
        working, original = replayer.image(row).size, replayer.original_size(row)
        (x, right), (y, bottom) = (
            (start * whole // part, -(-(start + length) * whole // part))
            for start, length, whole, part in zip((left, top), (width, height), original, working, strict=True)
        )
        return x, y, right - x, bottom - y
