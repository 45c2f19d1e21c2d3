"""`reinforce build`: run a teacher once over a transfer set under N views and keep its compressed targets."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from reinforce import catalog, run_log
from reinforce.counting import counted
from reinforce.engine.options import EngineOptions
from reinforce.errors import (
    BuildError,
    OutputExistsError,
    RemoteAccessError,
    StoppedError,
    StoreAccessError,
    StoreError,
    UsageError,
)
from reinforce.inspect_store import StoreSummary, summarize
from reinforce.job import Ledger, Owner, Share, check_place, living_builders
from reinforce.plan import PlanEstimate
from reinforce.progress import Progress, human_bytes
from reinforce.store import (
    MANIFEST,
    PLAN,
    PROBES,
    Licences,
    LocalObjects,
    UnfinishedStore,
    check_common,
    create_store,
    finalize,
    local_folder,
    write_probes,
)
from reinforce.store.interrupted import growing_path
from reinforce.target_options import TargetOptions
from reinforce.worker_process import naming_dead_workers

if TYPE_CHECKING:
    from reinforce.engine.builder import BuildTask
    from reinforce.engine.work import WorkBook
    from reinforce.planning import Inputs


@dataclass(frozen=True, kw_only=True)
class BuildConfig(TargetOptions, EngineOptions):
    out: str | None = None
    """Store to write; by default the transfer set's name + .zarr."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.overwrite and self.resume:
            raise UsageError("--overwrite and --resume contradict each other: type one of them")

    @property
    def path(self) -> Path:
        if self.out is None:
            return Path(f"{catalog.resolve_data(self.transfer).name}.zarr")
        return local_folder(self.out, "build into a folder, then type reinforce push FOLDER URL")

    @property
    def verb(self) -> str:
        """Of the command line that asks for it."""
        return "build"

    @property
    def models(self) -> tuple[str, ...]:
        """What is asked for targets."""
        return (self.teacher,)

    def check_inputs(self) -> None:
        """Whether all that is read has a known name. Raises UnknownNameError, MissingDataError, ModelError."""
        from reinforce.models import check_model

        catalog.resolve_data(self.transfer)
        for name in self.models:
            check_model(name)


def build(config: BuildConfig) -> StoreSummary | PlanEstimate:
    """Run a teacher once over a transfer set and keep its compressed targets.

    Killed at any moment it continues with --resume, and the store has the same bytes as if it had not been. A finished
    store of fewer views grows to --views: what it holds stays, bit for bit.
    """
    how = "type the same command with --resume" + (" instead of --overwrite" if config.overwrite else "")
    try:
        with naming_dead_workers():
            return _build(config)
    except (StoreAccessError, RemoteAccessError) as error:
        raise BuildError(f"{error}; what is done stays: mend that, then {how}") from error
    except KeyboardInterrupt:
        raise StoppedError(f"stopped{_progress_of(config.path)}: {how} to continue") from None


def _build(config: BuildConfig) -> StoreSummary | PlanEstimate:
    from reinforce import growth
    from reinforce.planning import Inputs, check_request, draft_plan, estimate
    from reinforce.teacher import choose_devices

    growth.adopt(config.path)
    objects = store = LocalObjects(config.path)
    num_stored = 0 if config.overwrite else growth.stored_views(store)
    grows = 0 < num_stored < config.num_views
    try:
        _check_way(config, store, grows=grows)
    except OutputExistsError:
        config.check_inputs()  # whoever mistyped both is told of what is read first
        raise
    devices = choose_devices(config.device)
    config, started = replace(config, device=devices[0]), time.time()
    is_finished = num_stored >= config.num_views
    if is_finished:
        check_common(store)
    with nullcontext() if is_finished or config.dry_run else config.connected():
        inputs = Inputs(config)
        if config.dry_run:
            return estimate(inputs, draft_plan(inputs, inputs.freeze()), config.path, num_stored if grows else 0)
        if grows:
            objects = growth.begin(inputs, store, unit_budget_mb=config.unit_budget_mb,
                                   mixed_environment=config.mixed_environment)  # fmt: skip
        elif config.overwrite or not (objects.exists(PLAN) and objects.exists(PROBES)):
            _create(config, inputs, objects)
        plan = UnfinishedStore(objects).plan
        check_request(plan, inputs)
        if not objects.exists(MANIFEST):
            _run(config, devices, inputs, objects, started, base=store if grows else None)
    if objects.exists(MANIFEST) or len(Ledger(objects, len(plan["units"]), Owner.here()).done()) == len(plan["units"]):
        finalize(objects, plan)
        growth.adopt(config.path)
    _remember(plan["transfer"]["digest"], inputs.location)
    return summarize(config.path)


def _progress_of(path: Path) -> str:
    """ " with 3 of 8 units done", where a plan says of how many."""
    objects = LocalObjects(path)
    try:
        num_units = UnfinishedStore(objects).schema.num_units
        return f" with {len(Ledger(objects, num_units, Owner.here()).done())} of {counted(num_units, 'unit')} done"
    except StoreError:
        return ""


def _remember(digest: str, location: str) -> None:
    """Where the transfer set lies is a convenience: the store is good without it."""
    try:
        catalog.remember_location(digest, location)
    except UsageError as error:
        click.echo(f"reinforce: {error}; type --transfer when you distill", err=True)


def _check_way(config: BuildConfig, objects: LocalObjects, *, grows: bool) -> None:
    """Nothing is overwritten silently, and nothing but a store is ever removed."""
    from reinforce import growth

    path = config.path
    check_place(path, objects)
    if grows:
        growth.check_growing(path, goes_on=config.resume or config.shard is not None)
        return
    if config.overwrite:
        return  # removed when everything that can be wrong with the new one has been looked at
    if not config.resume:
        growth.check_free(objects)
    if objects.exists(PLAN) and not (config.resume or config.shard):
        raise OutputExistsError(path, "it is unfinished; type --resume to continue it or --overwrite to start again")


def _create(config: BuildConfig, inputs: Inputs, objects: LocalObjects) -> None:
    from reinforce import growth
    from reinforce.planning import draft_plan, estimate

    draft = draft_plan(inputs, inputs.freeze())
    _warn_of_unknown(Licences.of_plan(draft.plan))
    found = estimate(inputs, draft, config.path)
    if found.bytes > found.disk_free_bytes:
        raise BuildError(
            f"the store needs {human_bytes(found.bytes)} and {human_bytes(found.disk_free_bytes)} are free: "
            "free some, or type fewer --views or promise less"
        )
    if config.overwrite:
        if growth.has_begun(config.path):
            _remove(LocalObjects(growing_path(config.path)))
        if config.path.exists():
            _remove(objects)
        objects = LocalObjects(config.path)
    create_store(objects, draft.plan, draft.codec, draft.samples)
    write_probes(objects, draft.fingerprint.kept, draft.fingerprint.to_json())


def _warn_of_unknown(licences: Licences) -> None:
    """Before the hours of a build, not after them."""
    if licences.unknown:
        of = " and of ".join(licences.unknown)
        click.echo(f"warning: the licence of {of} is unknown, and the store will say so: state it in the catalog "
                   "(license = ...) or by --teacher-license and --data-license", err=True)  # fmt: skip


def _remove(objects: LocalObjects) -> None:
    """A builder that went on below would put its units into the new store."""
    others = [] if objects.exists(MANIFEST) else living_builders(objects)
    if others:
        who = f"process {others[0].pid} on {others[0].host}"
        raise BuildError(f"{objects.name} is being built by {who}: stop that first, or type another --out")
    try:
        shutil.rmtree(objects.root)
        run_log.log_path(objects.root).unlink(missing_ok=True)
    except OSError as error:
        raise BuildError(f"cannot remove {objects.name}: {error.strerror}; type another --out") from error


def _run(config: BuildConfig, devices: Sequence[str], inputs: Inputs, objects: LocalObjects, started: float,
         base: LocalObjects | None) -> None:  # fmt: skip
    """`started`: before the plan was drafted, if this call has done so; freezing and calibration are booked, too.
    `base`: the store that this one grows from."""
    from reinforce.engine.builder import BuildTask
    from reinforce.engine.work import WorkBook

    store = UnfinishedStore(objects)
    ledger = Ledger(objects, store.schema.num_units, Owner.here())
    done = set(ledger.done())
    todo = [unit for unit in Share.parse(config.shard).units(ledger.num_units) if unit not in done]
    task = BuildTask(config=config, objects=objects, owner=ledger.owner, base=base)
    total, left = (task.num_views(store.schema, units) for units in (range(ledger.num_units), todo))
    with Progress(config.verb, total, unit="views", initial=total - left, quiet=config.quiet) as progress:
        keep = partial(run_log.book, config.path, store.plan, "build")
        book = WorkBook(progress, str(inputs.teacher.device), started, keep)
        try:
            _compute(task, devices, inputs, todo, book)
        finally:
            book.close()
            ledger.release()


def _compute(task: BuildTask, devices: Sequence[str], inputs: Inputs, todo: Sequence[int], book: WorkBook) -> None:
    """By the engine that was asked for."""
    if task.config.engine == "ray":
        from reinforce.engine.ray_engine import compute_on_ray

        compute_on_ray(task, todo, book)
    elif len(devices) > 1:
        from reinforce.engine.devices import build_on_devices

        build_on_devices(task, devices, todo, book)
    else:
        from reinforce.engine.local import build_here

        build_here(task, inputs, todo, book)
