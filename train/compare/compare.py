"""`train compare`: finished runs beside each other, by labels and by compute (paper Fig. 3, Fig. 4)."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from reinforce.command import POSITIONAL, TalkOptions
from reinforce.counting import counted
from reinforce.errors import DataError

if TYPE_CHECKING:
    from train.compare.runs import Run
    from train.compare.table import Comparison, Target
    from train.evaluations import Evaluation


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareConfig(TalkOptions):
    runs: tuple[str, ...] = dataclasses.field(metadata=POSITIONAL)
    """Run directories, such as runs/*; what they were trained from is found by itself."""
    out: str = "report"
    """Folder to write: comparison.html, .md and .json, and the two plots as PNG."""
    data: str | None = None
    """Compare what was measured on this dataset (default: the one that most of the runs were measured on)."""
    split: str = "test"
    """Compare what was measured on this split."""
    group_by: tuple[str, ...] = ()
    """What makes an arm: method, vfm, teacher, source, views, student, size, tuning, an option of the run such as lr,
    or one of what it came from such as distill.steps (default: method, and what differs among the runs)."""
    label: tuple[str, ...] = ()
    """Names of arms, PATTERN=NAME over run directories, such as 'crops-*=milder views'; the first that fits counts."""
    overwrite: bool = False
    """Replace an existing report."""


@dataclasses.dataclass(frozen=True)
class CompareResult:
    comparison: Comparison
    files: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {**self.comparison.to_json(), "files": list(self.files)}

    def __str__(self) -> str:
        from train.compare.text import as_text

        return "\n".join([as_text(self.comparison), f"wrote {', '.join(self.files)}"])


def compare(config: CompareConfig) -> CompareResult:
    """Compare finished runs: mean and spread over seeds, by number of labels and by what the training cost.

    A run takes part when train evaluate has measured it; others are listed with what they lack.
    """
    from train.compare.report import check_report, write_report

    comparison = gather(config)
    check_report(config.out, overwrite=config.overwrite)
    return CompareResult(comparison, write_report(comparison, Path(config.out)))


def gather(config: CompareConfig) -> Comparison:
    """The figures of all runs that have some. Raises DataError where nothing can be compared."""
    from train.compare.arms import arm_names, describe
    from train.compare.lineage import Lineage
    from train.compare.table import Measured, tabulate

    runs, skipped = _read(config)
    target = _target(runs, config)
    if target is None:
        raise DataError(_nothing(config, runs, skipped))
    lineage = Lineage(runs)
    chosen = [(run, found) for run in runs if (found := _figure(run, target)) is not None]
    described = [describe(run, lineage) for run, _ in chosen]
    arms = arm_names(described, group_by=config.group_by, labels=config.label)
    measured = [Measured(one, arm, found.value) for one, arm, (_, found) in zip(described, arms, chosen, strict=True)]
    used = {ancestor.directory for one in described for ancestor in (one.run, *one.ancestors)}
    data = _data_option(runs, target)
    lacking = [(run.path.name, _lack(run, target, data)) for run in runs if run.directory not in used]
    return tabulate(target, measured, lineage, [*skipped, *lacking])


def _read(config: CompareConfig) -> tuple[list[Run], list[tuple[str, str]]]:
    from train.compare.runs import UnusableRunError, read_run

    runs: dict[Path, Run] = {}
    skipped = []
    for name in config.runs:
        if Path(name).is_file() or (Path(name) / "plan.json").is_file():
            continue  # a store, or the log beside one: what else runs/* matches
        try:
            run = read_run(Path(name))
            runs.setdefault(run.path, run)
        except UnusableRunError as error:
            skipped.append((Path(name).name, str(error)))
    return list(runs.values()), skipped


def _target(runs: list[Run], config: CompareConfig) -> Target | None:
    """What most runs were measured on; of equal ones whole splits, then the first by name.

    One that does not say which images it has stands for all that agree with it: it is taken where none of them says so.
    """
    found = [target for run in runs for target in _targets(run)
             if target.split == config.split and config.data in (None, target.data)]  # fmt: skip
    named = {target for target in found if target.is_sure}
    choices = {target for target in found if target.is_sure or not any(map(target.agrees, named))}
    count = {target: sum(map(target.agrees, found)) for target in choices}
    return min(choices, key=lambda target: (-count[target], bool(target.subset), target), default=None)


def _targets(run: Run) -> dict[Target, Evaluation]:
    from train.compare.table import Target

    return {Target(one.data, one.split, one.metric, one.subset, one.num_images, one.images or ""): one
            for one in run.evaluations}  # fmt: skip


def _figure(run: Run, target: Target) -> Evaluation | None:
    return next((one for other, one in _targets(run).items() if target.agrees(other)), None)


def _lack(run: Run, target: Target, data: str) -> str:
    others = list(_targets(run))
    twin = next((other for other in others if other.is_named_like(target)), None)
    if twin is not None:
        return f"measured on {counted(twin.num_images, 'other image')} of {target}, not on the same {target.num_images}"
    if others:
        return f"measured on {others[0]}, not on {target}"
    from train.evaluations import options_of

    part = options_of(target.subset)
    return f"not measured: type train evaluate --model {quote(run.typed)} --split {quote(target.split)} {part}{data}"


def _data_option(runs: list[Run], target: Target) -> str:
    """--data with what leads to the target's images from here: as typed for another run, or their name."""
    from reinforce import catalog
    from reinforce.errors import ReinforceError

    measured = [one.location for run in runs for other, one in _targets(run).items() if target.agrees(other)]
    trained = [run.config.get("data") for run in runs if run.training.get("data") == target.data]
    for place in (*measured, *trained, target.data):
        with contextlib.suppress(ReinforceError):
            if isinstance(place, str):
                catalog.resolve_data(place)
                return f"--data {quote(place)}"
    return f"--data PLACE, where the images of '{target.data}' lie"


def _nothing(config: CompareConfig, runs: list[Run], skipped: list[tuple[str, str]]) -> str:
    if not runs:
        first = f" ({skipped[0][0]}: {skipped[0][1]})" if skipped else ""
        return f"none of the {counted(len(config.runs), 'folder')} is a finished run{first}: type train compare runs/*"
    others = sorted({str(target) for run in runs for target in _targets(run)})
    if others:
        return (f"no run was measured on {config.data or 'anything'}, split {config.split}, but on "
                f"{'; '.join(others)}: type --data and --split of one of these, or train evaluate first")  # fmt: skip
    return (f"none of the {counted(len(runs), 'run')} was measured: type train evaluate --model {quote(runs[0].typed)} "
            f"--data DATA --split {quote(config.split)} first")  # fmt: skip
