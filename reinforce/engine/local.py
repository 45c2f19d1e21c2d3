"""Units computed by this process alone, decoding workers beside it."""

from __future__ import annotations

from collections.abc import Sequence

from reinforce.decoding_workers import choose_workers
from reinforce.engine.builder import BuildTask, UnitBuilder
from reinforce.engine.feed import ClaimedUnits
from reinforce.engine.work import WorkBook
from reinforce.planning import Inputs


def build_here(task: BuildTask, inputs: Inputs, todo: Sequence[int], book: WorkBook) -> None:
    """Compute every unit whose claim is won."""
    builder = UnitBuilder(task, inputs)
    workers = choose_workers(task.config.workers, task.num_views(builder.schema, todo), builder.device.type)
    for work in builder.build(ClaimedUnits(builder.ledger, todo), workers):
        book.add(work)
