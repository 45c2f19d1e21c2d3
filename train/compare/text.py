"""A comparison in letters: Markdown tables, and the same on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from reinforce.counting import counted

from train.compare.lineage import Spent
from train.compare.table import ArmRow, Cell, Comparison

METRIC_NAMES = {"accuracy": "accuracy", "mean_iou": "mean IoU"}
STAGES = ("adapt", "build", "pretrain", "distill", "finetune")
"""In the order of the pipeline."""


def as_markdown(comparison: Comparison) -> str:
    """Both tables, for docs and issues."""
    parts = [f"## {title(comparison)}", _markdown(quality_table(comparison)), spread_note(comparison),
             "## What it cost", _markdown(cost_table(comparison)), cost_note(comparison)]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def as_text(comparison: Comparison) -> str:
    """Tables with aligned columns, then what was left out."""
    left_out = [f"left out: {name}: {reason}" for name, reason in comparison.skipped]
    return "\n".join([title(comparison), *_aligned(quality_table(comparison)), "", *_aligned(cost_table(comparison)),
                      cost_note(comparison), *left_out])  # fmt: skip


def title(comparison: Comparison) -> str:
    target = comparison.target
    return f"{METRIC_NAMES[target.metric]} in % on {target}, {counted(target.num_images, 'image')}"


def spread_note(comparison: Comparison) -> str:
    """What "±" means here."""
    if comparison.num_seeds < 2:
        return "One seed each."
    return f"Mean ± standard deviation over seeds; {comparison.num_seeds} seeds unless a cell says otherwise."


def cost_note(comparison: Comparison) -> str:
    """The sum over all runs, and what is not in it."""
    total, devices = comparison.total, ", ".join(sorted(comparison.total.devices)) or "no device"
    known = duration(sum(total.by_stage().values()))
    missing = f"; not known: {', '.join(sorted(total.missing))}" if total.missing else ""
    return f"All of it together, shared stages once: {known} of {devices}{missing}."


def quality_table(comparison: Comparison) -> list[list[str]]:
    """A row an arm, a column a number of labels; the first row names the columns."""
    rows = [[arm.name, *(quality(arm.cells.get(name), comparison.num_seeds) for name in comparison.budgets)]
            for arm in comparison.arms if arm.cells]  # fmt: skip
    return [["arm", *comparison.budgets], *rows]


def cost_table(comparison: Comparison) -> list[list[str]]:
    """A row an arm and number of labels: mean device time of a seed, by stage."""
    cells = {
        arm.name: [cell for name in comparison.budgets if (cell := arm.cells.get(name))] for arm in comparison.arms
    }
    present = {stage for group in cells.values() for cell in group for stage in cell.by_stage()}
    stages = [stage for stage in STAGES if stage in present]
    rows = [[name if cell is group[0] else "", cell.budget.name, *_durations(cell, stages)]
            for name, group in cells.items() for cell in group]  # fmt: skip
    return [["arm", "labels", *stages, "in all"], *rows]


def _durations(cell: Cell, stages: Sequence[str]) -> list[str]:
    by_stage = cell.by_stage()
    return [*(duration(by_stage.get(stage)) for stage in stages), total(cell)]


def quality(cell: Cell | None, usual_seeds: int) -> str:
    """ "74.7 ± 1.2", with the number of seeds where it is another than usual."""
    if cell is None:
        return ""
    spread = "" if cell.std is None else f" ± {100 * cell.std:.1f}"
    count = len(cell.values)
    few = "" if count == usual_seeds else f" ({count} seed{'s' * (count != 1)})"
    return f"{100 * cell.mean:.1f}{spread}{few}"


def total(cell: Cell) -> str:
    """What a seed cost, or "?" where a part of it is not known."""
    return "?" if cell.seconds is None else duration(cell.seconds)


def duration(seconds: float | None) -> str:
    """ "42 s", "12.5 min" or "3.2 h" of one device."""
    if seconds is None:
        return ""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def missing_parts(arm: ArmRow) -> list[str]:
    """What an arm came from and nobody knows the cost of."""
    spents: list[Spent] = [spent for cell in arm.cells.values() for spent in cell.spent]
    return sorted({name for spent in spents for name in spent.missing})


def _markdown(table: Sequence[Sequence[str]]) -> str:
    head, *rows = [[cell.replace("|", "\\|") for cell in row] for row in table]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
