"""`reinforce verify`: is every byte what the manifest says; with --deep, are pixels and targets still true?"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from reinforce.command import POSITIONAL, CommonOptions
from reinforce.counting import counted
from reinforce.errors import ReinforceError, UnfinishedStoreError, UnknownNameError, UsageError
from reinforce.store import EMBEDDINGS, FEATURES, MANIFEST, STATE_OK, FidelityStats, Store, local_folder
from reinforce.store import verify as verify_store
from reinforce.store.differing import differing_members
from reinforce.store.inventory import mending_advice
from reinforce.units import unit_pairs

if TYPE_CHECKING:
    from reinforce.dataset import ReinforcedDataset
    from reinforce.target_source import TargetSource
    from reinforce.unit_captions import Words

DEEP_UNITS = 4
SAMPLE_SLACK, LEAST_ERROR = 5, 1e-5
"""A few hundred rows may be worse than the store's mean; other targets are worse by orders of magnitude."""


@dataclass(frozen=True, kw_only=True)
class VerifyConfig(CommonOptions):
    store: str = field(metadata=POSITIONAL)
    """The store."""
    level: Literal["quick", "sampled", "full"] = "full"
    """quick: names and sizes; sampled: also some hashes; full: every hash, every chunk decoded."""
    deep: bool = False
    """Also replay probe views and recompute targets with the teacher."""
    repair: bool = False
    """Drop damaged units, so that `reinforce build --resume` recomputes just these; write damaged metadata anew."""
    transfer: str | None = None
    """Where the transfer set lies, for --deep; by default as registered."""
    teacher: str | None = None
    """Where the teacher lies, for --deep; by default the name in the store."""


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    store: str
    level: str
    problems: list[str]
    checks: list[str]
    is_repairable: bool
    """Whether bytes are wrong, and not what they are compared with."""
    repaired: bool
    repairs: list[str]
    """What was done about them, or why nothing could be, and what to type."""

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def exit_code(self) -> int:
        return 0 if self.ok else 1

    def to_json(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "level": self.level,
            "problems": self.problems,
            "checks": self.checks,
            "repaired": self.repaired,
            "repairs": self.repairs,
        }

    def __str__(self) -> str:
        lines = [f"{self.store}: {'ok' if self.ok else counted(len(self.problems), 'problem')} (level {self.level})"]
        lines += [f"  {line}" for line in (*self.checks, *self.problems)]
        lines += [f"repair: {line}" for line in self.repairs]
        if self.is_repairable and not self.repaired:
            lines.append(f"next: {mending_advice(self.store)}")
        return "\n".join(lines)


def verify(config: VerifyConfig) -> VerifyReport:
    """Check a store against its manifest; exit status 1 where anything differs."""
    location: str | Path = config.store
    if config.repair:
        location = local_folder(config.store, "repair the store where it was built, then push it there with --repair")
    try:
        report = verify_store(location, config.level, repair=config.repair)
    except UnfinishedStoreError as error:
        if config.repair:
            raise
        return _without_manifest(config, error)
    problems = list(report.problems)
    checks: list[str] = []
    if config.deep and not problems:
        checks, problems = _deep(config)
    return VerifyReport(
        store=config.store,
        level=config.level,
        problems=problems,
        checks=checks,
        is_repairable=bool(report.problems),
        repaired=config.repair and bool(report.problems),
        repairs=report.repaired,
    )


def _without_manifest(config: VerifyConfig, error: UnfinishedStoreError) -> VerifyReport:
    """No build has ended here, or the manifest was lost: nothing tells the two apart, and neither is whole."""
    return VerifyReport(
        store=config.store,
        level=config.level,
        problems=[f"{MANIFEST}: missing: {error}"],
        checks=[],
        is_repairable=False,
        repaired=False,
        repairs=[],
    )


def _deep(config: VerifyConfig) -> tuple[list[str], list[str]]:
    from reinforce.dataset import open_dataset

    checks: list[str] = []
    problems: list[str] = []
    dataset = open_dataset(config.store, config.transfer)
    for check in (_check_pixels, _check_targets):
        try:
            checks.append(check(dataset, config))
        except ReinforceError as error:
            problems.append(str(error))
    return checks, problems


def _check_pixels(dataset: ReinforcedDataset, config: VerifyConfig) -> str:
    report = dataset.check_replay(num=sys.maxsize, exact=True)
    return f"pixels: {report.describe()}"


def _check_targets(dataset: ReinforcedDataset, config: VerifyConfig) -> str:
    """Run the teacher again on the first batch of some units; the stored targets must be within the promise."""
    plan = dataset.store.plan
    teacher = _reopen_teacher(dataset.store, config)
    described = teacher.describe()
    if any(described.get(name) != plan["teacher"].get(name) for name in ("weights_sha256", "text")):
        raise UsageError(f"'{teacher.name}' has other weights than the store's teacher: type --teacher DIRECTORY")
    if differing := _differing(described, plan["teacher"]):
        raise UsageError(f"'{teacher.name}' has the weights of the store's teacher, but another "
                         f"{', '.join(differing)}: type --teacher DIRECTORY")  # fmt: skip
    units = np.unique(np.linspace(0, len(plan["units"]) - 1, DEEP_UNITS).astype(int))
    parts = (_recomputed(dataset, teacher, int(unit)) for unit in units)
    measure = dataset.store.measure
    found = FidelityStats.merge_all(parts, measure)
    certified = dataset.store.manifest.certificate[f"{measure.prefix}_mean"]
    line = f"targets: {found.count} recomputed, mean {measure.words} {found.mean:.2g}, worst {found.worst:.2g}"
    if found.mean > SAMPLE_SLACK * max(certified, LEAST_ERROR):
        raise ReinforceError(f"{line}: far above the certified {certified:.2g}, so they are not this teacher's")
    return line


def _differing(described: Mapping[str, Any], planned: Mapping[str, Any]) -> list[str]:
    """Members that decide what a teacher answers; what it is called, and under which licence it is, does not."""
    ours, theirs = ({key: value for key, value in one.items() if key in planned and key not in ("name", "license")}
                    for one in (described, planned))  # fmt: skip
    return differing_members(ours, theirs)


def _reopen_teacher(store: Store, config: VerifyConfig) -> TargetSource:
    """The one that the store describes, where it is called so or where `--teacher` says that it lies."""
    plan = store.plan
    settings = {"device": config.device, "threads": plan["threads"], "batch_size": plan["batch_size"]}
    if store.target == EMBEDDINGS:
        from reinforce.encoders import reopen_encoders

        return reopen_encoders(plan["teacher"]["encoders"], (config.teacher,) if config.teacher else (),
                               option="--teacher", **settings)  # fmt: skip
    from reinforce.text_teacher import open_teacher

    name = config.teacher or plan["teacher"]["name"]
    target = store.target if store.target in FEATURES else None
    try:
        planned = plan["environment"]
        return open_teacher(name, target=target, dtype=planned["dtype"], compile=bool(planned.get("compiled")),
                            image_size=plan["teacher"]["preprocess"]["image_size"], **settings)  # fmt: skip
    except UnknownNameError:
        if config.teacher is not None:
            raise
        raise UsageError(f"the store's teacher '{name}' is not known here: type --teacher DIRECTORY") from None


def _recomputed(dataset: ReinforcedDataset, teacher: TargetSource, unit: int) -> FidelityStats:
    """How far the stored targets of the unit's first teacher batch are from what the teacher says now."""
    from reinforce.unit_captions import UnitCaptions

    store, words = dataset.store, _words(dataset, teacher)
    shown = dataset.replayer(unit) if words is None else UnitCaptions(words, dataset.images(unit))
    num_rows = len(shown.keys)
    pairs = unit_pairs(num_rows, store.num_views, store.plan.get("block_rows", num_rows))
    view, row = (numbers[: teacher.batch_size] for numbers in pairs)
    is_ok = dataset.states[unit * store.unit_rows + row] == STATE_OK
    size = dataset.size_px
    images: NDArray[Any] = np.zeros((len(row), size, size, 3), np.uint8) if words is None else words.blank(len(row))
    for i in np.flatnonzero(is_ok):
        images[i] = shown.view(int(row[i]), store.first_view + int(view[i]))
    stored = dataset.targets.read(unit * store.unit_rows + row, view)
    return store.shape.fidelity(teacher.targets(images)[is_ok], stored[is_ok], store.measure)


def _words(dataset: ReinforcedDataset, teacher: TargetSource) -> Words | None:
    """What a teacher of captions is shown."""
    from reinforce.data import CaptionedSource
    from reinforce.text_teacher import TextTeacher
    from reinforce.unit_captions import Words

    return Words(CaptionedSource(dataset.source), teacher.tokenizer) if isinstance(teacher, TextTeacher) else None
