"""`reinforce diff`: what differs between two stores, finished or not: plan, images, objects, certificate, targets."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reinforce.command import POSITIONAL, TalkOptions
from reinforce.counting import counted
from reinforce.errors import UsageError
from reinforce.sample_difference import SampleDifference, compare_samples
from reinforce.store import differing_members, open_objects
from reinforce.store.canonical import canonical_json, is_sha256, one_line, sha256_hex
from reinforce.store.differing import member
from reinforce.store.part import StorePart
from reinforce.target_difference import NotComparedError, TargetDifference, compare_targets

EXAMPLES = 3
VALUE_CHARS = 60
FIRST_MEMBERS = ("teacher", "transfer", "policy", "target", "views", "codec", "promise", "environment")


@dataclass(frozen=True, kw_only=True)
class DiffConfig(TalkOptions):
    a: str = field(metadata=POSITIONAL)
    """A store, finished or not."""
    b: str = field(metadata=POSITIONAL)
    """Another one."""
    sample: int | None = None
    """Views whose targets are compared where both stores have the same images and views, evenly spread over units and
    views; by default 4096, of maps 64; all where there are fewer. 0 compares none."""

    def __post_init__(self) -> None:
        if self.sample is not None and self.sample < 0:
            raise UsageError(f"--sample must be at least 0, not {self.sample}")


@dataclass(frozen=True)
class Change:
    """A member of two documents; values are short texts where they are no scalars, None where there is none."""

    member: str
    a: Any
    b: Any

    @classmethod
    def between(cls, first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Change]:
        return [cls(name, _short(member(first, name)), _short(member(second, name)))
                for name in differing_members(first, second)]  # fmt: skip

    def __str__(self) -> str:
        return f"{one_line(self.member):<28} {_shown(self.a)} -> {_shown(self.b)}"


@dataclass(frozen=True)
class ObjectDifference:
    """Of stores of one plan, object by object."""

    differing: int
    only_a: int
    only_b: int
    examples: list[str]

    @classmethod
    def between(cls, a: StorePart, b: StorePart) -> ObjectDifference:
        first, second = a.digests(), b.digests()
        differing = [path for path in first.keys() & second.keys() if first[path] != second[path]]
        only_a, only_b = first.keys() - second.keys(), second.keys() - first.keys()
        examples = [path for paths in (differing, only_a, only_b) for path in sorted(paths)[:EXAMPLES]]
        return cls(len(differing), len(only_a), len(only_b), examples)

    @property
    def is_none(self) -> bool:
        return not (self.differing or self.only_a or self.only_b)

    def __str__(self) -> str:
        counts = f"{self.differing} differ, {self.only_a} are only in a, {self.only_b} only in b"
        return f"{counts}, such as {', '.join(self.examples)}"


@dataclass(frozen=True)
class Side:
    path: str
    status: str
    """complete, or unfinished."""
    samples: int
    units: int
    units_done: int
    plan_digest: str
    manifest_digest: str | None

    @classmethod
    def of(cls, part: StorePart) -> Side:
        manifest, units = part.manifest, part.schema.num_units
        done = units if manifest is not None else sum(marker is not None for marker in part.markers())
        return cls(part.name, "unfinished" if manifest is None else "complete", part.schema.num_samples, units, done,
                   sha256_hex(canonical_json(part.plan)), None if manifest is None else manifest.digest)  # fmt: skip

    def __str__(self) -> str:
        named = "" if self.manifest_digest is None else f", manifest {self.manifest_digest[:12]}"
        return f"{self.path}: {self.status}, {self.units_done} of {counted(self.units, 'unit')}{named}"


@dataclass(frozen=True, kw_only=True)
class StoreDifference:
    a: Side
    b: Side
    plan: list[Change]
    samples: SampleDifference | None
    """None where the transfer sets are the same."""
    objects: ObjectDifference | None
    """None where the plans differ, so that all may."""
    certificate: list[Change]
    """Empty also where one of them has none yet."""
    targets: TargetDifference | None
    targets_not_compared: str | None
    """Why."""

    @property
    def equal(self) -> bool:
        return self.objects is not None and self.objects.is_none

    @property
    def exit_code(self) -> int:
        return 0 if self.equal else 1

    def to_json(self) -> dict[str, Any]:
        return {"equal": self.equal, **dataclasses.asdict(self)}

    def __str__(self) -> str:
        if self.equal:
            return f"{self.a.path} and {self.b.path} are equal: {self.a.units_done} of {counted(self.a.units, 'unit')}"
        lines = [f"a  {self.a}", f"b  {self.b}"]
        lines += [f"plan         {change}" for change in sorted(self.plan, key=_importance)]
        lines += [] if self.samples is None else [f"samples      {self.samples}"]
        lines += [] if self.objects is None else [f"objects      {self.objects}"]
        lines += [f"certificate  {change}" for change in self.certificate]
        lines.append(f"targets      {self.targets or f'not compared: {self.targets_not_compared}'}")
        return "\n".join(lines)


def diff(config: DiffConfig) -> StoreDifference:
    """Say what differs between two stores, or a store and an unfinished one; exit status 1 where anything does."""
    a, b = (StorePart(open_objects(store)) for store in (config.a, config.b))
    changes = Change.between(a.plan, b.plan)
    objects = None if changes else ObjectDifference.between(a, b)
    targets, why = _targets(a, b, objects, config.sample)
    return StoreDifference(
        a=Side.of(a),
        b=Side.of(b),
        plan=changes,
        samples=compare_samples(a, b),
        objects=objects,
        certificate=_certificates(a, b),
        targets=targets,
        targets_not_compared=why,
    )


def _certificates(a: StorePart, b: StorePart) -> list[Change]:
    if a.manifest is None or b.manifest is None:
        return []
    return Change.between(a.manifest.certificate, b.manifest.certificate)


def _targets(
    a: StorePart, b: StorePart, objects: ObjectDifference | None, sample: int | None
) -> tuple[TargetDifference | None, str | None]:
    """How far they are apart, or why that is not said."""
    if objects is not None and objects.is_none:
        return None, "they are equal"
    try:
        return compare_targets(a, b, sample), None
    except NotComparedError as error:
        return None, str(error)


def _short(value: Any) -> Any:
    """Scalars as they are; of what has many values how many there are, and what tells them apart."""
    if not isinstance(value, (list, dict)):
        return value
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text if len(text) <= VALUE_CHARS else f"{len(value)} entries ({sha256_hex(canonical_json(value))[:8]})"


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return value[:12] if is_sha256(value) else one_line(value, VALUE_CHARS)


def _importance(change: Change) -> tuple[int, str]:
    top = change.member.partition(".")[0]
    return (FIRST_MEMBERS.index(top) if top in FIRST_MEMBERS else len(FIRST_MEMBERS), change.member)
