"""Batches of views as committed units.

B = batch, V = views, U = rows a unit
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from reinforce.engine.commits import Commits, Committed, OthersFollow
from reinforce.engine.feed import ViewBatch
from reinforce.engine.work import Work
from reinforce.errors import NonFiniteTargetError
from reinforce.store import GrownUnits, Objects, Promise, Schema, SkippedRow, TargetCodec, commit_unit, encode_within

if TYPE_CHECKING:
    from reinforce.target_source import TargetSource


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
        objects: Objects,
        unit_keys: Sequence[Sequence[str]],
        promise: Promise,
        threads: int,
        grown: GrownUnits | None = None,
    ) -> None:
        """`unit_keys[u]` are the keys of unit u's rows; `threads`: of the plan's arithmetic; `grown`: what the batches'
        views are joined with."""
        self.teacher, self.schema, self.codec, self.objects = teacher, schema, codec, objects
        self.unit_keys, self.promise, self.threads, self.grown = unit_keys, promise, threads, grown
        self.unit_shape, self.first_view = schema.unit_shape, 0
        if grown is not None:
            self.unit_shape, self.first_view = grown.added.unit_shape, grown.first_view
        self.open_units: dict[int, UnitTargets] = {}

    def run(self, batches: Iterator[ViewBatch], others_follow: OthersFollow) -> Iterator[Work]:
        """Run the teacher on every batch; commit a unit after its last one, where others follow beside the teacher."""
        with Commits(self.threads) as commits:
            started = time.monotonic()
            for batch in batches:
                asked, started = started, time.monotonic()
                committed = self._step(batch, commits, others_follow)
                done = time.monotonic()
                yield _work(committed, amount=len(batch.images), seconds=done - asked, waited_seconds=started - asked)
                started = time.monotonic()
            if committed := commits.rest():
                yield _work(committed, seconds=time.monotonic() - started)

    def _step(self, batch: ViewBatch, commits: Commits, others_follow: OthersFollow) -> list[Committed]:
        """Returns what was committed by the end of it."""
        unit = self.add(batch)
        if unit is None:
            return commits.done()
        committed = commits.rest()
        commit = partial(self._commit, batch.unit, unit)
        if not others_follow([batch.unit, *(done.unit for done in committed)]):
            return [*committed, commit()]
        commits.begin(commit)
        return committed

    def add(self, batch: ViewBatch) -> UnitTargets | None:
        """Run the teacher on a batch; the unit, with its last one."""
        if batch.unit not in self.open_units:
            self.open_units[batch.unit] = UnitTargets(np.zeros(self.unit_shape, np.float32))
        unit = self.open_units[batch.unit]
        unit.skipped |= batch.skipped
        view, row = batch.views, batch.rows
        targets = self.teacher.targets(batch.images.numpy())
        is_ok = ~np.isin(row, list(unit.skipped))
        self._check_finite(targets, is_ok, batch.unit, row, view)
        unit.targets[view[is_ok] - self.first_view, row[is_ok]] = targets[is_ok]
        return self.open_units.pop(batch.unit) if batch.is_last else None

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

    def _commit(self, index: int, unit: UnitTargets) -> Committed:
        schema, keys = self.schema, self.unit_keys[index]
        is_ok = np.zeros(schema.unit_rows, np.bool_)
        is_ok[: schema.unit_size(index)] = True
        is_ok[list(unit.skipped)] = False
        skipped = [SkippedRow(row, keys[row], reason) for row, reason in sorted(unit.skipped.items())]
        if self.grown is None:
            encoded = encode_within(schema, self.codec, index, unit.targets, is_ok, self.promise)
        else:
            self.grown.check_skipped(index, skipped)
            encoded = self.grown.encode_within(index, unit.targets, is_ok, self.promise)
        commit_unit(self.objects, schema, index, encoded.contents, encoded.fidelity, skipped)
        return Committed(index, sum(len(data) for data in encoded.contents.values()))


def _work(committed: Sequence[Committed], *, amount: int = 0, seconds: float, waited_seconds: float = 0.0) -> Work:
    return Work(
        amount=amount,
        units=tuple(done.unit for done in committed),
        num_bytes=sum(done.num_bytes for done in committed),
        seconds=seconds,
        waited_seconds=waited_seconds,
    )
