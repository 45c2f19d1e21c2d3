"""Units computed on this machine: one teacher process per device, decoding workers beside it.

B = batch, V = views, U = rows a unit
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reinforce.engine.feed import ViewBatch, ViewFeed, open_feed
from reinforce.errors import NonFiniteTargetError
from reinforce.job import Ledger
from reinforce.progress import Progress, human_bytes
from reinforce.store import Promise, Schema, SkippedRow, TargetCodec, commit_unit, encode_within
from reinforce.worker_process import naming_dead_workers

if TYPE_CHECKING:
    from reinforce.target_source import TargetSource

FEW_VIEWS = 2000
"""Fewer views than this are rendered sooner in this process than in workers that must first start."""
MAX_WORKERS = 16


@dataclass
class UnitTargets:
    """Targets of a unit as its batches come in."""

    targets: NDArray[np.float32]
    """(V, U, *item_shape); zeros where there is nothing."""
    skipped: dict[int, str] = field(default_factory=dict)


class UnitRunner:
    """Turns the batches of a feed into committed units."""

    def __init__(
        self,
        teacher: TargetSource,
        schema: Schema,
        codec: TargetCodec,
        ledger: Ledger,
        unit_keys: Sequence[Sequence[str]],
        promise: Promise,
    ) -> None:
        """`unit_keys[u]` are the keys of unit u's rows."""
        self.teacher, self.schema, self.codec, self.ledger = teacher, schema, codec, ledger
        self.unit_keys, self.promise = unit_keys, promise
        self.open_units: dict[int, UnitTargets] = {}
        self.units_written = self.bytes_written = 0

    def run(self, feed: ViewFeed, workers: int, progress: Progress) -> None:
        """Raises WorkerDiedError where a decoding process is killed; what is committed stays."""
        with naming_dead_workers():
            self._run(feed, workers, progress)

    def _run(self, feed: ViewFeed, workers: int, progress: Progress) -> None:
        started, waited = time.monotonic(), 0.0
        batches = open_feed(feed, workers)
        while True:
            asked = time.monotonic()
            batch = next(batches, None)
            waited += time.monotonic() - asked
            if batch is None:
                return
            self.add(batch)
            share = waited / max(time.monotonic() - started, 1e-9)
            progress.update(len(batch.images), wait=f"{100 * share:.0f}%", written=human_bytes(self.bytes_written))

    def add(self, batch: ViewBatch) -> None:
        """Run the teacher on a batch; commit the unit with its last one."""
        schema = self.schema
        if batch.unit not in self.open_units:
            self.open_units[batch.unit] = UnitTargets(np.zeros(schema.unit_shape, np.float32))
        unit = self.open_units[batch.unit]
        unit.skipped |= batch.skipped
        view, row = batch.views, batch.rows
        targets = self.teacher.targets(batch.images.numpy())
        is_ok = ~np.isin(row, list(unit.skipped))
        self._check_finite(targets, is_ok, batch.unit, row, view)
        unit.targets[view[is_ok], row[is_ok]] = targets[is_ok]
        if batch.is_last:
            self._commit(batch.unit, self.open_units.pop(batch.unit))

    def _check_finite(
        self,
        targets: NDArray[np.float32],
        is_ok: NDArray[np.bool_],
        unit: int,
        row: NDArray[np.int64],
        view: NDArray[np.int64],
    ) -> None:
        bad = np.flatnonzero(is_ok & ~np.isfinite(targets.reshape(len(targets), -1)).all(1))
        if len(bad):
            raise NonFiniteTargetError.of(self.unit_keys[unit][row[bad[0]]], int(view[bad[0]]))

    def _commit(self, index: int, unit: UnitTargets) -> None:
        schema, keys = self.schema, self.unit_keys[index]
        is_ok = np.zeros(schema.unit_rows, np.bool_)
        is_ok[: schema.unit_size(index)] = True
        is_ok[list(unit.skipped)] = False
        encoded = encode_within(schema, self.codec, index, unit.targets, is_ok, self.promise)
        skipped = [SkippedRow(row, keys[row], reason) for row, reason in sorted(unit.skipped.items())]
        commit_unit(self.ledger.objects, schema, index, encoded.contents, encoded.fidelity, skipped)
        self.units_written += 1
        self.bytes_written += sum(len(data) for data in encoded.contents.values())


def choose_workers(asked: int, total_views: int, device: str) -> int:
    """Decoding processes: as asked, or none for little work, few beside a CPU teacher, many beside a GPU."""
    if asked >= 0:
        return asked
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if total_views < FEW_VIEWS:
        return 0
    return max(1, cores // 2) if device == "cpu" else max(1, min(MAX_WORKERS, cores - 1))
