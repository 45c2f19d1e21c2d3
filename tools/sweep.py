"""Every way of training a student beside each other: label budgets x arms x seeds, by the commands.

    python tools/sweep.py --preset small --tasks fashion-mnist --out runs/sweep    # about an hour on 2 cores
    python tools/sweep.py --preset results --out runs/sweep                        # hours a seed
    python tools/sweep.py --preset paper --out runs/sweep --dry-run                # the commands, for GPUs

Killed at any moment it goes on where it was. Stages that arms share (a teacher, a store, a student of all budgets) run
once. At the end `train compare` writes a report for each task, VFM and transfer set into OUT/reports.
"""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from stages import Runner, StageFailedError, call
from sweep_plan import ARMS, Plan, Preset, make_plan
from sweep_presets import PRESETS

EXPERIMENTS = ("arms", "views")


def narrowed(preset: Preset, *, tasks: Sequence[str], vfms: Sequence[str], transfers: Sequence[str],
             budgets: Sequence[str], seeds: Sequence[str]) -> Preset:  # fmt: skip
    """A part of a preset; an empty choice is all. Exits for a name that it does not have."""
    chosen = {}
    for name in _among("task", tasks, preset.tasks):
        task = preset.tasks[name]
        chosen[name] = dataclasses.replace(
            task,
            budgets={budget: task.budgets[budget] for budget in _among("budget", budgets, task.budgets)},
            transfers={place: task.transfers[place] for place in _among("transfer set", transfers, task.transfers)},
        )
    return dataclasses.replace(preset, tasks=chosen, seeds=tuple(map(int, seeds)) or preset.seeds,
                               vfms={vfm: preset.vfms[vfm] for vfm in _among("VFM", vfms, preset.vfms)})  # fmt: skip


def _among(what: str, chosen: Sequence[str], known: Any) -> list[str]:
    for name in chosen:
        if name not in known:
            sys.exit(f"sweep: this preset has no {what} '{name}': choose from {', '.join(known)}")
    return list(chosen or known)


def run(plan: Plan, execute: Callable[[Sequence[str]], dict[str, Any]] = call) -> Runner:
    """All stages, then the reports of what could be measured."""
    runner = Runner(plan.folder, execute)
    runner.run(list(plan.stages.values()), keep_going=True)
    tables = [_report(plan, name, runs, runner) for name, runs in plan.reports.items()]
    (plan.folder / "summary.md").write_text("\n".join(table for table in tables if table))
    return runner


def _report(plan: Plan, name: str, runs: Sequence[Path], runner: Runner) -> str:
    """The tables of one report, as Markdown; "" where nothing of it was measured, or it failed."""
    measured = [str(path) for path in runs if any(path.glob("evaluation-*.json"))]
    if not measured:
        return ""
    out = plan.folder / "reports" / name
    by = ("--group-by", "method,views") if name.endswith("-views") else ()
    try:
        runner.execute(["train", "compare", *measured, "--out", str(out), "--overwrite", *by, "--json"])
    except StageFailedError as error:
        runner.failed[f"report {name}"] = str(error)
        return ""
    return f"# {name}\n\n{(out / 'comparison.md').read_text()}"


def commands(plan: Plan) -> str:
    """What would be run, in order."""
    return "\n".join(shlex.join(stage.argv) for stage in plan.stages.values())


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--out", type=Path, required=True)
    names = [arm.name for arm in ARMS]
    parser.add_argument("--arms", type=_words, default=names, help=f"some of {', '.join(names)} (default: all)")
    parser.add_argument("--experiments", type=_words, default=list(EXPERIMENTS), help="arms, views, or both")
    for option in ("--tasks", "--vfms", "--transfers", "--budgets", "--seeds"):
        parser.add_argument(option, type=_words, default=[], help="some of the preset's, with commas (default: all)")
    parser.add_argument("--views", type=int, help="of each image in the arms' stores (default: the preset's)")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and stop")
    args = parser.parse_args()
    _among("arm", args.arms, names)
    _among("experiment", args.experiments, EXPERIMENTS)
    preset = narrowed(PRESETS[args.preset](args.out), tasks=args.tasks, vfms=args.vfms, transfers=args.transfers,
                      budgets=args.budgets, seeds=args.seeds)  # fmt: skip
    if args.views is not None:
        preset = dataclasses.replace(preset, views=args.views)
    plan = make_plan(preset, args.out, arms=args.arms, experiments=args.experiments)
    if args.dry_run:
        print(commands(plan))
        return
    runner = run(plan)
    print((args.out / "summary.md").read_text())
    print(f"wrote {args.out}/summary.md and {args.out}/reports")
    if runner.failed:
        sys.exit("\n".join(f"not done: {name}: {why}" for name, why in runner.failed.items()))


if __name__ == "__main__":
    main()
