"""A run directory, or a kept checkpoint of one, read from its files alone: no weights are loaded."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from reinforce.errors import ReinforceError

from train.evaluations import Evaluation, is_run, read_evaluations
from train.rundir import COST_FILE


class UnusableRunError(ReinforceError):
    """A folder that cannot be compared, and why: it is listed, not fatal."""


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run directory says of itself."""

    path: Path
    info: Mapping[str, Any]
    """model.json."""
    config: Mapping[str, Any]
    """config.json, of the whole run for a kept checkpoint."""
    cost: Mapping[str, Any] | None
    """cost.json; None in runs of versions that booked nothing."""
    step: int | None = None
    """Of a kept checkpoint, out of its run's steps."""
    typed: str = dataclasses.field(default="", compare=False)
    """The path as it was given, to be typed again."""

    @property
    def training(self) -> Mapping[str, Any]:
        """The last training in model.json: {} for weights that nobody here trained."""
        return mapping(mapping(self.info.get("provenance")).get("training"))

    @property
    def origin(self) -> Mapping[str, Any]:
        """Where the very first weights come from: {} for random ones."""
        provenance = mapping(self.info.get("provenance"))
        return {name: value for name, value in provenance.items() if name in ("source", "source_sha256")}

    @property
    def verb(self) -> str:
        return str(self.training.get("verb") or self.config.get("verb", ""))

    @property
    def weights_sha256(self) -> str | None:
        return mapping(self.info.get("provenance")).get("weights_sha256")

    @property
    def directory(self) -> Path:
        """Of the whole run, for a kept checkpoint of it, too."""
        if self.step is None:
            return self.path
        return next(parent.parent for parent in self.path.parents if parent.name == "checkpoints")

    @property
    def seconds(self) -> float | None:
        """Device seconds of this training alone."""
        return None if self.cost is None else float(self.cost["seconds"])

    @property
    def devices(self) -> set[str]:
        parts = mapping(mapping(self.cost).get("parts")).values()
        return {str(part["device"]) for part in map(mapping, parts) if "device" in part}

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        """Of these very weights."""
        found = read_evaluations(self.path)
        return [one for one in found if one.weights_sha256 in (None, self.weights_sha256)]


def read_run(path: Path) -> Run:
    """Raises UnusableRunError for what is no run, was not finished, or cannot be read."""
    folder = path.resolve()
    if not folder.is_dir() or not is_run(folder):
        raise UnusableRunError("no run directory")
    step = kept_step(folder)
    if step is None and not (folder / "result.json").is_file():
        raise UnusableRunError("not finished: type its command with --resume")
    info, cost = _read(folder / "model.json"), _read(folder / COST_FILE)
    if info is None:
        raise UnusableRunError("it has no model.json")
    _check("model.json", info, {"architecture": str, "image_size": int})
    if cost is not None:
        _check(COST_FILE, cost, {"seconds": (int, float)})
    run = Run(folder, info, {}, cost, step, str(path))
    return dataclasses.replace(run, config=mapping(_read(run.directory / "config.json")))


def _check(name: str, found: Any, members: Mapping[str, Any]) -> None:
    """Raises UnusableRunError for what is not there or is of another type."""
    for member, kind in members.items():
        if not isinstance(mapping(found).get(member), kind):
            raise UnusableRunError(f"{name} has no {member}")


def kept_step(folder: Path) -> int | None:
    """1000 for .../checkpoints/step-00001000 and for .../checkpoints/full-lr0.001/step-00001000."""
    match = re.fullmatch(r"step-(\d{8,})", folder.name)
    is_kept = match is not None and "checkpoints" in (folder.parent.name, folder.parent.parent.name)
    return int(match[1]) if match is not None and is_kept else None


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UnusableRunError(f"{path.name} cannot be read") from error


def mapping(value: Any) -> Mapping[str, Any]:
    """A JSON object; {} for anything else."""
    return value if isinstance(value, Mapping) else {}
