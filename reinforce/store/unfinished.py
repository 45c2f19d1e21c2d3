"""A store between its plan and its manifest: what a build needs to go on."""

from __future__ import annotations

from itertools import pairwise
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
        (num_key_bytes,) = self._layout("samples/key_bytes").shape
        layouts = self.schema.sample_layouts(num_key_bytes)
        text = self._column(layouts["key_bytes"]).tobytes()
        ends = self._column(layouts["key_offsets"]).tolist()
        if any(first > second for first, second in pairwise(ends)):
            raise CorruptStoreError("samples/key_offsets: offsets go back: type --overwrite to build the store again")
        return SampleColumns(
            keys=[text[a:b].decode("utf-8", "surrogateescape") for a, b in pairwise(ends)],
            sha64=self._column(layouts["sha64"]),
            width=self._column(layouts["width"]),
            height=self._column(layouts["height"]),
        )

    def markers(self) -> list[UnitMarker]:
        """Those of the units that are done."""
        markers = (read_marker(self.objects, unit) for unit in range(self.schema.num_units))
        return [marker for marker in markers if marker is not None]

    def _layout(self, path: str) -> ArrayLayout:
        return ArrayLayout.parse(path, self.objects.get(f"{path}/zarr.json"))

    def _column(self, layout: ArrayLayout) -> NDArray[Any]:
        parts = []
        for shard in layout.shards():
            path = layout.object_path(*shard)
            data = self.objects.get(path)
            try:
                index = parse_index(layout, data[-index_bytes(layout) :], len(data)).tolist()
                parts += [decode_chunk(layout, data[a : a + n]) for a, n in (index[c] for c in layout.chunks(shard))]
            except ValueError as error:
                raise CorruptStoreError(f"{path}: {error}: type --overwrite to build the store again") from error
        return np.concatenate(parts)[: layout.shape[0]]
