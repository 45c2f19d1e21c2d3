"""The encoded images of one unit of a frozen listing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reinforce.data.keys import hash64
from reinforce.data.listing import Listing
from reinforce.data.sources import ImageSource, remote_source
from reinforce.errors import TransferMismatchError


@dataclass(frozen=True)
class UnitImages:
    """Rows [0, len(keys)) of a unit: the images of one shard from `first_row` on, with the hashes of their bytes."""

    source: ImageSource
    shard: int
    first_row: int
    keys: tuple[str, ...]
    sha64: NDArray[np.uint64]

    @classmethod
    def of(cls, source: ImageSource, listing: Listing, shard: int, start: int, stop: int) -> UnitImages:
        """Samples [start, stop) of a listing, all in `shard`."""
        first_row = start - listing.shard_starts[shard]
        return cls(source, shard, first_row, listing.keys[start:stop], listing.sha64[start:stop])

    def prefetch(self, rows: Iterable[int]) -> None:
        """Say which rows will be read next; those beyond the unit are left out."""
        if remote := remote_source(self.source):
            own = (row for row in rows if row < len(self.keys))
            remote.prefetch([(self.shard, self.first_row + row) for row in own])

    def read(self, row: int) -> bytes:
        """Encoded bytes. Raises TransferMismatchError where they are not those that were frozen."""
        data = self.source.read(self.shard, self.first_row + row)
        if hash64(data) != int(self.sha64[row]):
            raise TransferMismatchError(
                f"image '{self.keys[row]}' changed since the transfer set was frozen: "
                "restore it, or build a store of the new set"
            )
        return data
