"""The report's files: an offline page, both plots as PNG, the tables as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reinforce.errors import OutputExistsError, UsageError
from reinforce.pages import Axes, Drawing, Line, SeriesPlotter, render, write_page

from train.compare import text
from train.compare.table import ArmRow, Cell, Comparison

MOST_TICKS = 6
PAGE, MARKDOWN, DATA = "comparison.html", "comparison.md", "comparison.json"


def check_report(out: str, *, overwrite: bool) -> None:
    """Before anything is drawn or written. Raises OutputExistsError, UsageError for a file in the way."""
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--out {out} is a file: type a folder")
    if any((folder / name).exists() for name in (PAGE, MARKDOWN, DATA)) and not overwrite:
        raise OutputExistsError(out)


def write_report(comparison: Comparison, folder: Path) -> tuple[str, ...]:
    """The paths written. Raises MissingExtraError without matplotlib."""
    plotter = SeriesPlotter("train compare")
    metric = comparison.target.metric.replace("_", "-")
    drawn = {"labels": by_labels(comparison, plotter), "compute": by_compute(comparison, plotter)}
    plots = {f"{metric}-by-{name}.png": plot for name, plot in drawn.items() if plot is not None}
    folder.mkdir(parents=True, exist_ok=True)
    contents = {PAGE: _page(comparison, drawn), MARKDOWN: text.as_markdown(comparison).encode(),
                DATA: (json.dumps(comparison.to_json(), indent=2) + "\n").encode(),
                **{name: drawing.png for name, drawing in plots.items()}}  # fmt: skip
    for name, content in contents.items():
        write_page(folder / name, content, overwrite=True)
    return tuple(str(folder / name) for name in contents)


def by_labels(comparison: Comparison, plotter: SeriesPlotter) -> Drawing | None:
    """Quality per number of labels, a line an arm (paper Fig. 4a); None where kept checkpoints alone were measured."""
    arms = [arm for arm in comparison.arms if arm.cells]
    if not arms:
        return None
    cells = {name: next(arm.cells[name] for arm in arms if name in arm.cells)
             for name in comparison.budgets if any(name in arm.cells for arm in arms)}  # fmt: skip
    place = {name: max(cell.num_labels, 1.0) for name, cell in cells.items()}
    lines = [_line(arm, [arm.cells[name] for name in place if name in arm.cells],
                   [place[name] for name in place if name in arm.cells]) for arm in arms]  # fmt: skip
    axes = Axes(title=f"{_metric(comparison)} by number of labels", x_label="labelled images of the task",
                y_label=f"{_metric(comparison)} in %", ticks=_labels(place),
                is_dodged=True)  # fmt: skip
    return plotter.draw(lines, axes)


def by_compute(comparison: Comparison, plotter: SeriesPlotter) -> Drawing | None:
    """Quality by device time at one number of labels, a line an arm over its kept checkpoints (paper Fig. 3)."""
    budget = comparison.compute_budget
    points = [(arm, cells) for arm in comparison.arms if (cells := arm.curve_at(budget or ""))]
    if not points:
        return None
    lines = [_line(arm, cells, [cell.seconds or 0.0 for cell in cells]) for arm, cells in points]
    axes = Axes(title=f"{_metric(comparison)} by device time", x_label=f"device time of all that led to it, {budget}",
                y_label=f"{_metric(comparison)} in %", ticks=_times([x for line in lines for x in line.x]))  # fmt: skip
    return plotter.draw(lines, axes)


def _labels(place: dict[str, float]) -> list[tuple[float, str]]:
    """A tick for each number of labels, be it that of several budgets."""
    return [(x, " / ".join(name for name, other in place.items() if other == x)) for x in dict.fromkeys(place.values())]


def _times(seconds: list[float]) -> list[tuple[float, str]]:
    """Round times within a span, at most MOST_TICKS."""
    low, high = min(seconds) / 1.1, max(seconds) * 1.1
    units = ((1.0, "s", (1, 2, 5, 10, 20, 30)), (60.0, "min", (1, 2, 5, 10, 20, 30)),
             (3600.0, "h", (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)))  # fmt: skip
    ticks = [(unit * n, f"{n} {name}") for unit, name, numbers in units for n in numbers if low <= unit * n <= high]
    shown = ticks[:: -(-len(ticks) // MOST_TICKS) or 1]
    return shown or [(seconds[0], text.duration(seconds[0]))]


def _line(arm: ArmRow, cells: list[Cell], x: list[float]) -> Line:
    spread = [None if cell.std is None else 100 * cell.std for cell in cells]
    return Line(label=arm.name, x=x, y=[100 * cell.mean for cell in cells], spread=spread, is_reference=arm.is_teacher)


def _page(comparison: Comparison, drawn: Mapping[str, Drawing | None]) -> bytes:
    return render(
        "comparison.html",
        package="train",
        title=text.title(comparison),
        metric=_metric(comparison),
        tiles=_tiles(comparison),
        plots={name: None if plot is None else plot.svg for name, plot in drawn.items()},
        budget=comparison.compute_budget,
        quality=text.quality_table(comparison),
        best=_best(comparison),
        spread_note=text.spread_note(comparison),
        cost=text.cost_table(comparison),
        cost_note=text.cost_note(comparison),
        missing=[(arm.name, parts) for arm in comparison.arms if (parts := text.missing_parts(arm))],
        runs=_runs(comparison),
        skipped=comparison.skipped,
    )


def _tiles(comparison: Comparison) -> list[tuple[str, str]]:
    return [
        ("arms", str(len(comparison.arms))),
        ("runs", str(comparison.num_runs)),
        ("seeds", str(comparison.num_seeds)),
        ("images", f"{comparison.target.num_images:,}"),
        ("device time", text.duration(sum(comparison.total.by_stage().values()))),
    ]


def _best(comparison: Comparison) -> list[tuple[int, int]]:
    """(row, column) of the quality table's best students of each column, teachers apart."""
    arms = [arm for arm in comparison.arms if arm.cells]
    found = []
    for column, name in enumerate(comparison.budgets, start=1):
        means = {row: arm.cells[name].mean for row, arm in enumerate(arms) if name in arm.cells and not arm.is_teacher}
        if len(means) > 1:
            found += [(row, column) for row, mean in means.items() if mean == max(means.values())]
    return found


def _runs(comparison: Comparison) -> list[dict[str, Any]]:
    cells = [(arm, cell) for arm in comparison.arms for cell in (*arm.cells.values(), *arm.curve.values())]
    return [{"arm": arm.name, "name": one.described.run.path.name, "labels": one.described.budget.name,
             "seed": one.described.seed, "step": one.described.step, "value": one.value}
            for arm, cell in cells for one in cell.measured]  # fmt: skip


def _metric(comparison: Comparison) -> str:
    return text.METRIC_NAMES[comparison.target.metric]
