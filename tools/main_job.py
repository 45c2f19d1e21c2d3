"""The main job, by its commands: adapt a teacher, cache its logits, distill, finetune, evaluate; scratch beside it.

    python tools/main_job.py --preset quickstart --out runs/quickstart
    python tools/main_job.py --preset results --seeds 0,1,2 --out runs/results      # docs/results.md

Each stage is a `reinforce` or `train` command whose JSON is kept in record.json; a recorded stage is not run again.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intervals import of_accuracy
from stages import Stage, run_stages


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Scale of a run; what is not here is the same in all."""

    limit: int
    """Unlabelled images of the transfer set."""
    views: int
    adapt_epochs: int
    adapt_lr: str
    distill_epochs: int
    finetune_epochs: int
    finetune_lr: str
    scratch_epochs: int
    scratch_lr: str
    test_limit: int
    data: str = "fashion-mnist"
    transfer: str = "fashion-mnist-train"
    teacher: str = "dinov2-vits14"
    shots: int = 10
    teacher_px: int = 84
    student: str = "fastvit_t8"
    student_px: int = 32
    val_limit: int = 300
    """Validation images that choose between epochs and learning rates."""
    crop_scale: str = "0.5,1"


PRESETS = {
    "quickstart": Preset(
        limit=3000, views=4, adapt_epochs=24, adapt_lr="3e-5", distill_epochs=6, finetune_epochs=20,
        finetune_lr="1e-4", scratch_epochs=60, scratch_lr="3e-3", test_limit=4000,
    ),
    "results": Preset(
        limit=12000, views=3, adapt_epochs=30, adapt_lr="3e-5", distill_epochs=6, finetune_epochs=30,
        finetune_lr="2e-5,1e-4", scratch_epochs=80, scratch_lr="1e-3,3e-3", test_limit=10000,
    ),
}  # fmt: skip


def stages(preset: Preset, seed: int, folder: Path) -> list[Stage]:
    """The commands of one seed, in order."""
    p = preset
    teacher, store = folder / f"{folder.parent.name}-{folder.name}-teacher", folder / "store.zarr"
    distilled, student, scratch = (folder / name for name in ("distilled", "student", "scratch"))
    crops = ("--policy", "crops", "--crop-scale", p.crop_scale)
    labels = ("--data", p.data, "--shots", p.shots, "--val-limit", p.val_limit, "--seed", seed, "--resume",
              "--batch-size", 20)  # fmt: skip
    small = ("--image-size", p.student_px)
    finetune = ("train", "finetune", *labels, *small, *crops)
    commands: dict[str, tuple[object, ...]] = {
        "adapt": ("train", "adapt", "--model", p.teacher, *labels, *crops, "--image-size", p.teacher_px,
                  "--mode", "best", "--lr", p.adapt_lr, "--epochs", p.adapt_epochs, "--out", teacher),
        "build": ("reinforce", "build", "--teacher", teacher, "--transfer", p.transfer, "--limit", p.limit, *crops,
                  "--views", p.views, "--seed", seed, "--resume", "--out", store),
        "distill": ("train", "distill", "--cache", store, "--student", p.student, *small, "--batch-size", 32,
                    "--lr", "1e-3", "--epochs", p.distill_epochs, "--seed", seed, "--resume", "--out", distilled),
        "finetune": (*finetune, "--model", distilled, "--epochs", p.finetune_epochs, "--lr", p.finetune_lr,
                     "--out", student),
        "from scratch": (*finetune, "--model", p.student, "--epochs", p.scratch_epochs, "--lr", p.scratch_lr,
                         "--out", scratch),
    }  # fmt: skip
    models = {"teacher": teacher, "distilled": distilled, "student": student, "scratch": scratch}
    for name, path in models.items():
        commands[f"evaluate {name}"] = (
            "train", "evaluate", "--model", path, "--data", p.data, "--split", "test", "--limit", p.test_limit,
        )  # fmt: skip
    return [Stage(name, tuple(map(str, argv))) for name, argv in commands.items()]


ROWS = {
    "teacher": "teacher, adapted",
    "distilled": "student, distilled from the store",
    "student": "student, distilled and finetuned",
    "scratch": "student, from scratch on the same labels",
}


def summarize(records: Sequence[dict[str, Any]], setup_seconds: float | None) -> str:
    """The table of accuracies, the gain, and what each stage took."""
    lines = ["", "| model | test accuracy | 95 % interval |", "|---|---|---|"]
    for name, label in ROWS.items():
        accuracies, num_images = _accuracies(records, name)
        half = of_accuracy(accuracies, num_images)
        lines.append(f"| {label} | {100 * statistics.mean(accuracies):.1f} % | ± {100 * half:.1f} |")
    lines += ["", gain(records)]
    certificate = records[0]["build"]["result"]["certificate"]
    lines.append(
        f"store: {certificate['bytes_per_view']:.1f} bytes per view at a mean KL of {certificate['kl_mean']:.1e}"
    )
    times = [
        f"{stage} {statistics.mean(r[stage]['seconds'] for r in records):.0f}"
        for stage in ("adapt", "build", "distill", "finetune", "from scratch")
    ]
    setup = [] if setup_seconds is None else [f"install and fetch {setup_seconds:.0f}"]
    lines.append("seconds: " + ", ".join([*setup, *times]))
    return "\n".join(lines)


def gain(records: Sequence[dict[str, Any]]) -> str:
    """What the student gained over scratch, paired by seed, with its 95 % interval."""
    pairs = zip(_accuracies(records, "student")[0], _accuracies(records, "scratch")[0], strict=True)
    gains, num_images = [student - scratch for student, scratch in pairs], _accuracies(records, "student")[1]
    half = (
        of_accuracy(gains, num_images)
        if len(gains) > 1
        else math.sqrt(sum(of_accuracy(_accuracies(records, n)[0], num_images) ** 2 for n in ("student", "scratch")))
    )
    return f"gained over scratch: {100 * statistics.mean(gains):+.1f} points ± {100 * half:.1f}"


def _accuracies(records: Sequence[dict[str, Any]], name: str) -> tuple[list[float], int]:
    results = [record[f"evaluate {name}"]["result"] for record in records]
    return [result["accuracy"] for result in results], results[0]["num_images"]


def draw(records: Sequence[dict[str, Any]], path: Path) -> None:
    """Bars of the four accuracies with their intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = list(reversed(ROWS))
    values = [100 * statistics.mean(_accuracies(records, name)[0]) for name in names]
    errors = [100 * of_accuracy(*_accuracies(records, name)) for name in names]
    colors = ["#9aa5b1" if name == "scratch" else "#4c78a8" if name == "teacher" else "#e4863a" for name in names]
    figure, axis = plt.subplots(figsize=(8, 2.8), layout="constrained")
    axis.barh([ROWS[name] for name in names], values, xerr=errors, color=colors, capsize=4, height=0.62)
    for i, (value, error) in enumerate(zip(values, errors, strict=True)):
        axis.text(value + error + 0.6, i, f"{value:.1f} %", va="center", fontsize=9)
    axis.set_xlim(max(0, min(values) - 15), min(100, max(v + e for v, e in zip(values, errors, strict=True)) + 7))
    axis.set_xlabel("test accuracy in %, with 95 % interval (axis does not start at 0)")
    axis.set_title(gain(records), fontsize=10, loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="quickstart")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--setup-seconds", type=float)
    args = parser.parse_args()
    started = time.monotonic()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    records = [
        run_stages(stages(PRESETS[args.preset], seed, folder), folder)
        for seed in seeds
        for folder in [args.out / f"seed-{seed}"]
    ]
    summary = summarize(records, args.setup_seconds)
    (args.out / "summary.md").write_text(summary + "\n")
    draw(records, args.out / "summary.png")
    print(summary)
    total = time.monotonic() - started + (args.setup_seconds or 0)
    print(f"total: {total / 60:.1f} minutes; wrote {args.out}/summary.md and summary.png")


if __name__ == "__main__":
    main()
