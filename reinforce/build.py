"""`reinforce build`: run a teacher once over a transfer set under N views and keep its compressed targets."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from reinforce import catalog
from reinforce.command import OutputOptions
from reinforce.data import Listing, check_keys_match
from reinforce.errors import (
    BuildError,
    CorruptStoreError,
    EnvironmentMismatchError,
    OutputExistsError,
    StoppedError,
    StoreAccessError,
    StoreError,
    UsageError,
)
from reinforce.inspect_store import StoreSummary, summarize
from reinforce.job import Ledger, Owner, Share, living_builders
from reinforce.plan import Inputs, PlanEstimate, check_request, draft_plan, estimate
from reinforce.progress import Progress, human_bytes
from reinforce.store import (
    MANIFEST,
    PLAN,
    PROBES,
    LocalObjects,
    Promise,
    UnfinishedStore,
    canonical_json,
    create_store,
    finalize,
    write_probes,
)
from reinforce.target_options import TargetOptions
from reinforce.worker_process import naming_dead_workers


@dataclass(frozen=True, kw_only=True)
class BuildConfig(TargetOptions, OutputOptions):
    out: str | None = None
    """Store to write; by default the transfer set's name + .zarr."""
    shard: str | None = None
    """Compute only part i of n, as i/n; the parts join one store and may run anywhere, at any time."""
    engine: Literal["local", "ray"] = "local"
    """Who computes the units."""
    mixed_environment: bool = False
    """Let another environment continue a store: its bytes then depend on who computed what."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.overwrite and self.resume:
            raise UsageError("--overwrite and --resume contradict each other: type one of them")
        if self.engine == "ray":
            raise UsageError("--engine ray is not there yet: type --shard i/n under your scheduler instead")
        Share.parse(self.shard)

    @property
    def path(self) -> Path:
        return Path(self.out) if self.out is not None else Path(f"{catalog.resolve_data(self.transfer).name}.zarr")


def build(config: BuildConfig) -> StoreSummary | PlanEstimate:
    """Run a teacher once over a transfer set and keep its compressed targets.

    Killed at any moment it continues with --resume, and the store has the same bytes as if it had not been.
    """
    how = "type the same command with --resume" + (" instead of --overwrite" if config.overwrite else "")
    try:
        with naming_dead_workers():
            return _build(config)
    except StoreAccessError as error:
        raise BuildError(f"{error}; what is done stays: mend that, then {how}") from error
    except KeyboardInterrupt:
        raise StoppedError(f"stopped{_progress_of(config.path)}: {how} to continue") from None


def _build(config: BuildConfig) -> StoreSummary | PlanEstimate:
    objects = LocalObjects(config.path)
    _check_way(config, objects)
    inputs, started = Inputs(config), time.time()
    if config.dry_run:
        return estimate(inputs, draft_plan(inputs, inputs.freeze()))
    if config.overwrite or not (objects.exists(PLAN) and objects.exists(PROBES)):
        _create(config, inputs, objects)
    plan = UnfinishedStore(objects).plan
    check_request(plan, inputs)
    if not objects.exists(MANIFEST):
        _check_environment(config, plan, inputs.environment())
        _run(config, inputs, objects, plan, started)
    if objects.exists(MANIFEST) or len(Ledger(objects, len(plan["units"]), Owner.here()).done()) == len(plan["units"]):
        finalize(objects, plan)
    _remember(plan["transfer"]["digest"], inputs.location)
    return summarize(config.path)


def _progress_of(path: Path) -> str:
    """ " with 3 of 8 units done", where a plan says of how many."""
    objects = LocalObjects(path)
    try:
        num_units = UnfinishedStore(objects).schema.num_units
        return f" with {len(Ledger(objects, num_units, Owner.here()).done())} of {num_units} units done"
    except StoreError:
        return ""


def _remember(digest: str, location: str) -> None:
    """Where the transfer set lies is a convenience: the store is good without it."""
    try:
        catalog.remember_location(digest, location)
    except UsageError as error:
        click.echo(f"reinforce: {error}; type --transfer when you distill", err=True)


def _check_way(config: BuildConfig, objects: LocalObjects) -> None:
    """Nothing is overwritten silently, and nothing but a store is ever removed."""
    path = config.path
    if not path.exists():
        return
    is_store = objects.exists(PLAN) or objects.exists(MANIFEST)
    if not path.is_dir() or not (is_store or _is_empty(path)):
        raise OutputExistsError(path, "it is not a store; type --out to write elsewhere")
    if config.overwrite:
        return  # removed when everything that can be wrong with the new one has been looked at
    if objects.exists(MANIFEST) and not config.resume:
        raise OutputExistsError(path)
    if objects.exists(PLAN) and not (config.resume or config.shard):
        raise OutputExistsError(path, "it is unfinished; type --resume to continue it or --overwrite to start again")


def _is_empty(path: Path) -> bool:
    """But for hidden files: a kill during the very first put leaves one."""
    return all(entry.name.startswith(".") for entry in path.iterdir())


def _create(config: BuildConfig, inputs: Inputs, objects: LocalObjects) -> None:
    draft = draft_plan(inputs, inputs.freeze())
    needed, free = estimate(inputs, draft).bytes, shutil.disk_usage(_existing_parent(config.path)).free
    if needed > free:
        raise BuildError(
            f"the store needs {human_bytes(needed)} and {human_bytes(free)} are free: "
            "free some, or type fewer --views or promise less"
        )
    if config.overwrite and config.path.exists():
        _remove(objects)
        objects = LocalObjects(config.path)
    create_store(objects, draft.plan, draft.codec, draft.samples)
    write_probes(objects, draft.fingerprint.kept, draft.fingerprint.to_json())


def _remove(objects: LocalObjects) -> None:
    """A builder that went on below would put its units into the new store."""
    others = [] if objects.exists(MANIFEST) else living_builders(objects)
    if others:
        who = f"process {others[0].pid} on {others[0].host}"
        raise BuildError(f"{objects.name} is being built by {who}: stop that first, or type another --out")
    try:
        shutil.rmtree(objects.root)
        _run_log(objects.root).unlink(missing_ok=True)
    except OSError as error:
        raise BuildError(f"cannot remove {objects.name}: {error.strerror}; type another --out") from error


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in [path, *path.absolute().parents] if parent.exists())


def _check_environment(config: BuildConfig, plan: dict[str, Any], here: dict[str, Any]) -> None:
    planned = plan["environment"]
    differing = [f"{name} {planned.get(name)} -> {here[name]}" for name in here if planned.get(name) != here[name]]
    if differing and not config.mixed_environment:
        raise EnvironmentMismatchError(
            f"this is another environment than the plan's ({', '.join(differing)}): "
            "continue there, or type --mixed-environment to give up equal bytes"
        )


def _run(config: BuildConfig, inputs: Inputs, objects: LocalObjects, plan: dict[str, Any], started: float) -> None:
    """`started`: before the plan was drafted, if this call has done so; freezing and calibration are booked, too."""
    from reinforce.engine.feed import UnitRenderer, ViewFeed
    from reinforce.engine.local import UnitRunner, choose_workers
    from reinforce.teacher import fix_arithmetic

    fix_arithmetic(plan["threads"])
    unfinished = UnfinishedStore(objects)
    schema, listing = unfinished.schema, _stored_listing(unfinished)
    check_keys_match(inputs.source, listing.keys_by_shard(), is_whole=plan["limit"] is None)
    ledger = Ledger(objects, schema.num_units, Owner.here())
    done = set(ledger.done())
    todo = [unit for unit in Share.parse(config.shard).units(schema.num_units) if unit not in done]
    renderer = UnitRenderer(
        inputs.source,
        listing,
        inputs.policy,
        schema.units,
        schema.num_views,
        plan["batch_size"],
        plan["block_rows"],
        config.unit_budget_mb << 20,
        inputs.words,
    )
    keys = [listing.keys[start:stop] for _, start, stop in schema.units]
    promise = Promise.from_json(plan["promise"], schema.measure)
    runner = UnitRunner(inputs.teacher, schema, unfinished.codec(), ledger, keys, promise)
    total, left = (schema.num_views * count for count in (schema.num_samples, sum(len(keys[unit]) for unit in todo)))
    workers = choose_workers(config.workers, left, inputs.teacher.device.type)
    try:
        with Progress("build", total, unit="views", initial=total - left, quiet=config.quiet) as progress:
            runner.run(ViewFeed(renderer, ledger, todo), workers, progress)
    finally:
        _book(objects.root, plan, inputs, started, runner.units_written)
        ledger.release()


def _stored_listing(store: UnfinishedStore) -> Listing:
    """The frozen listing, from the store: reading every image again would cost as much as the first time."""
    samples, transfer = store.samples(), store.plan["transfer"]
    listing = Listing.from_columns(
        shard_names=[shard["name"] for shard in transfer["shards"]],
        shard_sizes=[shard["samples"] for shard in transfer["shards"]],
        keys=samples.keys,
        sha64=samples.sha64,
        num_bytes=[0] * len(samples.keys),
        width=samples.width,
        height=samples.height,
    )
    if listing.digest != transfer["digest"]:
        raise CorruptStoreError("the store's samples are not the plan's: type --overwrite to build it again")
    return listing


def _run_log(store: Path) -> Path:
    """Beside the store: what a store holds is free of times and devices."""
    return Path(f"{store}.runs.jsonl")


def _book(store: Path, plan: dict[str, Any], inputs: Inputs, started: float, num_units: int) -> None:
    """A line in the store's run log; the plan's digest says of which store that lay here it is."""
    record = {
        "verb": "build",
        "plan_digest": hashlib.sha256(canonical_json(plan)).hexdigest(),
        "started": started,
        "seconds": time.time() - started,
        "units": num_units,
        "device": str(inputs.teacher.device),
    }
    path = _run_log(store)
    try:
        _append_line(path, json.dumps(record))
    except OSError as error:
        click.echo(f"reinforce: {path} misses this run ({error.strerror}): the store is good without it", err=True)


def _append_line(path: Path, line: str) -> None:
    """Whole, or not at all. Raises OSError."""
    data = f"{line}\n".encode()
    with path.open("ab", buffering=0) as log:
        before = log.tell()
        if log.write(data) < len(data):
            log.truncate(before)
            raise OSError(errno.ENOSPC, "no space left on device")
