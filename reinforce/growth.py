"""`build --views 20` on a finished store of ten: its targets stay, bit for bit, and those of ten views more join them.

The grown store is made beside it as any store is, under a plan and unit by unit, and takes its place when it is whole:
until then the old one is what its readers know.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from pathlib import Path
from typing import Any

import click

from reinforce.counting import counted
from reinforce.data import UnitImages, check_keys_match
from reinforce.errors import BuildError, OutputExistsError, StoreAccessError
from reinforce.job import check_place
from reinforce.locking import hold_lock
from reinforce.planning import Inputs, check_request
from reinforce.progress import human_bytes
from reinforce.store import (
    EMBEDDINGS,
    MANIFEST,
    PLAN,
    PROBES,
    TEXT_FEATURES,
    LocalObjects,
    Store,
    UnfinishedStore,
    canonical_json,
    create_store,
    read_manifest,
    write_probes,
)
from reinforce.store.canonical import Fields, one_line, sha256_hex
from reinforce.store.interrupted import growing_path
from reinforce.store.marker import is_leftover
from reinforce.store.schema import MAX_VIEWS, PART_FORMAT
from reinforce.stored_listing import stored_listing
from reinforce.units import check_memory
from reinforce.views import Fingerprint, UnitReplayer
from reinforce.views import check as check_fingerprint

OF_FIXED_VIEWS = (TEXT_FEATURES, EMBEDDINGS)
ALL_VIEWS_ALIKE = ("center", "whole")
"""Policies of which one view is enough."""


def _replaced_path(store: Path) -> Path:
    """Where a store is moved by the one that grew from it, and then removed."""
    return Path(f"{store}.replaced")


def stored_views(store: LocalObjects) -> int:
    """Of a finished store; 0 where there is none."""
    if not store.exists(MANIFEST):
        return 0
    return Fields(read_manifest(store).summary, MANIFEST).integer("views", 1, MAX_VIEWS)


def check_free(store: LocalObjects) -> None:
    """Raises OutputExistsError for a finished store; the message says whether it could grow, and how."""
    if not store.exists(MANIFEST):
        return
    plan, num_views = UnfinishedStore(store).plan, stored_views(store)
    if plan["format"] == PART_FORMAT or plan["target"] in OF_FIXED_VIEWS or plan["policy"]["name"] in ALL_VIEWS_ALIKE:
        raise OutputExistsError(store.name)
    raise OutputExistsError(store.name, f"it has {counted(num_views, 'view')}: type more (--views {2 * num_views}) to "
                            "let it grow, --overwrite to replace it or --out to write elsewhere")  # fmt: skip


def begin(inputs: Inputs, store: LocalObjects, *, unit_budget_mb: int, mixed_environment: bool) -> LocalObjects:
    """Plan the store of more views; may be repeated. Returns where it grows.

    Raises BuildError where it was begun with other options or would not fit the disk, EnvironmentMismatchError,
    TransferMismatchError and ReplayDriftError where the stored views would not be those of here.
    """
    from reinforce.engine.builder import check_environment

    base, place = Store.open(store), LocalObjects(growing_path(store.root))
    plan = _grown_plan(base, inputs.options.num_views)
    check_request(plan, inputs)
    check_environment(plan, inputs.environment(), mixed_environment)
    check_memory(store.name, base.unit_rows, plan["views"], math.prod(base.item_shape), unit_budget_mb)
    _check_begun(place, plan)
    if not (place.exists(PLAN) and place.exists(PROBES)):
        _create(inputs, base, place, plan)
    return place


def _grown_plan(base: Store, num_views: int) -> dict[str, Any]:
    before = {"views": base.num_views, "plan_digest": base.manifest.plan_digest}
    return base.plan | {"views": num_views, "grown_from": [*base.plan.get("grown_from", []), before]}


def _check_begun(place: LocalObjects, plan: dict[str, Any]) -> None:
    if place.exists(PLAN) and place.get(PLAN) != canonical_json(plan):
        views = UnfinishedStore(place).schema.num_views
        raise BuildError(f"{place.name} has begun to grow to {views} views, maybe of another store: type "
                         f"--views {views} --resume to go on, or remove that folder")  # fmt: skip


def _create(inputs: Inputs, base: Store, place: LocalObjects, plan: dict[str, Any]) -> None:
    if not inputs.options.quiet:
        click.echo(f"{base.name} grows from {base.num_views} to {plan['views']} views in {place.name}", err=True)
    _check_disk(base, place, plan["views"])
    listing = stored_listing(UnfinishedStore(base.objects.objects))
    check_keys_match(inputs.source, listing.keys_by_shard(), is_whole=plan["limit"] is None)
    units = [UnitImages.of(inputs.source, listing, *unit) for unit in base.units]
    _check_replay(inputs, base, units)
    fingerprint = inputs.fingerprint(units)
    create_store(place, plan, base.codec, UnfinishedStore(base.objects.objects).samples())
    write_probes(place, fingerprint.to_array(), fingerprint.to_json())


def _check_disk(base: Store, place: LocalObjects, num_views: int) -> None:
    needed = base.manifest.num_bytes * num_views // base.num_views
    free = shutil.disk_usage(place.root.absolute().parent).free
    if needed > free:
        raise BuildError(f"the grown store needs up to {human_bytes(needed)} beside the old one, and "
                         f"{human_bytes(free)} are free: free some, or type fewer --views")  # fmt: skip


def _check_replay(inputs: Inputs, base: Store, units: list[UnitImages]) -> None:
    """The stored views must be rendered here as they were: one store's pixels have one origin."""
    probes = base.probes()
    if probes is not None:
        fingerprint = Fingerprint.from_json(*probes)
        check_fingerprint(
            fingerprint, lambda unit: UnitReplayer(inputs.policy, units[unit].keys, units[unit].read), exact=True
        )


def has_begun(store: Path) -> bool:
    """Whether a store has begun to grow, and what lies there is not somebody's own of that name."""
    place = LocalObjects(growing_path(store))
    return place.exists(PLAN) and "grown_from" in UnfinishedStore(place).plan


def check_growing(store: Path, *, goes_on: bool) -> None:
    """Raises OutputExistsError where something is where a store would grow that is not to be gone on with."""
    place, old = LocalObjects(growing_path(store)), _replaced_path(store)
    check_place(place.root, place)
    if old.exists() and not (old.is_dir() and not any(old.iterdir())):
        raise OutputExistsError(old, f"{store} would be moved there when it has grown; move that elsewhere")
    if place.exists(PLAN) and not goes_on:
        raise OutputExistsError(place.root, f"{store} has begun to grow there; type --resume to go on, or remove it")


def adopt(store: Path) -> None:
    """Put a grown store that is whole in the place of the one that it grew from; may be repeated after a kill.

    Raises StoreAccessError where the system does not let it.
    """
    grown, old = growing_path(store), _replaced_path(store)
    if not (grown.exists() or old.exists()):
        return
    try:
        with hold_lock(grown):
            if _grew(grown, store if store.exists() else old):
                if store.exists():
                    store.rename(old)
                grown.rename(store)
            if _grew(store, old):
                _remove(old)
        Path(f"{grown}.lock").unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreAccessError(f"cannot put {grown} in the place of {store}: {reason}") from error


def _grew(grown: Path, old: Path) -> bool:
    """Whether a store is whole and grew from this very one."""
    objects = LocalObjects(grown)
    if not objects.exists(MANIFEST):
        return False
    ancestors = UnfinishedStore(objects).plan.get("grown_from", [])
    with contextlib.suppress(FileNotFoundError):
        return bool(ancestors) and ancestors[-1]["plan_digest"] == sha256_hex(LocalObjects(old).get(PLAN))
    return False


def _remove(old: Path) -> None:
    """The old store and nothing else; its plan last, by which a removal that was killed is known again."""
    objects = LocalObjects(old)
    listed = read_manifest(objects).objects if objects.exists(MANIFEST) else {}
    leftovers = filter(is_leftover, [path for path, _ in objects.list()])
    for path in [*sorted(listed.keys() - {PLAN}), *leftovers, MANIFEST, PLAN]:
        objects.delete(path)
    if others := sorted(path for path, _ in objects.list()):
        click.echo(f"warning: {old} still holds what was no part of the store, such as {one_line(others[0])}: move it "
                   "elsewhere", err=True)  # fmt: skip
    with contextlib.suppress(OSError):
        old.rmdir()
