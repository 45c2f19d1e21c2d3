"""`report.html` of a run directory: what it is, its curves, its cost, what it was measured at; made of its files alone.

It is written when a training ends or stops, and again when `train evaluate` has measured the run: worst mistakes and
confusions with it. A report that cannot be written is one line of warning: it never ends a training.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from reinforce.errors import ModelError
from reinforce.models.directory import read_info
from reinforce.models.info import ModelInfo
from reinforce.models.origin import used_stores
from reinforce.pages import ChartLine, legend, line_chart, render, write_page
from reinforce.pages.rendering import count, number, percent

from train.checkpoint import checkpoint_step
from train.compare.text import duration
from train.evaluations import METRICS, Evaluation, read_evaluations, read_shown
from train.events import POSITION
from train.rundir import COST_FILE, REPORT_FILE, MetricsLog

RATES = frozenset({"val_accuracy", "val_mean_iou", "agreement", "retrieval", "data_wait"})
"""Figures in 0..1 that are written as percent."""
TITLES = {
    "loss": "Training loss",
    "val_accuracy": "Validation accuracy",
    "val_mean_iou": "Validation mean IoU",
    "val_loss": "Validation loss",
    "kl": "KL to the teacher, on held-out views",
    "agreement": "Agreement with the teacher's top class, on held-out views",
    "contrastive": "Contrastive loss, on held-out views",
    "retrieval": "Held-out views that find their own teacher's feature",
    "cosine_distance": "Cosine distance to the teacher's patches, on held-out views",
    "lr": "Learning rate",
    "images_per_second": "Images per second",
    "data_wait": "Share of the time that waited for images",
}
"""Figure of metrics.jsonl -> what its curve is called, in the page's order; others follow under their own names."""
TALK = ("verb", "json", "quiet", "debug", "overwrite", "resume", "dry_run", "resolved")
"""Members of config.json that say nothing about the run."""
BEST_FIRST = ("val_accuracy", "val_mean_iou", "agreement", "kl", "retrieval", "contrastive", "cosine_distance", "loss")
"""The run's headline, the first of these that it has: of the model that is kept, before the end the last one's."""


@dataclasses.dataclass(frozen=True)
class Curve:
    title: str
    svg: Markup
    key: list[tuple[str, str]]
    """(colour, trial) where there is more than one."""
    last: str


def report_run(folder: Path) -> None:
    """Write the report, or say in one line on stderr why there is none."""
    try:
        write_page(folder / REPORT_FILE, run_report(folder), overwrite=True)
    except Exception as error:  # whatever it is, the training counts for more
        print(f"train: no report of {folder} ({type(error).__name__}: {error})", file=sys.stderr)  # noqa: T201


def run_report(folder: Path) -> bytes:
    """The page, by the files that are there: any may be missing."""
    config, result, cost = (_read(folder / name) for name in ("config.json", "result.json", COST_FILE))
    lines = MetricsLog(folder / "metrics.jsonl").lines()
    info, trials = _info(folder), result.get("trials") or []
    return render(
        "run.html",
        package="train",
        name=folder.resolve().name,
        verb=config.get("verb", "training"),
        finished=(folder / "result.json").is_file(),
        step=_resumes_from(folder),
        tiles=_tiles(lines, result, cost),
        subject=_subject(config, info),
        curves=curves(lines),
        trials=trials,
        trial_metric=next((name for name in METRICS.values() if any(name in trial for trial in trials)), ""),
        parts=[(name, part, duration(part["seconds"])) for name, part in cost.get("parts", {}).items()],
        total=duration(cost["seconds"]) if "seconds" in cost else "",
        evaluations=[_evaluated(one, folder) for one in read_evaluations(folder)],
        stores=used_stores(info) if info else [],
        origin=_origin(info),
        replay=_replay(info),
        settings=_rows({name: value for name, value in config.items() if name not in TALK}),
        resolved=_rows(config.get("resolved", {})),
    )


def curves(lines: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """One of each figure, with a line for each trial."""
    names = dict.fromkeys(name for line in lines for name in line if name not in POSITION)
    ordered = [name for name in TITLES if name in names] + [name for name in names if name not in TITLES]
    found = [_curve(name, lines) for name in ordered]
    return [curve for curve in found if curve is not None]


def _curve(name: str, lines: Sequence[Mapping[str, Any]]) -> Curve | None:
    points = [line for line in lines if isinstance(line.get(name), int | float)]
    if not points:
        return None
    trials = dict.fromkeys(str(line.get("trial", "")) for line in points)
    drawn = []
    for trial in trials:
        own = [line for line in points if line.get("trial", "") == trial]
        drawn.append(ChartLine(label=trial, x=[line["step"] for line in own], y=[line[name] for line in own]))
    title = TITLES.get(name, name)
    svg = line_chart(drawn, title=title, x_label="step", in_percent=name in RATES)
    return Curve(title, svg, legend(drawn) if len(drawn) > 1 else [], _written(name, points[-1][name]))


def _written(name: str, value: float) -> str:
    return percent(value) if name in RATES else number(float(value))


def _tiles(lines: Sequence[Mapping[str, Any]], result: Mapping[str, Any],
           cost: Mapping[str, Any]) -> list[tuple[str, str]]:  # fmt: skip
    found = {name: line[name] for line in [*lines, result] for name in BEST_FIRST
             if isinstance(line.get(name), int | float)}  # fmt: skip
    head = next((name for name in BEST_FIRST if name in found), None)
    devices = sorted({_devices(part["num_devices"], part["device"]) for part in cost.get("parts", {}).values()})
    return [
        *([(head.replace("_", " "), _written(head, found[head]))] if head else []),
        *([("steps", count(cost["steps"])), ("images", count(cost["images"])),
           ("device time", duration(cost["seconds"]))] if cost else []),
        *([("device", ", ".join(devices))] if devices else []),
    ]  # fmt: skip


def _devices(number_of: int, device: str) -> str:
    return device if number_of == 1 else f"{number_of} x {device}"


def _resumes_from(folder: Path) -> int:
    """The step of the checkpoint that --resume goes on with: lines of metrics and costs may be of steps that are lost.

    Of several trials the one that is under way; 0 where none has a checkpoint that can be read.
    """
    found = [path for path in (folder / "checkpoints").rglob("last.pt") if not (path.parent / "result.json").exists()]
    if not found:
        return 0
    try:
        return checkpoint_step(max(found, key=lambda path: path.stat().st_mtime_ns))
    except ModelError:
        return 0


def _subject(config: Mapping[str, Any], info: ModelInfo | None) -> str:
    """The model, in words."""
    asked = str(config.get("student") or config.get("model") or "")
    return f"{info.architecture}, {info.task}, {info.image_size} px" if info else asked


def _origin(info: ModelInfo | None) -> list[tuple[str, str]]:
    if info is None:
        return []
    training = info.provenance.get("training", {})
    rows = {
        "weights": info.provenance.get("weights_sha256"),
        "started from": training.get("from_sha256"),
        "origin": info.provenance.get("source"),
        "licence": info.provenance.get("license"),
        "data": training.get("data"),
        "training images": training.get("num_images"),
        **info.provenance.get("versions", {}),
    }
    return [(name, str(value)) for name, value in rows.items() if value is not None]


def _replay(info: ModelInfo | None) -> str:
    """What replaying a store's probe views showed where the student was trained."""
    replay = info.provenance.get("training", {}).get("replay") if info else None
    if not replay:
        return ""
    return f"{replay.get('num_different')} of {replay.get('num_probes')} probe views differ from those of the teacher"


def _evaluated(one: Evaluation, folder: Path) -> dict[str, Any]:
    low, high = one.result.get("confidence_interval") or (None, None)
    return {"data": one.data, "split": " ".join(filter(None, (one.split, one.subset))), "images": one.num_images,
            "metric": one.metric.replace("_", " "), "value": one.value, "low": low, "high": high,
            "task": one.result["task"], "shown": read_shown(folder, one)}  # fmt: skip


def _info(folder: Path) -> ModelInfo | None:
    try:
        return read_info(folder)
    except ModelError:  # nothing is kept yet
        return None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _rows(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was set, with the members of what holds several."""
    found: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found += [(f"{name}: {member}", text) for member, text in _rows(value)]
        elif value not in (None, [], ""):
            found.append((name, value if isinstance(value, str) else json.dumps(value)))
    return found
