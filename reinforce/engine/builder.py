"""What computes units of a store, in whatever process an engine has it: one teacher on one device, and the plan.

Every engine builds units through `UnitBuilder.build`, so that it does not matter to a store who computed what.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from reinforce.data import check_keys_match
from reinforce.engine.commits import OthersFollow, always, never
from reinforce.engine.feed import UnitQueue, UnitRenderer, ViewFeed, open_feed
from reinforce.engine.runner import UnitRunner
from reinforce.engine.unit_task import UnitTask, Workload
from reinforce.engine.work import Work
from reinforce.errors import EnvironmentMismatchError
from reinforce.job import Ledger
from reinforce.planning import Inputs, check_request
from reinforce.store import PLAN, GrownUnits, Objects, Promise, Schema, Store, UnfinishedStore
from reinforce.stored_listing import stored_listing
from reinforce.teacher import fix_arithmetic
from reinforce.worker_process import naming_dead_workers

if TYPE_CHECKING:
    from reinforce.build import BuildConfig


@dataclass(frozen=True, kw_only=True)
class BuildTask(UnitTask):
    """Units of a store."""

    verb = "build"
    request = PLAN

    config: BuildConfig
    """With one device."""
    base: Objects | None = None
    """The finished store that this one grows from."""

    def num_views(self, schema: Schema, units: Iterable[int]) -> int:
        """That are computed of all the units' samples."""
        stored = 0 if self.base is None else schema.grown_from[-1]
        return (schema.num_views - stored) * sum(schema.unit_size(unit) for unit in units)

    def workload(self) -> Workload:
        store = UnfinishedStore(self.objects)
        return Workload(num_units=store.schema.num_units, device=self.config.device, threads=store.plan["threads"],
                        workers=self.config.workers, amount=partial(self.num_views, store.schema))  # fmt: skip

    def open_builder(self) -> UnitBuilder:
        """Raises what opening the teacher and the transfer set does, BuildError where either is not the plan's, and as
        `UnitBuilder`."""
        plan = UnfinishedStore(self.objects).plan
        with contextlib.redirect_stderr(io.StringIO()):  # what there is to say of them, the builder has said
            inputs = Inputs(self.config)
        check_request(plan, inputs)
        return UnitBuilder(self, inputs)


class UnitBuilder:
    """Of one process. Opening one reads the plan and lists the transfer set; nothing is written but by `build`."""

    def __init__(self, task: BuildTask, inputs: Inputs) -> None:
        """`inputs` must be the plan's (`check_request`). Raises EnvironmentMismatchError where the bits would differ,
        TransferMismatchError for another transfer set."""
        config, objects = task.config, task.objects
        store = UnfinishedStore(objects)
        plan, schema, listing = store.plan, store.schema, stored_listing(store)
        check_environment(plan, inputs.environment(), config.mixed_environment)
        check_keys_match(inputs.source, listing.keys_by_shard(), is_whole=plan["limit"] is None)
        listing = listing.with_keys(key for shard in inputs.source.shards for key in shard.keys)
        fix_arithmetic(plan["threads"])
        self.schema, self.device = schema, inputs.teacher.device
        self.ledger = Ledger(objects, schema.num_units, task.owner)
        grown = None if task.base is None else GrownUnits(Store.open(task.base), schema)
        self.renderer = UnitRenderer(
            inputs.source,
            listing,
            inputs.policy,
            schema.units,
            range(0 if grown is None else grown.first_view, schema.num_views),
            plan["batch_size"],
            plan["block_rows"],
            config.unit_budget_mb << 20,
            inputs.words,
        )
        keys = [listing.keys[start:stop] for _, start, stop in schema.units]
        promise = Promise.from_json(plan["promise"], schema.measure)
        self.runner = UnitRunner(inputs.teacher, schema, store.codec(), objects, keys, promise, plan["threads"], grown)

    @property
    def shares_cores(self) -> bool:
        """Whether the teacher computes where units are encoded."""
        return self.device.type == "cpu"

    def build(self, queue: UnitQueue, workers: int, others_follow: OthersFollow = always) -> Iterator[Work]:
        """Render, run the teacher, encode and commit the units that a queue gives; says after each batch what was done.

        `others_follow`: of the queue's units; a teacher on the CPU has nothing committed beside it.

        Raises WorkerDiedError where a decoding process is killed, NonFiniteTargetError, and what reading images and
        writing objects raises; what is committed stays.
        """
        feed = open_feed(ViewFeed(self.renderer, queue), workers)
        with naming_dead_workers(), contextlib.closing(feed):  # after it no worker claims anything
            yield from self.runner.run(feed, never if self.shares_cores else others_follow)


def check_environment(plan: dict[str, Any], here: dict[str, Any], allow_mixed: bool) -> None:
    """Raises EnvironmentMismatchError naming what would give other bits than the plan's environment."""
    planned = plan["environment"]
    differing = [f"{name} {planned.get(name)} -> {here.get(name)}" for name in dict.fromkeys((*here, *planned))
                 if planned.get(name) != here.get(name)]  # fmt: skip
    if differing and not allow_mixed:
        raise EnvironmentMismatchError(
            f"this is another environment than the plan's ({', '.join(differing)}): "
            "continue there, or type --mixed-environment to give up equal bytes"
        )
