"""What one target is: a row of logits or of a feature, or a map of them; and what its fidelity is measured on.

V = views, R = rows, C = channels (classes of logits, dimensions of a feature), h, w = sides of a map, N = h * w cells
(row by row), S = side of a view in px, B = some rows of some views, P = pixels or cells looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from reinforce.errors import CorruptStoreError
from reinforce.store.canonical import Fields
from reinforce.store.codecs import TargetCodec
from reinforce.store.codecs.klt_maps import KltMapsCodec
from reinforce.store.codecs.maps import MapCodec
from reinforce.store.fidelity import FidelityStats
from reinforce.store.measures import Measure

LOGITS, DENSE_LOGITS = "logits", "dense-logits"
GLOBAL_FEATURES, PATCH_FEATURES, TEXT_FEATURES = "global-features", "patch-features", "text-features"
EMBEDDINGS = "embeddings"
FEATURES = (GLOBAL_FEATURES, PATCH_FEATURES, TEXT_FEATURES, EMBEDDINGS)
TARGETS = (LOGITS, DENSE_LOGITS, *FEATURES)
MAX_SIDE, MAX_VALUES = 1024, 1 << 28
MEASURED_VALUES = 1 << 24
"""Of the upsampled maps of a unit: so many are compared, of views spread evenly over it."""
DENSE_PX = 128
"""Up to this side every pixel of a view is compared, in larger ones every third, fifth, ... of a row and a column."""


class TargetShape(Protocol):
    """How codecs, arrays and statistics see the targets of one kind."""

    @property
    def target(self) -> str:
        """One of TARGETS."""

    @property
    def num_channels(self) -> int: ...

    @property
    def item_shape(self) -> tuple[int, ...]:
        """Shape of one target, as it is encoded: (C,) or (N, C)."""

    def to_json(self) -> dict[str, Any]:
        """What a plan says of it."""

    def fitted(self, codec: TargetCodec) -> TargetCodec:
        """A codec of rows, made to take these targets; one that does already, as it is."""

    def fidelity(self, targets: NDArray[np.float32], decoded: NDArray[np.float32], measure: Measure) -> FidelityStats:
        """Of (B, *item_shape) targets: how close the decoded ones are."""

    def sample(self, num_views: int, ok_R: NDArray[np.bool_]) -> list[tuple[int, NDArray[np.int64]]]:
        """(view, rows) of a unit that are measured: rows that are ok."""

    def num_measured(self, num_views: int, num_ok: int) -> int:
        """Of how many rows, pixels or cells a unit's statistics are."""


@dataclass(frozen=True)
class RowShape:
    """A row of logits, or of the feature of an image or a caption: every one is measured."""

    num_channels: int
    target: str = LOGITS

    @property
    def item_shape(self) -> tuple[int, ...]:
        return (self.num_channels,)

    def to_json(self) -> dict[str, Any]:
        return {"target": self.target}

    def fitted(self, codec: TargetCodec) -> TargetCodec:
        if isinstance(codec, KltMapsCodec):
            raise CorruptStoreError(f"codec {codec.name} is for maps")
        return codec

    def fidelity(self, targets: NDArray[np.float32], decoded: NDArray[np.float32], measure: Measure) -> FidelityStats:
        return FidelityStats.of(targets, decoded, measure)

    def sample(self, num_views: int, ok_R: NDArray[np.bool_]) -> list[tuple[int, NDArray[np.int64]]]:
        rows = np.flatnonzero(ok_R)
        return [(view, rows) for view in range(num_views)] if len(rows) else []

    def num_measured(self, num_views: int, num_ok: int) -> int:
        return num_views * num_ok


@dataclass(frozen=True)
class MapShape:
    """A map of logits, measured pixel by pixel after upsampling to the view; or of patch features, which nothing
    upsamples, measured cell by cell. Some of the views are measured."""

    num_channels: int
    height: int
    width: int
    size_px: int
    """Side of the views."""
    target: str = DENSE_LOGITS

    @property
    def num_cells(self) -> int:
        return self.height * self.width

    @property
    def item_shape(self) -> tuple[int, ...]:
        return (self.num_cells, self.num_channels)

    def to_json(self) -> dict[str, Any]:
        return {"target": self.target, "map": [self.height, self.width]}

    def fitted(self, codec: TargetCodec) -> TargetCodec:
        if isinstance(codec, KltMapsCodec) and codec.num_cells != self.num_cells:
            raise CorruptStoreError(f"codec {codec.name} is of {codec.height}x{codec.width} cells")
        takes_maps = isinstance(codec, (MapCodec, KltMapsCodec))
        return codec if takes_maps else MapCodec(codec, self.num_cells, self.num_channels)

    def fidelity(self, targets: NDArray[np.float32], decoded: NDArray[np.float32], measure: Measure) -> FidelityStats:
        pairs = zip(self._places(targets), self._places(decoded), strict=True)
        return FidelityStats.merge_all((FidelityStats.of(*pair, measure) for pair in pairs), measure)

    def sample(self, num_views: int, ok_R: NDArray[np.bool_]) -> list[tuple[int, NDArray[np.int64]]]:
        rows = np.flatnonzero(ok_R)
        total, count = num_views * len(rows), self._num_maps(num_views, len(rows))
        view, place = np.divmod((np.arange(count) * total + total // 2) // max(1, count), max(1, len(rows)))
        return [(int(v), rows[place[view == v]]) for v in np.unique(view)] if total else []

    def num_measured(self, num_views: int, num_ok: int) -> int:
        return self._num_maps(num_views, num_ok) * self._num_places

    @property
    def _num_places(self) -> int:
        """Pixels, or cells, of a map that are looked at."""
        return self.num_cells if self.target in FEATURES else len(self._lattice()) ** 2

    def _num_maps(self, num_views: int, num_ok: int) -> int:
        """Maps of a unit that are measured: within MEASURED_VALUES, but one at least."""
        most = MEASURED_VALUES // (self._num_places * self.num_channels)
        return min(num_views * num_ok, max(1, most))

    def _places(self, maps_BNC: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
        """(P, C) of the pixels, or cells, of each map in turn."""
        if self.target in FEATURES:
            yield from maps_BNC
            return
        places = self._lattice()
        for map_NC in maps_BNC:
            map_hwC = map_NC.reshape(self.height, self.width, self.num_channels)
            yield upsample(map_hwC, self.size_px, places).reshape(-1, self.num_channels)

    def _lattice(self) -> NDArray[np.int64]:
        """Columns (and rows) of the pixels looked at: an odd distance meets every offset to the cells."""
        distance = max(1, round(self.size_px / DENSE_PX)) | 1
        return np.arange(self.size_px // 2 % distance, self.size_px, distance)


def parse_shape(plan: Mapping[str, Any], name: str, num_channels: int) -> TargetShape:
    """The shape that a plan states. Raises CorruptStoreError where it is absurd, KeyError for a target unknown here."""
    target = plan["target"]
    if target not in TARGETS:
        raise KeyError(target)
    if target in (LOGITS, GLOBAL_FEATURES, TEXT_FEATURES, EMBEDDINGS):
        return RowShape(num_channels, target)
    fields = Fields(plan, name)
    sides = fields.items("map")
    if len(sides) != 2 or not all(type(side) is int and 1 <= side <= MAX_SIDE for side in sides):
        raise CorruptStoreError(f"{name}: 'map' is not two sides of 1..{MAX_SIDE} cells")
    if math.prod(sides) * num_channels > MAX_VALUES:
        raise CorruptStoreError(f"{name}: a map of {sides[0]}x{sides[1]}x{num_channels} values is over {MAX_VALUES}")
    size_px = fields.inner("policy").integer("size_px", 1, 4096)
    return MapShape(num_channels, sides[0], sides[1], size_px, target)


def upsample(map_hwC: NDArray[np.float32], size_px: int, places: NDArray[np.int64]) -> NDArray[np.float32]:
    """(L, L, C): a map upsampled bilinearly to a square of `size_px`, at the rows and columns `places` (L,).

    Pixel i lies at (i + 1/2) * h / S - 1/2 cells, and beyond the outermost cells' centres their values go on, as in
    torch's `interpolate(mode="bilinear", align_corners=False)`.
    """
    height, width, _ = map_hwC.shape
    top, bottom, below = _neighbours(places, size_px, height)
    rows = map_hwC[top] * (1 - below)[:, None, None] + map_hwC[bottom] * below[:, None, None]
    left, right, beyond = _neighbours(places, size_px, width)
    return np.asarray(rows[:, left] * (1 - beyond)[:, None] + rows[:, right] * beyond[:, None], np.float32)


def _neighbours(
    places: NDArray[np.int64], size_px: int, num_cells: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The cells before and behind each place, and how far it is from the first to the second, 0..1."""
    position = np.maximum((places + 0.5) * num_cells / size_px - 0.5, 0)
    first = np.minimum(position.astype(np.int64), num_cells - 1)
    return first, np.minimum(first + 1, num_cells - 1), (position - first).astype(np.float32)
