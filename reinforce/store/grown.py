"""Units of a store that has more views than the finished one from which it grows: what is stored stays, bit for bit.

V = views, U = rows of a unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.errors import BuildError
from reinforce.store.marker import SkippedRow, UnitMarker
from reinforce.store.promise import EncodedUnit, Promise, encode_within
from reinforce.store.reader import Store
from reinforce.store.records import read_records
from reinforce.store.schema import Schema, TargetArray
from reinforce.store.verified import read_object
from reinforce.store.writer import pack_unit, stored_part


class GrownUnits:
    """Joins the stored views of a unit with others that were encoded alone, under the same codec and steps."""

    def __init__(self, base: Store, schema: Schema) -> None:
        """`schema`: of the grown store, which differs from the base's in its number of views."""
        self.base, self.schema = base, schema
        num_added = schema.num_views - base.num_views
        self.added = replace(schema, num_views=num_added, measured_views=num_added, grown_from=())
        """Of a store of the new views alone."""

    @property
    def first_view(self) -> int:
        """Of the new ones."""
        return self.base.num_views

    def shared(self, unit: int) -> dict[str, NDArray[Any]]:
        """What the views of a unit have in common. Raises CorruptStoreError."""
        arrays = {name: array for name, array in self.base.target_arrays.items() if not array.spec.per_view}
        return {name: self._part(array, self._read(array, unit), 0) for name, array in arrays.items()}

    def encode_within(self, unit: int, targets: NDArray[np.float32], ok_U: NDArray[np.bool_],
                      promise: Promise) -> EncodedUnit:  # fmt: skip
        """The grown unit, whose new views have these targets. Raises CorruptStoreError, and as `encode_within`."""
        codec = self.base.codec
        added = encode_within(self.added, codec, unit, targets, ok_U, promise, self.shared(unit))
        fidelity = self._records[unit].fidelity.merge(added.fidelity)
        return replace(added, contents=self._joined(unit, added.contents), fidelity=fidelity)

    def _joined(self, unit: int, added: Mapping[str, bytes]) -> dict[str, bytes]:
        new, values = self.added.target_arrays(self.base.codec), self.shared(unit)
        for name, array in self.base.target_arrays.items():
            if array.spec.per_view:
                data, fresh = self._read(array, unit), added[new[name].object_path(unit)]
                stored = [self._part(array, data, view) for view in range(self.base.num_views)]
                stored += [stored_part(new[name], fresh, view) for view in range(self.added.num_views)]
                values[name] = np.stack(stored)
        return pack_unit(self.schema, self.base.codec, unit, values)

    def check_skipped(self, unit: int, skipped: list[SkippedRow]) -> None:
        """Raises BuildError where other images had no targets when the stored views were computed."""
        before, now = ({row.key for row in rows} for rows in (self._records[unit].skipped, skipped))
        if before != now:
            raise BuildError(f"'{min(before ^ now)}' can be decoded either here or where {self.base.name} was "
                             "built, but not at both: grow it there, or build it anew")  # fmt: skip

    @cached_property
    def _records(self) -> list[UnitMarker]:
        return read_records(self.base.objects, self.base.schema)

    def _read(self, array: TargetArray, unit: int) -> bytes:
        return read_object(self.base.objects.objects, self.base.manifest, array.object_path(unit))

    def _part(self, array: TargetArray, data: bytes, view: int) -> NDArray[Any]:
        try:
            return stored_part(array, data, view)
        except ValueError as error:
            raise self.base.objects.error(array.layout.path, error) from error
