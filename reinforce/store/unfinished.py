"""A store between its plan and its manifest: what a build needs to go on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.errors import CorruptStoreError
from reinforce.store.canonical import parse_object
from reinforce.store.codecs import TargetCodec
from reinforce.store.layout import ArrayLayout
from reinforce.store.manifest import missing_store
from reinforce.store.marker import UnitMarker, read_marker
from reinforce.store.objects import Objects
from reinforce.store.schema import PLAN, Schema
from reinforce.store.shard import decode_chunk, index_bytes, parse_index
from reinforce.store.verified import read_calibration
from reinforce.store.writer import SampleColumns


@dataclass(frozen=True)
class KeyColumns:
    """Keys as they are stored: millions of them take little more than their own bytes."""

    text: memoryview
    ends: NDArray[np.uint64]
    """(N + 1,) Key i is text[ends[i] : ends[i + 1]]."""

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, position: int) -> str:
        return self.encoded(position).decode("utf-8", "surrogateescape")

    def encoded(self, position: int) -> bytes:
        start, stop = self.ends[position : position + 2].tolist()
        return bytes(self.text[start:stop])


class UnfinishedStore:
    """Plan, codec and samples of a store that may not be finished; its objects are not hashed yet.

    The samples' hashes are bound by the plan's transfer digest, which the caller compares.
    """

    def __init__(self, objects: Objects) -> None:
        """Raises MissingStoreError where there is no plan, CorruptStoreError where it is damaged."""
        if not objects.exists(PLAN):
            raise missing_store(objects)
        self.objects = objects
        self.plan: dict[str, Any] = parse_object(objects.get(PLAN), PLAN)
        self.schema = Schema.from_plan(self.plan)

    def codec(self) -> TargetCodec:
        schema = self.schema
        calibration = read_calibration(self.objects, schema)
        return schema.codec(calibration)

    def samples(self) -> SampleColumns:
        """The frozen listing, in listing order."""
        keys, layouts = self.keys(), self.schema.sample_layouts(1)
        return SampleColumns(
            keys=[keys[i] for i in range(len(keys))],
            sha64=self.sha64(),
            width=self._column(layouts["width"]),
            height=self._column(layouts["height"]),
        )

    def keys(self) -> KeyColumns:
        """Of all samples, in listing order."""
        layouts = self.schema.sample_layouts(1)
        ends = self._column(layouts["key_offsets"])
        if (ends[1:] < ends[:-1]).any():
            raise CorruptStoreError("samples/key_offsets: offsets go back: type --overwrite to build the store again")
        return KeyColumns(self._column(self.schema.sample_layouts(int(ends[-1]))["key_bytes"]).data, ends)

    def sha64(self) -> NDArray[np.uint64]:
        """(N,) the first 64 bits of every image file's SHA-256, in listing order."""
        return self._column(self.schema.sample_layouts(1)["sha64"])

    def markers(self) -> list[UnitMarker]:
        """Those of the units that are done."""
        markers = (read_marker(self.objects, unit) for unit in range(self.schema.num_units))
        return [marker for marker in markers if marker is not None]

    def _column(self, layout: ArrayLayout) -> NDArray[Any]:
        return read_column(self.objects, layout)


def read_column(objects: Objects, layout: ArrayLayout) -> NDArray[Any]:
    """All values of a one-dimensional array, by their checksums alone. Raises CorruptStoreError, FileNotFoundError."""
    parts = []
    for shard in layout.shards():
        path = layout.object_path(*shard)
        data = objects.get(path)
        try:
            index = parse_index(layout, data[-index_bytes(layout) :], len(data)).tolist()
            parts += [decode_chunk(layout, data[a : a + n]) for a, n in (index[c] for c in layout.chunks(shard))]
        except ValueError as error:
            raise CorruptStoreError(f"{path}: {error}: type --overwrite to build the store again") from error
    return np.concatenate(parts)[: layout.shape[0]]
