"""Runs of one arm and one number of labels, over seeds: means, spreads and what they cost."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from reinforce.errors import DataError

from train.compare.arms import Budget, Described, differences
from train.compare.lineage import Lineage, Spent


@dataclasses.dataclass(frozen=True, order=True)
class Target:
    """What was measured: only figures of one target are compared."""

    data: str
    split: str
    metric: str
    subset: str = ""
    num_images: int = 0
    images: str = ""
    """Digest of which images; "" where the evaluation does not say."""

    @property
    def is_sure(self) -> bool:
        return bool(self.images)

    def is_named_like(self, other: Target) -> bool:
        """The same but for the images, which may be others of a dataset of the same name."""
        names = [(one.data, one.split, one.metric, one.subset) for one in (self, other)]
        return names[0] == names[1]

    def agrees(self, other: Target) -> bool:
        """Whether figures can stand beside each other: the same number of images, and no two digests of them."""
        same_images = self.images == other.images or not (self.is_sure and other.is_sure)
        return self.is_named_like(other) and self.num_images == other.num_images and same_images

    def __str__(self) -> str:
        part = f" ({self.subset})" if self.subset else ""
        return f"{self.data}, split {self.split}{part}"


@dataclasses.dataclass(frozen=True)
class Measured:
    """One run's figure, 0..1, on the target's images."""

    described: Described
    arm: str
    value: float


@dataclasses.dataclass(frozen=True)
class Cell:
    """The same training under several seeds."""

    measured: tuple[Measured, ...]
    spent: tuple[Spent, ...]

    @property
    def values(self) -> list[float]:
        return [one.value for one in self.measured]

    @property
    def seeds(self) -> list[int]:
        return [one.described.seed for one in self.measured]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Of the sample (n - 1); None for one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def budget(self) -> Budget:
        return self.measured[0].described.budget

    @property
    def num_labels(self) -> float:
        return statistics.fmean(one.described.budget.num_images for one in self.measured)

    @property
    def seconds(self) -> float | None:
        """Mean device seconds of a seed, everything before it included; None where some are not known."""
        known = [spent.seconds for spent in self.spent if spent.seconds is not None]
        return statistics.fmean(known) if len(known) == len(self.spent) else None

    def by_stage(self) -> dict[str, float]:
        total: Counter[str] = Counter()
        for spent in self.spent:
            total.update(spent.by_stage())
        return {stage: seconds / len(self.spent) for stage, seconds in total.items()}


@dataclasses.dataclass(frozen=True)
class ArmRow:
    """`cells` by the budget's name; `curve`: (budget's name, step of a kept checkpoint) -> cell."""

    name: str
    is_teacher: bool
    cells: Mapping[str, Cell]
    curve: Mapping[tuple[str, int], Cell]

    def curve_at(self, budget: str) -> list[Cell]:
        """Cells of known cost at one budget, cheapest first, the whole training among them."""
        at_steps = [cell for (name, _), cell in self.curve.items() if name == budget]
        cells = [*at_steps, *([self.cells[budget]] if budget in self.cells else [])]
        return sorted((cell for cell in cells if cell.seconds), key=lambda cell: cell.seconds or 0)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """`skipped`: (run, why) of runs that were given and are not compared."""

    target: Target
    budgets: tuple[str, ...]
    arms: tuple[ArmRow, ...]
    total: Spent
    skipped: tuple[tuple[str, str], ...]

    @property
    def num_runs(self) -> int:
        return sum(len(cell.measured) for arm in self.arms for cell in (*arm.cells.values(), *arm.curve.values()))

    @property
    def num_seeds(self) -> int:
        return max((len(cell.values) for arm in self.arms for cell in arm.cells.values()), default=0)

    @property
    def compute_budget(self) -> str | None:
        """The budget with most kept checkpoints, of equal ones the smallest: what quality by compute is shown at."""
        points = Counter(name for arm in self.arms for name, _ in arm.curve)
        return max(self.budgets, key=lambda name: points[name], default=None)

    def to_json(self) -> dict[str, Any]:
        return {
            "task": dataclasses.asdict(self.target),
            "arms": [{"arm": arm.name, "is_teacher": arm.is_teacher,
                      "results": [_cell_json(cell) for cell in arm.cells.values()],
                      "curve": [{"step": step, **_cell_json(cell)} for (_, step), cell in arm.curve.items()]}
                     for arm in self.arms],
            "total_seconds": self.total.seconds, "seconds_by_stage": self.total.by_stage(),
            "devices": sorted(self.total.devices),
            "skipped": [{"run": run, "reason": reason} for run, reason in self.skipped],
        }  # fmt: skip


def tabulate(target: Target, measured: Sequence[Measured], lineage: Lineage,
             skipped: Sequence[tuple[str, str]]) -> Comparison:  # fmt: skip
    """Raises DataError for two runs that nothing tells apart."""
    groups: dict[str, dict[tuple[str, int | None], list[Measured]]] = defaultdict(lambda: defaultdict(list))
    for one in sorted(measured, key=lambda one: (one.described.seed, one.described.run.path)):
        groups[one.arm][one.described.budget.name, one.described.step].append(one)
    arms = [_arm(name, cells, lineage) for name, cells in groups.items()]
    order = {one.described.budget.name: one.described.budget.num_images for one in measured}
    budgets = tuple(sorted(order, key=lambda name: (order[name], name)))
    spents = [spent for arm in arms for cell in (*arm.cells.values(), *arm.curve.values()) for spent in cell.spent]
    total = functools.reduce(Spent.united, spents, Spent())
    return Comparison(target, budgets, _sorted(arms, budgets), total, tuple(skipped))


def _arm(name: str, groups: Mapping[tuple[str, int | None], list[Measured]], lineage: Lineage) -> ArmRow:
    order = sorted(groups, key=lambda key: (groups[key][0].described.budget.num_images, key[0], key[1] or 0))
    cells = {key: _cell(name, groups[key], lineage) for key in order}
    whole = {budget: cell for (budget, step), cell in cells.items() if step is None}
    curve = {(budget, step): cell for (budget, step), cell in cells.items() if step is not None}
    return ArmRow(name, all(group[0].described.is_teacher for group in groups.values()), whole, curve)


def _cell(arm: str, group: Sequence[Measured], lineage: Lineage) -> Cell:
    seen: dict[int, Measured] = {}
    for one in group:
        if (twin := seen.setdefault(one.described.seed, one)) is not one:
            raise DataError(_cannot_tell_apart(arm, twin.described, one.described))
    return Cell(tuple(group), tuple(lineage.spent(one.described.run) for one in group))


def _cannot_tell_apart(arm: str, a: Described, b: Described) -> str:
    found = differences(a, b)
    by = f"type --group-by method,{found[0]}" if found else "leave one of them out"
    return (f"{a.run.path.name} and {b.run.path.name} are both '{arm}' with {a.budget.name} and seed {a.seed}: "
            f"{by}, or name them by --label '{b.run.path.name}=NAME'")  # fmt: skip


def _sorted(arms: Sequence[ArmRow], budgets: Sequence[str]) -> tuple[ArmRow, ...]:
    """Best first, at the smallest budget that it has; teachers, which are the reference, before all."""

    def rank(arm: ArmRow) -> tuple[object, ...]:
        first = next((cell for name in budgets if (cell := arm.cells.get(name))), None)
        return (not arm.is_teacher, 0.0 if first is None else -first.mean, arm.name)

    return tuple(sorted(arms, key=rank))


def _cell_json(cell: Cell) -> dict[str, Any]:
    return {"budget": cell.budget.name, "num_labels": cell.num_labels, "seeds": cell.seeds, "values": cell.values,
            "mean": cell.mean, "std": cell.std, "seconds": cell.seconds, "seconds_by_stage": cell.by_stage(),
            "runs": [one.described.run.path.name for one in cell.measured]}  # fmt: skip
