"""Decoded targets of any rows, for training loops: planes kept within a memory budget, and read ahead in a thread.

B = batch, U = rows of a unit. A plane is one view of one unit, (U, *item_shape): what is read at once.
"""

from __future__ import annotations

import math
import os
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.store.reader import Store

BUDGET_BYTES = 256 << 20
LEAST_PLANES = 3
"""Kept whatever the budget: two, and one that is read ahead."""
AHEAD_SHARE = 3
"""One plane in so many is one that is read ahead."""

Plane = NDArray[np.float32]


class TargetReader:
    """Targets by row and view. Rows that lie near each other in a store are cheap, scattered ones cost a plane each.

    Not for several threads at once. Picklable: a copy starts empty, and reads nothing but the manifest again.
    """

    def __init__(self, store: Store, *, budget_bytes: int = BUDGET_BYTES) -> None:
        """`budget_bytes` of decoded planes are held, three planes at least."""
        self.store, self.budget_bytes = store, budget_bytes
        plane_bytes = 4 * store.unit_rows * math.prod(store.item_shape)
        num_planes = max(LEAST_PLANES, budget_bytes // plane_bytes)
        self.max_ahead = num_planes // AHEAD_SHARE
        self.max_kept = num_planes - self.max_ahead
        self._kept: OrderedDict[int, Plane] = OrderedDict()
        self._ahead: dict[int, Future[Plane]] = {}
        self._thread: ThreadPoolExecutor | None = None
        self._process = os.getpid()

    def read(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, *item_shape) logits of `rows` (B,) under `views` (B,). Raises IndexError, CorruptStoreError."""
        planes, local = self._places(rows, views)
        logits = np.empty((len(planes), *self.store.item_shape), np.float32)
        for plane, places in _groups(planes):
            logits[places] = self._plane(plane)[local[places]]
        return logits

    def prefetch(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> None:
        """Begin to read what `read` will need for these rows, the first ones first, as far as the budget goes.

        What an earlier call asked for, and these rows don't need, is given up. What is damaged is an error only when
        it is read.
        """
        planes, _ = self._places(rows, views)
        self._leave_parent()
        wanted = dict.fromkeys(planes.tolist())
        for plane in self._ahead.keys() - wanted.keys():
            self._ahead.pop(plane).cancel()
        for plane in wanted:
            if plane not in self._kept and plane not in self._ahead and len(self._ahead) < self.max_ahead:
                self._thread = self._thread or ThreadPoolExecutor(1, "reinforce-prefetch")
                self._ahead[plane] = self._thread.submit(self._read_plane, plane)

    def _places(self, rows: Any, views: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(B,) plane of every row, and (B,) its place in there."""
        rows, views = np.asarray(rows, np.int64), np.asarray(views, np.int64)
        for name, values, limit in (("row", rows, self.store.num_rows), ("view", views, self.store.num_views)):
            if values.ndim != 1 or len(values) != len(rows):
                raise IndexError(f"{name}s have shape {values.shape}, not ({len(rows)},)")
            if len(values) and not (values.min() >= 0 and values.max() < limit):
                raise IndexError(f"{name}s are not all in 0..{limit - 1}")
        units, local = np.divmod(rows, self.store.unit_rows)
        return units * self.store.num_views + views, local

    def _plane(self, plane: int) -> Plane:
        if plane in self._kept:
            self._kept.move_to_end(plane)
            return self._kept[plane]
        self._leave_parent()
        coming = self._ahead.pop(plane, None)
        values = self._read_plane(plane) if coming is None else coming.result()
        self._kept[plane] = values
        if len(self._kept) > self.max_kept:
            self._kept.popitem(last=False)
        return values

    def _read_plane(self, plane: int) -> Plane:
        return self.store.read_targets(*divmod(plane, self.store.num_views))

    def _leave_parent(self) -> None:
        """A forked process has the parent's memory, but not its thread."""
        if self._process != os.getpid():
            self._process, self._thread, self._ahead = os.getpid(), None, {}

    def __reduce__(self) -> tuple[Any, ...]:
        return (_open, (self.store, self.budget_bytes))


def _open(store: Store, budget_bytes: int) -> TargetReader:
    return TargetReader(store, budget_bytes=budget_bytes)


def _groups(values: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Every value that occurs, with its places."""
    if not len(values):
        return
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1))
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=True):
        yield int(ordered[start]), order[start:stop]
