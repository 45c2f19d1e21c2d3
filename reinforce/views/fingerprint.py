"""Does this machine replay the pixels that the teacher saw?

A store keeps, for some hundred probe views, a checksum after every stage, and the first probes' pixels as they are.
Probes are ordered such that the first ones show every stage that any of them shows. Replaying these few gives one of

    identical    every checksum agrees
    close        some differ, but no kept pixel by more than 2 levels: recorded, training may go on
    drift        ReplayDriftError, naming the first stage that differs and the libraries then and now

The checksum of pixels (H, W, 3) is hash64 of the ASCII text "HxWx3:" and the bytes in C order; that of params
(stage "params", after "decode") is hash64 of their canonical JSON. Probes of dense policies end in the stage "valid",
the mask as pixels (S, S, 1), 0 or 1.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import features

from reinforce.data.keys import hash64
from reinforce.errors import ReplayDriftError, StoreError, TransferMismatchError, UndecodableImageError
from reinforce.views.policies import Policy
from reinforce.views.replay import Pixels, UnitReplayer

TOLERATED_LEVELS = 2
UnitRows = tuple[int, Sequence[str], Callable[[int], bytes]]
"""Unit index, keys of its real rows, loader of a row's bytes."""
Stages = tuple[tuple[str, str], ...]
"""(stage, checksum as 16 hex digits)."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """One view whose stages are known; `row` counts in its unit."""

    unit: int
    row: int
    key: str
    view: int
    stages: Stages


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Probes of one store, the finished pixels of the first ones, and the libraries that made them."""

    policy_digest: str
    libraries: Mapping[str, str]
    probes: tuple[Probe, ...]
    kept: Pixels
    """uint8 (K, S, S, 3): finished views of the first K probes."""

    def to_json(self) -> dict[str, Any]:
        """Everything but `kept`, which is stored as an array."""
        probes = [
            {"unit": p.unit, "row": p.row, "key": p.key, "view": p.view, "stages": [list(s) for s in p.stages]}
            for p in self.probes
        ]
        none_kept = {} if len(self.kept) else {"kept": 0}
        return {"format": 1, "policy": self.policy_digest, "libraries": dict(self.libraries), "probes": probes,
                **none_kept}  # fmt: skip

    def of_units(self, numbers: Mapping[int, int]) -> Fingerprint:
        """The probes of some units, which get other numbers."""
        places = [place for place, probe in enumerate(self.probes) if probe.unit in numbers]
        probes = (replace(self.probes[place], unit=numbers[self.probes[place].unit]) for place in places)
        kept = [place for place in places if place < len(self.kept)]
        return replace(self, probes=tuple(probes), kept=self.kept[kept])

    def to_array(self) -> Pixels:
        """`kept` as it is stored: no array is empty, so that one black view stands for none."""
        return self.kept if len(self.kept) else np.zeros((1, *self.kept.shape[1:]), np.uint8)

    @classmethod
    def from_json(cls, document: Mapping[str, Any], kept: Pixels) -> Fingerprint:
        """The inverse of `to_json`. Raises StoreError if this is no fingerprint of format 1."""
        try:
            if document["format"] != 1:
                raise StoreError(f"the fingerprint is of format {document['format']}: this reinforce reads format 1")
            probes = tuple(map(_probe_from_json, document["probes"]))
            kept = kept[: int(document.get("kept", len(kept)))]
            return cls(
                policy_digest=document["policy"], libraries=dict(document["libraries"]), probes=probes, kept=kept
            )
        except (KeyError, TypeError, ValueError) as error:
            raise StoreError(f"the fingerprint is not valid: {error!r}") from error


def _probe_from_json(document: Mapping[str, Any]) -> Probe:
    """Raises KeyError, TypeError, ValueError for what `to_json` never gives."""
    places = [document[name] for name in ("unit", "row", "view")]
    stages = tuple((stage, checksum) for stage, checksum in document["stages"])
    words = [document["key"], *(word for pair in stages for word in pair)]
    are_counts = all(type(place) is int and 0 <= place < 1 << 31 for place in places)
    if not are_counts or not all(isinstance(word, str) for word in words):
        raise ValueError("a probe's places are no counts, or its names no text")
    if [stage for stage, _ in stages[:2]] != ["decode", "params"]:
        raise ValueError("a probe's stages do not begin with decode and params")
    unit, row, view = places
    return Probe(unit=unit, row=row, key=document["key"], view=view, stages=stages)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One probe that replays differently here."""

    probe: Probe
    stage: str
    """The first stage whose checksum differs."""
    levels: int | None
    """Greatest difference of a kept pixel, 0..255; None if the probe's pixels were not kept."""
    same_params: bool = True
    """False where the view would be another one, say because the image is decoded to another size, or where other
    pixels of it were valid."""
    reason: str = ""
    """Why the image cannot be decoded here, if that is it."""

    @property
    def is_tolerable(self) -> bool:
        return self.same_params and not self.reason and (self.levels or 0) <= TOLERATED_LEVELS

    @property
    def severity(self) -> tuple[bool, int]:
        return bool(self.reason) or not self.same_params, 255 if self.levels is None else self.levels


@dataclass(frozen=True, kw_only=True)
class DriftReport:
    """What replaying some probes showed."""

    num_probes: int
    differences: tuple[Difference, ...]
    libraries_then: Mapping[str, str]
    libraries_now: Mapping[str, str]

    @property
    def is_identical(self) -> bool:
        return not self.differences

    @property
    def is_close(self) -> bool:
        """No params differ, kept pixels by at most 2 levels, and probes without pixels only in stages so measured."""
        measured = {d.stage for d in self.differences if d.levels is not None}
        return all(d.is_tolerable and d.stage in measured for d in self.differences)

    def to_json(self) -> dict[str, Any]:
        """For a run's record."""
        return {
            "num_probes": self.num_probes,
            "num_different": len(self.differences),
            "stages": sorted({d.stage for d in self.differences}),
            "max_levels": max((d.levels or 0 for d in self.differences), default=0),
            "libraries_then": dict(self.libraries_then),
            "libraries_now": dict(self.libraries_now),
        }

    def describe(self) -> str:
        """One line: how many probes differ, the worst one's first differing stage, the libraries that changed."""
        if self.is_identical:
            return f"{self.num_probes} of {self.num_probes} probe views replay identically"
        worst = max(self.differences, key=lambda difference: difference.severity)
        size = worst.reason or ("by an unknown amount" if worst.levels is None else f"by up to {worst.levels} levels")
        return (
            f"{len(self.differences)} of {self.num_probes} probe views replay differently: view {worst.probe.view} of "
            f"'{worst.probe.key}' from stage '{worst.stage}' on, {size}; {self._library_changes()}"
        )

    def _library_changes(self) -> str:
        then, now = self.libraries_then, self.libraries_now
        changed = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
        if not changed:
            return "the libraries have the same versions"
        return ", ".join(f"{name} was {then.get(name, 'absent')} and is {now.get(name, 'absent')}" for name in changed)


def make_fingerprint(
    policy: Policy,
    units: Sequence[UnitRows],
    *,
    num_views: int,
    num_probes: int = 256,
    num_kept: int = 16,
) -> Fingerprint:
    """Probes drawn evenly over `units` by hashes of the policy's digest; rows that cannot be decoded are passed over.

    A store with few views has fewer probes. Working images of one unit are held at a time.
    """
    size = policy.size_px
    probes: list[tuple[Probe, Pixels]] = []
    for (unit, keys, load), places in zip(units, _draw(policy, units, num_views, num_probes), strict=True):
        replayer = UnitReplayer(policy, keys, load)
        probes += _probe_unit(replayer, unit, places)
    ordered = _stages_first(probes)
    kept = [pixels for _, pixels in ordered[:num_kept]]
    return Fingerprint(
        policy_digest=policy.digest(),
        libraries=libraries(),
        probes=tuple(probe for probe, _ in ordered),
        kept=np.stack(kept) if kept else np.empty((0, size, size, 3), dtype=np.uint8),
    )


def compare(fingerprint: Fingerprint, replayer_for_unit: Callable[[int], UnitReplayer], num: int = 16) -> DriftReport:
    """Replays the first `num` probes and reports. Raises TransferMismatchError or StoreError if they are foreign."""
    differences: list[Difference] = []
    probes = fingerprint.probes[:num]
    for index in sorted(range(len(probes)), key=lambda i: (probes[i].unit, i)):
        kept = fingerprint.kept[index] if index < len(fingerprint.kept) else None
        try:
            replayer = replayer_for_unit(probes[index].unit)
        except IndexError as error:
            raise StoreError(f"the fingerprint has a probe in unit {probes[index].unit}, which is not there") from error
        if replayer.policy.digest() != fingerprint.policy_digest:
            raise StoreError("the fingerprint belongs to another view policy: type reinforce verify STORE")
        size = replayer.policy.size_px
        if kept is not None and (kept.shape, kept.dtype) != ((size, size, 3), np.uint8):
            raise StoreError("the fingerprint's kept pixels are not views of its policy")
        difference = _difference(probes[index], replayer, kept)
        differences += [] if difference is None else [difference]
    return DriftReport(
        num_probes=len(probes),
        differences=tuple(differences),
        libraries_then=fingerprint.libraries,
        libraries_now=libraries(),
    )


def check(
    fingerprint: Fingerprint,
    replayer_for_unit: Callable[[int], UnitReplayer],
    num: int = 16,
    exact: bool = False,
) -> DriftReport:
    """`compare`, but raises ReplayDriftError unless all is identical or, without `exact`, close."""
    report = compare(fingerprint, replayer_for_unit, num)
    if report.is_identical or (report.is_close and not exact):
        return report
    raise ReplayDriftError(report.describe())


def libraries() -> dict[str, str]:
    """Versions of what turns bytes into pixels here."""
    versions = {"pillow": features.version("pil"), "numpy": np.__version__}
    for name in ("libjpeg_turbo", "zlib", "zlib_ng", "webp", "libtiff"):
        versions[name] = features.version(name)
    return {name: version for name, version in versions.items() if version}


def pixels_checksum(pixels: Pixels) -> str:
    """16 hex digits of uint8 (H, W, C)."""
    height, width, channels = pixels.shape
    return f"{hash64(f'{height}x{width}x{channels}:'.encode() + pixels.tobytes()):016x}"


def _params_checksum(replayer: UnitReplayer, row: int, view: int) -> str:
    text = json.dumps(replayer.params(row, view).to_json(), sort_keys=True, separators=(",", ":"))
    return f"{hash64(text):016x}"


def _draw(policy: Policy, units: Sequence[UnitRows], num_views: int, num_probes: int) -> list[list[tuple[int, int]]]:
    """Per unit, the (row, view) pairs to probe; units take turns."""
    places: list[dict[tuple[int, int], None]] = [{} for _ in units]
    digest = policy.digest()
    for probe in range(num_probes if units else 0):
        place = probe * len(units) // num_probes if len(units) > num_probes else probe % len(units)
        num_rows = len(units[place][1])
        drawn = hash64(f"probe:{digest}:{probe}")
        places[place][(drawn >> 32) * num_rows >> 32, (drawn & 0xFFFFFFFF) * num_views >> 32] = None
    return [list(unique) for unique in places]


def _probe_unit(replayer: UnitReplayer, unit: int, places: Iterable[tuple[int, int]]) -> Iterator[tuple[Probe, Pixels]]:
    num_rows = len(replayer.keys)
    seen: set[tuple[int, int]] = set()
    for first, view in places:
        rows = ((first + step) % num_rows for step in range(num_rows))
        row = next((row for row in rows if replayer.undecodable_reason(row) is None), None)
        if row is None:
            return
        if (row, view) not in seen:
            seen.add((row, view))
            stages, pixels = _checksums(replayer, row, view)
            yield Probe(unit=unit, row=row, key=replayer.keys[row], view=view, stages=stages), pixels


def _checksums(replayer: UnitReplayer, row: int, view: int) -> tuple[Stages, Pixels]:
    (decode, image), *rest = replayer.stages(row, view)
    stages = [(decode, pixels_checksum(image)), ("params", _params_checksum(replayer, row, view))]
    stages += [(stage, pixels_checksum(pixels)) for stage, pixels in rest]
    if replayer.policy.is_dense:
        stages.append(("valid", pixels_checksum(replayer.valid(row, view)[..., None].astype(np.uint8))))
    return tuple(stages), rest[-1][1]


def _stages_first(probes: Sequence[tuple[Probe, Pixels]]) -> list[tuple[Probe, Pixels]]:
    """Greedy cover: each next probe shows the most kinds of stage not shown yet; the rest keep their order."""
    left, shown, ordered = list(probes), set[str](), list[tuple[Probe, Pixels]]()
    while left:
        gains = [len(_kinds(probe) - shown) for probe, _ in left]
        if max(gains) == 0:
            break
        ordered.append(left.pop(gains.index(max(gains))))
        shown |= _kinds(ordered[-1][0])
    return ordered + left


def _kinds(probe: Probe) -> set[str]:
    return {stage.rpartition(":")[2] for stage, _ in probe.stages}


def _difference(probe: Probe, replayer: UnitReplayer, kept: Pixels | None) -> Difference | None:
    if probe.row >= len(replayer.keys) or replayer.keys[probe.row] != probe.key:
        raise TransferMismatchError(
            f"row {probe.row} of unit {probe.unit} is not '{probe.key}': pass the store's own --transfer"
        )
    try:
        stages, pixels = _checksums(replayer, probe.row, probe.view)
    except UndecodableImageError as error:
        return Difference(probe=probe, stage="decode", levels=None, reason=str(error))
    if stages == probe.stages:
        return None
    pairs = itertools.zip_longest(stages, probe.stages)
    first = next(old or new for new, old in pairs if new != old)
    levels = None if kept is None else int(np.abs(pixels.astype(np.int16) - kept).max())
    now, then = dict(stages), dict(probe.stages)
    same_params = all(now.get(stage) == then.get(stage) for stage in ("params", "valid"))
    return Difference(probe=probe, stage=first[0], levels=levels, same_params=same_params)
