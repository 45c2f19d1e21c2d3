"""`reinforce merge`: stores of one plan that were built apart, joined to what one build would have written."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reinforce import run_log
from reinforce.command import POSITIONAL, TalkOptions
from reinforce.counting import counted
from reinforce.errors import BuildError, CorruptStoreError, OutputExistsError, StoreAccessError, UsageError
from reinforce.inspect_store import StoreSummary, summarize
from reinforce.job import Ledger, Owner, Share, check_place
from reinforce.merging import Merging
from reinforce.progress import Progress
from reinforce.store import EMBEDDINGS, MANIFEST, PLAN, LocalObjects, finalize, local_folder, read_manifest, verify
from reinforce.store.inventory import mending_advice
from reinforce.store.part import StorePart

UNITS_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class MergeConfig(TalkOptions):
    stores: tuple[str, ...] = field(metadata=POSITIONAL)
    """The parts, finished or not."""
    out: str
    """Store to write."""
    resume: bool = False
    """Continue, or add parts to, a store that was begun from the same plan; start where there is none."""

    def __post_init__(self) -> None:
        if not self.stores:
            raise UsageError("no store is named: type reinforce merge A B --out C")


@dataclass(frozen=True, kw_only=True)
class MergeSummary:
    store: StoreSummary
    copied: list[int]
    """Units that this call has brought in."""
    missing: list[int]
    """Units that no part holds whole."""
    damage: list[str]
    """What is wrong with units of the parts, a line each; another part may have held them whole."""

    @property
    def exit_code(self) -> int:
        return 1 if self.missing else 0

    def to_json(self) -> dict[str, Any]:
        return {**self.store.to_json(), "copied": self.copied, "missing": self.missing, "damage": self.damage}

    def __str__(self) -> str:
        path, lines = self.store.path, [f"merged {len(self.copied)} of {counted(self.store.units, 'unit')}"]
        lines += [f"  damaged   {one}" for one in self.damage]
        if not self.missing:
            return "\n".join([*lines, str(self.store)])
        verb = "embed" if self.store.target == EMBEDDINGS else "build"
        return "\n".join([
            *lines,
            f"{path}: unfinished, {counted(len(self.missing), 'unit')} missing: {self._missing()}",
            f"next: reinforce merge, with the stores that hold them, --out {path} --resume; "
            f"or the 'reinforce {verb}' that made the parts, with --out {path} --resume",
        ])  # fmt: skip

    def _missing(self) -> str:
        numbers = ", ".join(map(str, self.missing[:UNITS_SHOWN])) + (", ..." if len(self.missing) > UNITS_SHOWN else "")
        share = Share.of(self.missing, self.store.units)
        return f"{numbers} (those of --shard {share})" if share else numbers


def merge(config: MergeConfig) -> MergeSummary:
    """Join stores of the same plan that were built apart; exit status 1 while units are missing.

    What comes out has the bytes of one build. Killed at any moment it continues with --resume.
    """
    try:
        return _merge(config)
    except StoreAccessError as error:
        raise BuildError(f"{error}; what is done stays: mend that, then type the same command with --resume") from error


def _merge(config: MergeConfig) -> MergeSummary:
    parts = _open_parts(config)
    path = local_folder(config.out, "merge into a folder, then type reinforce push FOLDER URL")
    out = LocalObjects(path)
    check_place(path, out)
    if (out.exists(PLAN) or out.exists(MANIFEST)) and not config.resume:
        raise OutputExistsError(path, "type --resume to add to it, or --out to write elsewhere")
    was_finished = _has_manifest(out)
    merging = Merging(parts, out)
    with Progress("merge", len(merging.todo), unit="units", quiet=config.quiet) as progress:
        copied = merging.run(progress.update)
    run_log.join_logs(path, [Path(store) for store in config.stores])
    missing = _finish(merging, out)
    if was_finished:
        _check_whole(out)
    return MergeSummary(store=summarize(path), copied=copied, missing=missing, damage=merging.damage)


def _open_parts(config: MergeConfig) -> list[StorePart]:
    advice = "pull it into a folder, and merge that"
    return [StorePart(LocalObjects(local_folder(store, advice))) for store in config.stores]


def _finish(merging: Merging, out: LocalObjects) -> list[int]:
    """Close the store where all of its units are there; returns those that are not."""
    num_units = merging.first.schema.num_units
    missing = sorted(set(range(num_units)) - set(Ledger(out, num_units, Owner.here()).done()))
    if missing and not out.exists(MANIFEST):
        return missing
    finalize(out, merging.first.plan)
    return []


def _has_manifest(out: LocalObjects) -> bool:
    """Raises CorruptStoreError where there is a damaged one, by which nothing can be compared."""
    if not out.exists(MANIFEST):
        return False
    try:
        read_manifest(out)
    except CorruptStoreError as error:
        raise CorruptStoreError(f"{out.name}: {error}: delete {MANIFEST}, then type the same merge") from error
    return True


def _check_whole(out: LocalObjects) -> None:
    """Raises CorruptStoreError where a store that was there before is damaged."""
    if problems := verify(out, "full").problems:
        raise CorruptStoreError(f"{out.name} is there and damaged: {problems[0]}; {mending_advice(out.name)}, then "
                                "the same merge")  # fmt: skip
