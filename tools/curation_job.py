"""What a curated transfer set is worth: students from retrieved, random and all images of a gallery (section 3.4).

    python tools/curation_job.py --gallery openclipart --sizes 1000 --seeds 0,1,2 --out runs/curation
    python tools/curation_job.py --gallery clipart-gallery --data clipart-classes --out runs/classes
    python tools/curation_job.py --gallery photographs --crops 10 --strategies query-balanced,random --out runs/crops
    python tools/curation_job.py --target global-features ... # task-agnostic transfer by each strategy (B.5, Fig. 7)

Every student has the same labels, steps and views; only its transfer set differs. Killed at any moment it goes on.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages import Runner, Stage

WHOLE, SCRATCH = "whole gallery", "scratch"
CROPS = ("--policy", "crops", "--crop-scale", "0.5,1")


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is compared, and at which scale."""

    gallery: str
    out: Path
    crops: int = 0
    sizes: tuple[int, ...] = (1000,)
    strategies: tuple[str, ...] = ("query-balanced", "random")
    has_whole: bool = True
    seeds: tuple[int, ...] = (0, 1, 2)
    data: str = "fashion-mnist"
    shots: int = 10
    target: str = "logits"
    encoders: tuple[str, ...] = ("dinov2-vits14", "efficientnet-lite0")
    embed_px: int = 84
    vfm: str = "dinov2-vits14"
    teacher: str | None = None
    """Adapted teachers that are there already, "{seed}" in it filled in."""
    vfm_px: int = 84
    student: str = "fastvit_t8"
    student_px: int = 32
    views: int = 4
    steps: int = 600
    test_limit: int = 4000

    def stages(self) -> list[Stage]:
        return [self._embedded(), *(stage for seed in self.seeds for stage in self._of_seed(seed))]

    def arms(self) -> Iterator[tuple[str, int | None]]:
        """(strategy, size) of every transfer set."""
        yield from ((strategy, size) for strategy in self.strategies for size in self.sizes)
        if self.has_whole:
            yield WHOLE, None

    def _embedded(self) -> Stage:
        encoders = [word for encoder in self.encoders for word in ("--encoder", encoder)]
        argv = ("reinforce", "embed", "--gallery", self.gallery, *encoders, "--image-size", str(self.embed_px),
                "--crops", str(self.crops), "--resume", "--out", str(self._at("gallery.zarr")))  # fmt: skip
        return Stage("embed", argv, (), (self.gallery,), self._at("gallery.zarr"))

    def _of_seed(self, seed: int) -> Iterator[Stage]:
        teachers = [] if self.teacher or self.target != "logits" else list(self._adapted(seed))
        yield from teachers
        teacher = self._teacher(seed)
        for strategy, size in self.arms():
            yield from self._arm(strategy, size, seed, teacher, [stage.name for stage in teachers[-1:]])
        yield from self._measured(SCRATCH, seed, self.student, None)

    def _teacher(self, seed: int) -> str:
        if self.target != "logits":
            return self.vfm
        return self.teacher.format(seed=seed) if self.teacher else str(self._at(f"teacher-s{seed}"))

    def _adapted(self, seed: int) -> Iterator[Stage]:
        probe, full = self._at(f"probe-s{seed}"), self._at(f"teacher-s{seed}")
        common = ("train", "adapt", *self._labels(seed), *CROPS, "--image-size", str(self.vfm_px))
        yield Stage(f"probe s{seed}", (*common, "--model", self.vfm, "--mode", "linear-probe", "--out", str(probe)), (),
                    (self.data, self.vfm), probe)  # fmt: skip
        words = ("--model", str(probe), "--mode", "full", "--lr", "1e-5,3e-5", "--epochs", "24", "--out", str(full))
        yield Stage(f"adapt s{seed}", (*common, *words), (f"probe s{seed}",), (self.data,), full)

    def _arm(self, strategy: str, size: int | None, seed: int, teacher: str, after: Sequence[str]) -> Iterator[Stage]:
        name, made = _name(strategy, size, seed), None
        if size is not None:
            made = self._curated(name, strategy, size, seed)
            yield made
        transfer = self.gallery if made is None else str(made.out)
        store, student = self._at(f"{name}.zarr"), self._at(f"{name}-student")
        size_words = ("--image-size", str(self.vfm_px)) if self.target != "logits" else ()
        build = ("reinforce", "build", "--teacher", teacher, "--target", self.target, "--transfer", transfer, *CROPS,
                 *size_words, "--views", str(self.views), "--seed", str(seed), "--resume", "--out",
                 str(store))  # fmt: skip
        yield Stage(f"build {name}", build, (*after, *([] if made is None else [made.name])), (transfer,), store)
        distill = ("train", "distill", "--cache", str(store), "--student", self.student, "--image-size",
                   str(self.student_px), "--batch-size", "64", "--steps", str(self.steps), "--lr", "1e-3", "--seed",
                   str(seed), "--resume", "--out", str(student))  # fmt: skip
        yield Stage(f"distill {name}", distill, (f"build {name}",), (), student)
        yield from self._measured(name, seed, str(student), f"distill {name}")

    def _curated(self, name: str, strategy: str, size: int, seed: int) -> Stage:
        argv = ("reinforce", "curate", "--gallery", str(self._at("gallery.zarr")), "--query", self.data, "--shots",
                str(self.shots), "--seed", str(seed), "--size", str(size), "--strategy", strategy, "--resume", "--out",
                str(self._at(f"set-{name}")))  # fmt: skip
        return Stage(f"curate {name}", argv, ("embed",), (self.data,), self._at(f"set-{name}"))

    def _measured(self, name: str, seed: int, model: str, after: str | None) -> Iterator[Stage]:
        """Finetuned on the labels, and evaluated."""
        name = name if after else _name(SCRATCH, None, seed)
        tuned = self._at(f"{name}-ft")
        tuning = ("--epochs", "30", "--lr", "1e-4,5e-4") if after else ("--epochs", "80", "--lr", "1e-3,3e-3")
        mode = "best" if after and self.target != "logits" else "full"
        yield Stage(f"finetune {name}", ("train", "finetune", "--model", model, "--mode", mode, *self._labels(seed),
                    *CROPS, "--image-size", str(self.student_px), *tuning, "--out", str(tuned)),
                    (after,) if after else (), (self.data,), tuned)  # fmt: skip
        yield Stage(f"evaluate {name}", ("train", "evaluate", "--model", str(tuned), "--data", self.data, "--split",
                    "test", "--limit", str(self.test_limit)), (f"finetune {name}",), (self.data,))  # fmt: skip

    def _labels(self, seed: int) -> tuple[str, ...]:
        return ("--data", self.data, "--shots", str(self.shots), "--seed", str(seed), "--batch-size", "20",
                "--val-limit", "300", "--resume")  # fmt: skip

    def _at(self, name: str) -> Path:
        return self.out / name.replace(" ", "-")


def table(job: Job, record: dict[str, Any]) -> str:
    """Mean test accuracy of each transfer set, its standard deviation, and the gain over scratch, paired by seed."""
    scratch = _accuracies(record, SCRATCH, None, job.seeds)
    lines = ["| transfer set | images | test accuracy | over scratch | seeds |", "|---|---|---|---|---|"]
    for strategy, size in (*job.arms(), (SCRATCH, None)):
        found = _accuracies(record, strategy, size, job.seeds)
        if found:
            gains = [100 * (found[seed] - scratch[seed]) for seed in found if seed in scratch]
            gain = f"{statistics.mean(gains):+.1f}" if gains and strategy != SCRATCH else ""
            mean = _mean_and_std(list(found.values()))
            lines.append(f"| {strategy} | {size or ''} | {mean} | {gain} | {len(found)} |")
    return "\n".join(lines)


def _accuracies(record: dict[str, Any], strategy: str, size: int | None, seeds: Sequence[int]) -> dict[int, float]:
    entries = {seed: record.get(f"evaluate {_name(strategy, size, seed)}", {}) for seed in seeds}
    return {seed: entry["result"]["accuracy"] for seed, entry in entries.items() if "result" in entry}


def _mean_and_std(values: Sequence[float]) -> str:
    spread = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f} %{spread}"


def _name(strategy: str, size: int | None, seed: int) -> str:
    return f"{strategy} s{seed}" if size is None else f"{strategy} {size} s{seed}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gallery", default="openclipart")
    parser.add_argument("--data", default=Job.data, help="the task: its labelled images ask, and train")
    parser.add_argument("--crops", type=int, default=0)
    parser.add_argument("--sizes", default="1000")
    parser.add_argument("--strategies", default="query-balanced,random")
    parser.add_argument("--no-whole", action="store_true", help="leave the whole gallery out")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--target", choices=("logits", "global-features"), default="logits")
    parser.add_argument("--teacher", help='adapted teachers that are there, such as "runs/teacher-s{seed}"')
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    job = Job(gallery=args.gallery, data=args.data, crops=args.crops, sizes=tuple(map(int, args.sizes.split(","))),
              strategies=tuple(args.strategies.split(",")), has_whole=not args.no_whole, teacher=args.teacher,
              seeds=tuple(map(int, args.seeds.split(","))), target=args.target, steps=args.steps,
              out=args.out)  # fmt: skip
    runner = Runner(job.out)
    record = runner.run(job.stages(), keep_going=True)
    text = table(job, record)
    (job.out / "summary.md").write_text(text + "\n")
    print(text)
    if runner.failed:
        raise SystemExit(json.dumps(runner.failed, indent=1))


if __name__ == "__main__":
    main()
