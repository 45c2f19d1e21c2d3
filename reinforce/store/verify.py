"""Is a store what its manifest says? By names and sizes, by sampled hashes, or by every hash and every chunk."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from reinforce.errors import CorruptStoreError, MissingStoreError, StoreError, UnfinishedStoreError
from reinforce.store.finalize import build_manifest
from reinforce.store.inventory import differences, is_of_units, mending_advice
from reinforce.store.manifest import Manifest, read_manifest
from reinforce.store.metadata_repair import is_zarr_metadata
from reinforce.store.objects import Objects
from reinforce.store.places import open_objects
from reinforce.store.reader import Store
from reinforce.store.records import read_records
from reinforce.store.repair import REBUILD, repair_store
from reinforce.store.schema import CARD, MANIFEST, PLAN, UNITS
from reinforce.store.verified import DamagedObjectError, VerifiedObjects

CANNOT_MEND_MANIFEST = "the manifest cannot be repaired here, pull it again with --repair or build the store again"
Level = Literal["quick", "sampled", "full"]
MAX_PROBLEMS = 1000
_SAMPLED_SHARE, _SAMPLED_LEAST = 0.05, 16


@dataclass(frozen=True)
class Report:
    """What `verify` found. Every problem names its object; `repaired` says what was done, and what to type next."""

    level: Level
    problems: list[str]
    repaired: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return {"ok": self.ok, "level": self.level, "problems": self.problems, "repaired": self.repaired}


def verify(location: str | Path | Objects, level: Level = "quick", *, repair: bool = False) -> Report:
    """Check a finished store.

    quick: the manifest against its digest, every name and size. sampled: also the hashes of all metadata and of a
    twentieth of the rest, chosen by the manifest's digest. full: also every hash, every chunk decodes, and
    what the manifest says of samples and fidelity is that of the units' records.
    `repair` drops the bad units (`repair.py`), after checking at the given level.

    Raises MissingStoreError and UnfinishedStoreError; all else is a problem in the report, at most 1,000 of them.
    """
    objects = open_objects(location)
    try:
        manifest = read_manifest(objects)
    except (MissingStoreError, UnfinishedStoreError):
        raise
    except StoreError as error:
        return Report(level, [f"{MANIFEST}: {error}"], [CANNOT_MEND_MANIFEST] if repair else [])
    bad: dict[str, str] = {}
    for path, problem in _problems(objects, manifest, level):
        bad.setdefault(path, problem)
        if len(bad) >= MAX_PROBLEMS and not repair:
            break
    repaired = [CANNOT_MEND_MANIFEST] if repair and MANIFEST in bad else []
    if repair and (mendable := bad.keys() - {MANIFEST}):
        repaired += repair_store(objects, manifest, mendable)
    return Report(level, [bad[path] for path in sorted(bad)][:MAX_PROBLEMS], repaired)


def check_common(objects: Objects) -> None:
    """Hash what all units of a finished store need: metadata, samples, calibration, probes.

    Raises CorruptStoreError.
    """
    manifest = read_manifest(objects)
    verified = VerifiedObjects(objects, manifest)
    for path in sorted(path for path in manifest.objects if not is_of_units(path) and path not in CARD):
        try:
            verified.check(path)
        except DamagedObjectError as error:
            advice = mending_advice(objects.name) if is_zarr_metadata(path) else REBUILD
            raise CorruptStoreError(f"{objects.name}: {path}: {error.reason}: {advice}") from None


def _problems(objects: Objects, manifest: Manifest, level: Level) -> Iterator[tuple[str, str]]:
    """(path, one line naming it); a path may come twice."""
    bad = set()
    for difference in differences(objects, manifest):
        bad.add(difference.path)
        yield difference.path, str(difference)
    verified = VerifiedObjects(objects, manifest)
    for path in _paths_to_hash(manifest, level):
        if path in bad:
            continue
        try:
            verified.check(path)
        except DamagedObjectError as error:
            bad.add(path)
            yield path, f"{path}: {error.reason}"
    if level == "full" and not any(_is_metadata(path) for path in bad):
        yield from _content_problems(objects, manifest, bad)


def _paths_to_hash(manifest: Manifest, level: Level) -> list[str]:
    if level == "quick":
        return [PLAN]
    if level == "full":
        return sorted(manifest.objects)
    rest = [path for path in manifest.objects if not _is_metadata(path)]
    ranks = {path: hashlib.sha256(f"{manifest.digest}:{path}".encode()).digest() for path in rest}
    num_sampled = max(_SAMPLED_LEAST, round(_SAMPLED_SHARE * len(rest)))
    sampled = sorted(rest, key=ranks.__getitem__)[:num_sampled]
    always = [path for path in manifest.objects if _is_metadata(path) or path in CARD]
    return sorted({*always, *sampled})


def _is_metadata(path: str) -> bool:
    """Without which nothing else can be read."""
    return path not in CARD and (path.endswith(".json") or path.startswith("codec/"))


def _content_problems(objects: Objects, manifest: Manifest, bad: set[str]) -> Iterator[tuple[str, str]]:
    """What hashes cannot show: a store that was written wrongly, or by somebody hostile."""
    try:
        store = Store(objects, manifest)
    except DamagedObjectError as error:
        yield error.path, f"{error.path}: {error.reason}"
        return
    except StoreError as error:
        yield PLAN, f"{PLAN}: {error}"
        return
    try:
        read_records(store.objects, store.schema)
    except StoreError as error:
        yield UNITS, str(error)
        return
    yield from _manifest_problems(store)
    yield from _target_problems(store, bad)
    yield from _array_problems(store, bad)
    if not any(path.startswith("samples/") for path in bad):
        yield from _sample_problems(store)


def _manifest_problems(store: Store) -> Iterator[tuple[str, str]]:
    """What the manifest says beside hashes: it follows from the plan, the units' records and the objects' sizes."""
    listed = {path: digest for path, digest in store.manifest.objects.items() if path not in CARD}
    expected = build_manifest(store.schema, listed, read_records(store.objects, store.schema))
    for name in ("summary", "certificate", "skipped"):
        if getattr(expected, name) != getattr(store.manifest, name):
            yield MANIFEST, f"{MANIFEST}: its {name} is not that of the units' records"


def _target_problems(store: Store, bad: set[str]) -> Iterator[tuple[str, str]]:
    for unit in range(store.num_units):
        if bad.intersection(array.object_path(unit) for array in store.target_arrays.values()):
            continue
        try:
            for view in range(store.num_views):
                store.read_targets(unit, view)
            _decode_chunks(store, unit)
        except DamagedObjectError as error:
            yield error.path, f"{error.path}: {error.reason}"


def _decode_chunks(store: Store, unit: int) -> None:
    """Also those that no row of the unit asks for."""
    for array in store.target_arrays.values():
        for chunk in range(array.layout.chunks_per_shard):
            store.objects.chunk_of(array.layout, array.object_path(unit), chunk)


def _array_problems(store: Store, bad: set[str]) -> Iterator[tuple[str, str]]:
    for layout in store.layouts():
        if layout.path.startswith("targets/"):
            continue
        for shard in layout.shards():
            path = layout.object_path(*shard)
            if path in bad:
                continue
            try:
                for chunk in layout.chunks(shard):
                    store.objects.chunk(layout, shard, chunk)
            except DamagedObjectError as error:
                bad.add(path)
                yield path, f"{path}: {error.reason}"


def _sample_problems(store: Store) -> Iterator[tuple[str, str]]:
    skipped: dict[int, list[int]] = {}
    for record in read_records(store.objects, store.schema):
        skipped[record.unit] = [row.row_in_unit for row in record.skipped]
    if not np.array_equal(store.states(), store.schema.states(skipped)):
        path = store.schema.sample_layouts(1)["state"].object_path(0)
        yield path, f"{path}: differs from the units' records"
    try:
        for start in range(0, store.num_samples, 1 << 16):
            store.keys(start, min(start + (1 << 16), store.num_samples))
    except DamagedObjectError as error:
        yield error.path, f"{error.path}: {error.reason}"
