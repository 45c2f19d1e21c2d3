"""Where a store comes from, as tables: everything that its plan says, in words where they are better than integers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reinforce.command import field_docs
from reinforce.counting import counted
from reinforce.pages.rendering import number
from reinforce.store import Store
from reinforce.store_page.view_words import degrees, hue_degrees, rotation_degrees
from reinforce.views import policy_from_json

MAX_LISTED = 10
SHARDS_SHOWN = 20
Row = tuple[str, str]
_SCALES = {"_q32": 1 << 32, "_q16": 1 << 16, "_q12": 1 << 12, "_q8": 1 << 8, "_lambdas": 1 << 8}
_ANGLES: dict[str, Callable[..., float]] = {"hues_q12": hue_degrees, "rotations_q16": rotation_degrees}


@dataclass(frozen=True, kw_only=True)
class Table:
    title: str
    rows: list[Row]
    note: str = ""


def provenance_tables(store: Store) -> list[Table]:
    """The store with its promise, teacher, transfer set, environment."""
    plan = store.plan
    return [
        Table(title="Store", rows=_store_rows(store)),
        Table(title="Teacher", rows=[*described(plan["teacher"]), *_missing_licence(plan["teacher"])]),
        _transfer(plan),
        Table(title="Environment of the build", rows=described(plan["environment"]) or [("", "not recorded")]),
    ]


def described(document: Mapping[str, Any], prefix: str = "") -> list[Row]:
    """(name, value) of every leaf of a JSON object, inner names after outer ones."""
    rows: list[Row] = []
    for name, value in document.items():
        if isinstance(value, Mapping):
            rows += described(value, f"{prefix}{name} ")
        else:
            rows.append((f"{prefix}{name}", in_words(value)))
    return rows


def in_words(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        if len(value) <= MAX_LISTED:
            return ", ".join(in_words(item) for item in value) or "none"
        return f"{len(value)} values from {in_words(value[0])} to {in_words(value[-1])}"
    return number(value)


def policy_rows(policy_json: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(field, value, meaning) of every field of the view policy. Raises StoreError for a policy that is none."""
    kind: type = type(policy_from_json(policy_json))
    docs = field_docs(kind)
    ordered = [name for name in docs if name in policy_json]
    return [(name, _policy_value(name, policy_json[name]), docs[name].replace("`", "")) for name in ordered]


def _policy_value(name: str, value: Any) -> str:
    if name == "ops":
        return ", ".join(_operation(*op) for op in value) or "none"
    if name in _ANGLES:
        return _angles([_ANGLES[name](*entry) for entry in value])
    one = next((one for suffix, one in _SCALES.items() if name.endswith(suffix)), None)
    return in_words(value) if one is None else _scaled(value, one)


def _angles(angles: list[float]) -> str:
    """The ends of a table of degrees."""
    if not angles:
        return "none"
    return f"{degrees(min(angles))} to {degrees(max(angles))}, {len(angles)} entries"


def _scaled(value: int | list[int], one: int) -> str:
    """The real number that an integer stands for; of a table its ends."""
    if isinstance(value, int):
        return number(value / one)
    if len(value) <= MAX_LISTED:
        return " to ".join(number(item / one) for item in value) or "none"
    return f"{number(value[0] / one)} to {number(value[-1] / one)}, {len(value)} entries"


def _operation(name: str, plus: Sequence[int], minus: Sequence[int]) -> str:
    if not plus:
        return name
    signs = [plus] if list(plus) == list(minus) else [plus, minus]
    return f"{name} ({' | '.join(', '.join(map(str, arguments)) for arguments in signs)})"


def _missing_licence(teacher: Mapping[str, Any]) -> list[Row]:
    return [] if teacher.get("license") else [("license", "not recorded")]


def _transfer(plan: Mapping[str, Any]) -> Table:
    transfer, shards = plan["transfer"], plan["transfer"]["shards"]
    rows = described({name: value for name, value in transfer.items() if name != "shards"})
    rows.append(("samples", f"{plan['num_samples']:,}"))
    rows += [("limit", f"the first {plan['limit']:,}")] if plan.get("limit") else []
    rows.append(("shards", f"{len(shards):,}"))
    for shard in shards[:SHARDS_SHOWN]:
        samples = "sample" if shard["samples"] == 1 else "samples"
        rows.append((str(shard["name"]), f"{shard['samples']:,} {samples}, {shard['digest']}"))
    more = len(shards) - SHARDS_SHOWN
    noun = "shard" if more == 1 else "shards"
    return Table(title="Transfer set", rows=rows, note=f"and {more:,} more {noun}" if more > 0 else "")


def _store_rows(store: Store) -> list[Row]:
    plan = store.plan
    rows = [
        ("manifest digest", store.manifest.digest),
        ("plan digest", store.manifest.plan_digest),
        ("format", str(plan["format"])),
        ("target", str(plan["target"])),
        *([("map", "{} x {} cells".format(*store.map_size))] if store.map_size else []),
        ("units", f"{store.num_units:,} of {store.unit_rows:,} rows"),
    ]
    grown_from = plan.get("grown_from", [])
    rows += [("grown from", f"{counted(item['views'], 'view')}, plan {item['plan_digest']}") for item in grown_from]
    rows += [(f"promise {name}", value) for name, value in described(plan["promise"])]
    known = ("batch_size", "batch_rows", "threads", "effort", "forced_codec")
    rows += [(name.replace("_", " "), in_words(plan[name])) for name in known if name in plan]
    codec = {name: value for name, value in plan["codec"].items() if name != "arrays"}
    return rows + [(f"codec {name}", value) for name, value in described(codec)]
