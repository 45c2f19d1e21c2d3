"""What a run came from: models that it started from, stores, their teachers; and the device time of all of it.

Links are hashes of weights wherever provenance has them, so that runs may be moved or renamed; paths, names of the
catalog and the runs that are compared only say where to look. Weights that somebody published cost nothing here.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from reinforce import catalog, run_log
from reinforce.errors import ReinforceError, UnknownNameError

from train.compare.runs import Run, UnusableRunError, mapping, read_run

MODEL_OPTIONS = ("model", "init_from", "student", "online_teacher")


@dataclasses.dataclass(frozen=True)
class StoreNode:
    """A store as its plan and its run log beside it describe it."""

    path: Path
    plan: Mapping[str, Any]
    digest: str | None
    builds: Mapping[str, float]
    """Each process that computed units -> its device seconds: copies and parts of a store name the same ones."""
    devices: frozenset[str]

    @classmethod
    def read(cls, path: Path) -> StoreNode | None:
        """None where there is no finished one."""
        try:
            plan, manifest = (
                json.loads((path / name).read_text(encoding="utf-8")) for name in ("plan.json", "manifest.json")
            )
        except (OSError, ValueError):
            return None
        if not (isinstance(plan, dict) and isinstance(manifest, dict)):
            return None
        records = run_log.builds(path, manifest.get("plan_digest"), plan)
        times = {_identity(record): record.get("seconds") for record in records}
        known = {one: float(time) for one, time in times.items() if isinstance(time, int | float)}
        devices = frozenset(str(record.get("device")) for record in records)
        return cls(path, plan, manifest.get("digest"), known if len(known) == len(times) else {}, devices)

    @property
    def num_views(self) -> int | None:
        views = self.plan.get("views")
        return views if isinstance(views, int) else None


@dataclasses.dataclass(frozen=True)
class Spent:
    """Device seconds of stages: (stage, where it lies, or which process it was) -> seconds. The same is paid once."""

    stages: Mapping[tuple[str, Path | str], float] = dataclasses.field(default_factory=dict)
    missing: frozenset[str] = frozenset()
    """What was trained or built, too, and is not here or did not book its time."""
    devices: frozenset[str] = frozenset()

    @property
    def seconds(self) -> float | None:
        """None where something is missing: a sum of what is known would flatter."""
        return None if self.missing else sum(self.stages.values())

    def by_stage(self) -> dict[str, float]:
        total: dict[str, float] = {}
        for (stage, _), seconds in self.stages.items():
            total[stage] = total.get(stage, 0.0) + seconds
        return total

    def united(self, other: Spent) -> Spent:
        """Shared stages once; of several kept checkpoints of a run the dearest, which the others are a part of."""
        keys = {**self.stages, **other.stages}
        stages = {key: max(self.stages.get(key, 0.0), other.stages.get(key, 0.0)) for key in keys}
        return Spent(stages, self.missing | other.missing, self.devices | other.devices)


class Lineage:
    """Finds ancestors among `runs`, which are known already, and on this machine."""

    def __init__(self, runs: Iterable[Run]) -> None:
        self.by_sha = {run.weights_sha256: run for run in runs if run.weights_sha256}
        self._stores: dict[Path, StoreNode | None] = {}

    def spent(self, run: Run) -> Spent:
        """Of the run and of everything that it came from."""
        total = _spent(run.verb, run.directory, run.seconds, run.devices)
        for name, parent in self.parents(run):
            if parent is None:
                total = total.united(Spent(missing=frozenset({name})))
            elif isinstance(parent, StoreNode):
                total = total.united(_built(parent))
            else:
                total = total.united(self.spent(parent))
        return total

    def parents(self, run: Run) -> Iterator[tuple[str, Run | StoreNode | None]]:
        """(name, run or store) that a training started from; None for one that cannot be found."""
        training = run.training
        if "before" in training:
            yield str(training.get("model") or training.get("init_from") or "its start"), self.start(run)
        if stored := _stored(run):
            yield from self._of_stores(run, stored)

    def start(self, run: Run) -> Run | None:
        """The run whose weights a run started from."""
        sha = run.training.get("from_sha256")
        if sha in self.by_sha:
            return self.by_sha[sha]
        names = [run.config[name] for name in MODEL_OPTIONS if isinstance(run.config.get(name), str)]
        return next(filter(None, (self._run_at(run, name, sha) for name in names)), None)

    def store(self, run: Run) -> StoreNode | None:
        """The store that a run was distilled from, of several that of its views."""
        return next((self._store(run, *one) for one in _stored(run)), None)

    def teacher(self, run: Run) -> Run | None:
        """The run that made the (first) store's teacher; None for one that is published, or is not here."""
        return self._teacher(run, teacher_record(run))

    def _teacher(self, run: Run, described: Mapping[str, Any]) -> Run | None:
        sha, name = described.get("weights_sha256"), described.get("name")
        if sha in self.by_sha:
            return self.by_sha[sha]
        return self._run_at(run, name, sha) if isinstance(name, str) else None

    def _is_published(self, run: Run, described: Mapping[str, Any]) -> bool:
        """Whether a store's teacher has weights that somebody published: a name of timm or open_clip, or a model of
        this machine with just these weights, which no run made."""
        name, sha = described.get("name"), described.get("weights_sha256")
        if not isinstance(name, str):
            return False
        return _is_published_name(name, described.get("architecture")) or any(
            _is_untrained_copy(place, sha) for place in _places(run, name)
        )

    def _of_stores(self, run: Run, stored: Sequence[tuple[str, Any]]) -> Iterator[tuple[str, Run | StoreNode | None]]:
        transfer = mapping(run.training.get("store")).get("transfer") or run.training.get("transfer", "its targets")
        for option, digest in stored if run.training.get("targets") != "online" else ():
            what = "the store" if option == "cache" else "the store of captions"
            yield f"{what} of {transfer}", self._store(run, option, digest)
        for described in (teacher_record(run), *(mapping(one.get("teacher")) for one in _other_stores(run))):
            teacher = self._teacher(run, described)
            if teacher is not None or not self._is_published(run, described):
                yield str(described.get("name", "its teacher")), teacher

    def _store(self, run: Run, option: str, digest: Any) -> StoreNode | None:
        typed = run.config.get(option)
        names = [name for name in (typed if isinstance(typed, list) else [typed]) if isinstance(name, str)]
        found = (self._store_at(place) for name in names for place in _places(run, name))
        return next((store for store in found if store is not None and store.digest == digest), None)

    def _run_at(self, child: Run, name: str, sha: str | None) -> Run | None:
        for place in _places(child, name):
            try:
                run = read_run(place)
            except UnusableRunError:
                continue
            if run.path != child.path and sha in (None, run.weights_sha256):
                return run
        return None

    def _store_at(self, place: Path) -> StoreNode | None:
        if place not in self._stores:
            self._stores[place] = StoreNode.read(place)
        return self._stores[place]


def teacher_record(run: Run) -> Mapping[str, Any]:
    """What a store's plan says of its teacher: {} for a run that had no store."""
    described = mapping(run.training.get("store")).get("teacher")
    return mapping(described or (run.training.get("teacher") if "stores" in run.training else None))


def _other_stores(run: Run) -> list[Mapping[str, Any]]:
    """What a run says of the further stores of its ensemble."""
    others = run.training.get("other_stores")
    return [mapping(one) for one in others] if isinstance(others, list) else []


def _stored(run: Run) -> list[tuple[str, Any]]:
    """(option, digest) of each store that a run was trained from."""
    one, two = mapping(run.training.get("store")), mapping(run.training.get("stores"))
    if one:
        return [("cache", store.get("manifest_digest")) for store in (one, *_other_stores(run))]
    return [("cache", two.get("store_digest")), ("text_cache", two.get("text_store_digest"))] if two else []


def _is_published_name(name: str, architecture: Any) -> bool:
    """Whether "ARCHITECTURE.TAG" or "open_clip:MODEL/TAG" are weights that timm or open_clip know."""
    if name.startswith("open_clip:"):
        return "/" in name and name == architecture
    if "." not in name or name.partition(".")[0] != architecture:
        return False
    from reinforce.models.timm_encoder import check_name

    try:
        check_name(name)
    except UnknownNameError:
        return False
    return True


def _is_untrained_copy(place: Path, sha: Any) -> bool:
    try:
        info = mapping(json.loads((place / "model.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False
    provenance = mapping(info.get("provenance"))
    return sha is not None and provenance.get("weights_sha256") == sha and "training" not in provenance


def _spent(stage: str, place: Path, seconds: float | None, devices: Iterable[str]) -> Spent:
    if seconds is None:
        return Spent(missing=frozenset({place.name}))
    return Spent({(stage, place): seconds}, devices=frozenset(devices))


def _built(store: StoreNode) -> Spent:
    if not store.builds:
        return Spent(missing=frozenset({store.path.name}))
    return Spent({("build", one): seconds for one, seconds in store.builds.items()}, devices=store.devices)


def _identity(record: Mapping[str, Any]) -> str:
    """Of a build's process: all that it booked, but for the store that the record lies beside."""
    return json.dumps({name: value for name, value in record.items() if name != "plan_digest"}, sort_keys=True)


def _places(run: Run, name: str) -> list[Path]:
    """Where what a run calls `name` may lie: as typed, seen from where the run was started, by the catalog, beside."""
    found = [Path(name), run.directory.parent / Path(name).name]
    out = Path(str(run.config.get("out", "")))
    if out.parts and not out.is_absolute() and run.directory.parts[-len(out.parts) :] == out.parts:
        found.insert(1, Path(*run.directory.parts[: -len(out.parts)]) / name)
    try:
        entry = catalog.resolve_model(name)
    except ReinforceError:
        entry = None
    if entry is not None and entry.path is not None:
        found.append(Path(entry.path))
    return list(dict.fromkeys(place.resolve() for place in found))
