"""The segmentation job, by its commands: adapt with few masks, cache maps of logits, distill, finetune, evaluate.

    python tools/segmentation_job.py --out runs/segmentation                  # one seed, small
    python tools/segmentation_job.py --preset results --seeds 0,1,2 --out runs/segmentation

Scenes with true masks are made first. Beside every student: the same network from scratch on the few masks, and on all
of them. Each stage's JSON is kept in record.json; a recorded stage is not run again.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from intervals import over_seeds
from stages import Stage, run_stages

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Scale of a run."""

    size_px: int
    num_train: int
    num_test: int
    num_labelled: int
    views: int
    adapt: tuple[str, ...]
    distill_epochs: int
    finetune_epochs: int
    scratch_epochs: int
    all_epochs: int
    students: tuple[str, ...]


PRESETS = {
    "small": Preset(
        size_px=64, num_train=4000, num_test=500, num_labelled=200, views=2, adapt=("--mode", "linear-probe"),
        distill_epochs=4, finetune_epochs=15, scratch_epochs=40, all_epochs=4, students=("mobilevitv2_050",),
    ),
    "medium": Preset(
        size_px=64, num_train=4000, num_test=500, num_labelled=100, views=4, adapt=("--mode", "linear-probe"),
        distill_epochs=12, finetune_epochs=30, scratch_epochs=150, all_epochs=12,
        students=("mobilevitv2_050", "fastvit_t8"),
    ),
    "results": Preset(
        size_px=64, num_train=4000, num_test=500, num_labelled=200, views=8,
        adapt=("--mode", "best", "--lr", "3e-5", "--epochs", "15"),
        distill_epochs=30, finetune_epochs=60, scratch_epochs=300, all_epochs=30,
        students=("mobilevitv2_050", "fastvit_t8"),
    ),
}  # fmt: skip
TEACHER = "dinov2-vits14"
ROWS = {
    "distilled": "distilled from the store",
    "finetuned": "distilled and finetuned",
    "scratch": "from scratch on the same masks",
    "all masks": "from scratch on all masks",
}


def make_scenes(preset: Preset, folder: Path) -> Path:
    scenes = folder / f"scenes-{preset.size_px}"
    if not scenes.exists():
        command = (sys.executable, HERE / "make_scenes.py", "--out", scenes, "--num-train", preset.num_train,
                   "--num-test", preset.num_test, "--size", preset.size_px, "--seed", 0)  # fmt: skip
        run_stages([Stage("scenes", tuple(map(str, command)))], folder)
    return scenes


def stages(preset: Preset, scenes: Path, seed: int, folder: Path) -> list[Stage]:
    """The commands of one seed, in order."""
    p, teacher, store = preset, folder / f"{folder.parent.name}-{folder.name}-teacher", folder / "store.zarr"
    few = ("--num-labelled", p.num_labelled)
    common = ("--task", "segmentation", "--data", scenes, "--image-size", p.size_px, "--seed", seed, "--resume")
    commands: dict[str, tuple[object, ...]] = {
        "adapt": ("train", "adapt", "--model", TEACHER, *common, *few, "--head", "linear", "--batch-size", 20, *p.adapt,
                  "--out", teacher),
        "build": ("reinforce", "build", "--teacher", teacher, "--transfer", scenes / "train", "--views", p.views,
                  "--seed", seed, "--resume", "--out", store),
        "evaluate teacher": _evaluate(teacher, scenes),
    }  # fmt: skip
    for student in p.students:
        runs = {name: folder / student / name.replace(" ", "-") for name in ROWS}
        tune = ("train", "finetune", *common, "--mode", "full", "--batch-size", 32)
        untrained = (*tune, "--model", student, "--head", "linear", "--lr", "2e-3")
        commands |= {
            f"{student}: distilled": ("train", "distill", "--cache", store, "--student", student, "--head", "linear",
                                      "--batch-size", 32, "--lr", "1e-3", "--epochs", p.distill_epochs, "--seed", seed,
                                      "--resume", "--out", runs["distilled"]),
            f"{student}: finetuned": (*tune, *few, "--model", runs["distilled"], "--lr", "3e-4", "--epochs",
                                      p.finetune_epochs, "--out", runs["finetuned"]),
            f"{student}: scratch": (*untrained, *few, "--epochs", p.scratch_epochs, "--out", runs["scratch"]),
            f"{student}: all masks": (*untrained, "--epochs", p.all_epochs, "--out", runs["all masks"]),
        }  # fmt: skip
        commands |= {f"evaluate {student}: {name}": _evaluate(path, scenes) for name, path in runs.items()}
    return [Stage(name, tuple(map(str, argv))) for name, argv in commands.items()]


def _evaluate(model: Path, scenes: Path) -> tuple[object, ...]:
    return ("train", "evaluate", "--model", model, "--data", scenes, "--split", "test")


def summarize(preset: Preset, records: Sequence[dict[str, Any]]) -> str:
    """Mean IoU of every model, over seeds, and what each stage took."""
    lines = ["| model | mean IoU on test scenes | 95 % over seeds |", "|---|---|---|"]
    lines.append(_row("teacher, adapted", "evaluate teacher", records))
    for student in preset.students:
        lines += [_row(f"{student}, {label}", f"evaluate {student}: {name}", records) for name, label in ROWS.items()]
    certificate = records[0]["build"]["result"]["certificate"]
    lines.append(f"\nstore: {certificate['codec']}, {certificate['bytes_per_view']:.0f} bytes a view at a mean KL per "
                 f"pixel of {certificate['kl_mean']:.1e}")  # fmt: skip
    seconds = {stage: statistics.mean(record[stage]["seconds"] for record in records) for stage in records[0]}
    lines.append("seconds: " + ", ".join(f"{stage} {value:.0f}" for stage, value in seconds.items()))
    return "\n".join(lines)


def _row(label: str, stage: str, records: Sequence[dict[str, Any]]) -> str:
    values = [record[stage]["result"]["mean_iou"] for record in records]
    spread = "one seed" if len(values) == 1 else f"± {100 * over_seeds(values):.1f}"
    return f"| {label} | {100 * statistics.mean(values):.1f} % | {spread} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=PRESETS, default="small")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--students", help="some of the preset's, such as mobilevitv2_050 (default: all)")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    preset = PRESETS[args.preset]
    if args.students:
        preset = replace(preset, students=tuple(args.students.split(",")))
    scenes = make_scenes(preset, args.out)
    records = []
    for seed in map(int, args.seeds.split(",")):
        folder = args.out / f"seed-{seed}"
        records.append(run_stages(stages(preset, scenes, seed, folder), folder))
    summary = summarize(preset, records)
    (args.out / "summary.md").write_text(summary + "\n")
    print(f"\n{summary}\nwrote {args.out}/summary.md")


if __name__ == "__main__":
    main()
