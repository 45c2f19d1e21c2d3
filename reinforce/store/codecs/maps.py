"""Any codec for maps: every cell of a map is a row to it.

V = views, R = rows of a unit, N = cells of a map (row by row), C = classes.

A cell's values lie together (cell-major): neighbouring cells of a map are alike, so that their codes repeat, which
packs better than a plane per class.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.store.codecs.base import Arrays, ArraySpec, TargetCodec, Wrapping


@dataclass(frozen=True, eq=False)
class MapCodec(Wrapping):
    """`codec` for targets (V, R, N, C); its arrays get an axis of `num_cells` behind that of the rows."""

    codec: TargetCodec
    num_cells: int
    num_channels: int

    @property
    def formula(self) -> str:
        return f"of every cell of a row's map, the cells row by row: {self.codec.formula}"

    def arrays(self, num_channels: int) -> dict[str, ArraySpec]:
        specs = self.codec.arrays(num_channels)
        return {name: of_cells(spec, self.num_cells) if spec.per_row else spec for name, spec in specs.items()}

    def encode(
        self, targets_VRNC: NDArray[np.float32], /, *, level: int = 0, spilled_VR: NDArray[np.bool_] | None = None,
        shared: Arrays | None = None,
    ) -> dict[str, NDArray[Any]]:  # fmt: skip
        """As `TargetCodec.encode`; `spilled_VR`, (V, R, N), marks single cells."""
        num_views, num_rows, _, num_channels = targets_VRNC.shape
        spilled = None if spilled_VR is None else spilled_VR.reshape(num_views, -1)
        cells = targets_VRNC.reshape(num_views, -1, num_channels)
        flat = None if shared is None else FlatCells(shared, self._per_row)
        encoded = self.codec.encode(cells, level=level, spilled_VR=spilled, shared=flat)
        specs = self.arrays(num_channels)
        return {name: values.reshape(specs[name].unit_shape(num_views, num_rows)) for name, values in encoded.items()}

    def decode(self, arrays: Arrays) -> NDArray[np.float32]:
        """(R, N, C) logits of one view."""
        logits = self.codec.decode(FlatCells(arrays, self._per_row))
        return logits.reshape(-1, self.num_cells, self.num_channels)

    @functools.cached_property
    def _per_row(self) -> frozenset[str]:
        """Names of the arrays that have an axis of cells."""
        return frozenset(name for name, spec in self.codec.arrays(self.num_channels).items() if spec.per_row)


def of_cells(spec: ArraySpec, num_cells: int) -> ArraySpec:
    """An array with a value for every row, with one for every cell."""
    return replace(spec, shape=(num_cells, *spec.shape), items_last=False, grouped=False)


class FlatCells(Mapping[str, NDArray[Any]]):
    """A view's arrays, rows and cells of the named ones in one axis, read when they are asked for."""

    def __init__(self, arrays: Arrays, with_cells: frozenset[str]) -> None:
        self.arrays, self.with_cells = arrays, with_cells

    def __getitem__(self, name: str) -> NDArray[Any]:
        values = self.arrays[name]
        return values.reshape(-1, *values.shape[2:]) if name in self.with_cells else values

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)
