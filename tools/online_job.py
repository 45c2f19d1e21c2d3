"""What a cache costs in quality: students of a store, and of its live teacher over the same views and steps.

    python tools/online_job.py --cache cc3m.zarr --teacher dinov2-ft --data mytask --student fastvit_t8 \
        --steps 1000 --seeds 0,1,2 --out runs/online [--distill-options "--lr 1e-3 --batch-size 32"]

Both students of a seed start from the same weights and see the same pixels in the same order; a seed draws start and
order. Each stage's JSON is kept in record.json; a recorded stage is not run again.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from intervals import over_seeds
from stages import Stage, run_stages

WAYS = ("cached", "online")


def stages(args: argparse.Namespace, seed: int) -> list[Stage]:
    """The commands of one seed, in order."""
    found = []
    for way in WAYS:
        out = args.out / f"seed-{seed}" / way
        live = ("--online-teacher", args.teacher) if way == "online" else ()
        command = ("train", "distill", "--cache", args.cache, *_transfer(args), "--student", args.student, "--steps",
                   args.steps, "--seed", seed, *shlex.split(args.distill_options), *live, "--resume",
                   "--out", out)  # fmt: skip
        measure = ("train", "evaluate", "--model", out, "--data", args.data, "--split", "test")
        found += [_stage(f"{way} {seed}", command, out=out), _stage(f"evaluate {way} {seed}", measure,
                                                                    inputs=(f"{way} {seed}",))]  # fmt: skip
    return found


def _transfer(args: argparse.Namespace) -> tuple[str, ...]:
    return ("--transfer", args.transfer) if args.transfer else ()


def _stage(name: str, argv: Sequence[object], *, inputs: tuple[str, ...] = (), out: Path | None = None) -> Stage:
    return Stage(name, tuple(map(str, argv)), inputs, out=out)


def summarize(record: dict[str, Any], seeds: Sequence[int]) -> str:
    """A table of test scores, their difference paired by seed, and what each way took."""
    metric = next(name for name in ("accuracy", "mean_iou") if name in record[f"evaluate cached {seeds[0]}"]["result"])
    scores = {way: [record[f"evaluate {way} {seed}"]["result"][metric] for seed in seeds] for way in WAYS}
    kls = {way: [record[f"{way} {seed}"]["result"]["kl"] for seed in seeds] for way in WAYS}
    seconds = {way: statistics.mean(record[f"{way} {seed}"]["seconds"] for seed in seeds) for way in WAYS}
    lines = [f"| targets | test {metric.replace('_', ' ')} by seed | mean | KL to the teacher, held out | seconds |",
             "|---|---|---|---|---|"]  # fmt: skip
    for way in WAYS:
        each = ", ".join(f"{100 * score:.2f}" for score in scores[way])
        lines.append(f"| {way} | {each} | {100 * statistics.mean(scores[way]):.2f} % | "
                     f"{statistics.mean(kls[way]):.4f} | {seconds[way]:.0f} |")  # fmt: skip
    return "\n".join([*lines, "", f"cached less online: {_paired(scores)}"])


def _paired(scores: dict[str, list[float]]) -> str:
    differences = [100 * (cached - online) for cached, online in zip(*(scores[way] for way in WAYS), strict=True)]
    if len(differences) == 1:
        return f"{differences[0]:+.2f} points (one seed)"
    mean, half = statistics.mean(differences), over_seeds(differences)
    return f"{mean:+.2f} ± {half:.2f} points (95 %, t, {len(differences)} seeds)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("cache", "teacher", "data", "student", "steps"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--transfer")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--distill-options", default="")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    record = run_stages([stage for seed in seeds for stage in stages(args, seed)], args.out)
    summary = summarize(record, seeds)
    (args.out / "summary.md").write_text(summary + "\n")
    print(f"\n{summary}\nwrote {args.out}/summary.md")


if __name__ == "__main__":
    main()
