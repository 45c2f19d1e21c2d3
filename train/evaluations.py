"""What `train evaluate` found out about a run, kept in the run: evaluation-DATA-SPLIT.json. `train compare` reads it.

An evaluation of a part of a split, or at another input size, has a file of its own: evaluation-DATA-SPLIT-SUBSET.json.
Measuring the same again replaces it. `weights_sha256` says of which weights the figures are. Beside it lies what
report.html shows of it, with pictures: shown-DATA-SPLIT.json.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from train.rundir import COST_FILE, EVALUATIONS, holds_run_config, write_json

if TYPE_CHECKING:
    from train.evaluate import EvaluateConfig

SHOWN_FORMAT = 1
METRICS = {"classification": "accuracy", "segmentation": "mean_iou"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One file. `result` is what evaluate prints as JSON."""

    data: str
    """The dataset's name."""
    split: str
    subset: str
    """What of the split was measured, such as "first-100"; "" for all of it at the model's own size."""
    weights_sha256: str | None
    result: dict[str, Any]
    images: str | None = None
    """SHA-256 of which images were measured, see `images_sha256`; None in files of former versions."""
    location: str | None = None
    """What was typed as --data; None in files of former versions."""

    @property
    def metric(self) -> str:
        return METRICS[self.result["task"]]

    @property
    def value(self) -> float:
        """The metric, 0..1."""
        return float(self.result[self.metric])

    @property
    def num_images(self) -> int:
        return int(self.result["num_images"])

    def check(self) -> None:
        """Raises KeyError, TypeError, ValueError where `result` does not have what the other members take from it."""
        words = (self.data, self.split, self.subset, self.images or "", self.location or "")
        if not all(isinstance(word, str) for word in words):
            raise TypeError("names are strings")
        _ = self.value, self.num_images

    @property
    def file_name(self) -> str:
        return self._named("evaluation")

    @property
    def shown_name(self) -> str:
        """Of the file with what a page shows of it."""
        return self._named("shown")

    def _named(self, kind: str) -> str:
        words = [re.sub(r"[^\w.-]", "_", word) for word in (kind, self.data, self.split, self.subset) if word]
        return "-".join(words) + ".json"


def images_sha256(keys: Iterable[str]) -> str:
    """Of the keys of the images that were measured (with their labels, where they have one), in any order."""
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()


def subset_of(config: EvaluateConfig) -> str:
    """What the options leave of a split."""
    drawn = config.shots is not None or config.num_labelled is not None
    words = {
        f"{config.shots}-a-class": config.shots is not None,
        f"{config.num_labelled}-drawn": config.num_labelled is not None,
        f"seed-{config.seed}": drawn,
        f"first-{config.limit}": config.limit is not None,
        f"{config.image_size}px": config.image_size is not None,
    }
    return "-".join(word for word, holds in words.items() if holds)


def options_of(subset: str) -> str:
    """What to type to measure a part of a split that `subset_of` named: "--limit 100 "; "" for all of it."""
    options = {r"(\d+)-a-class": "shots", r"(\d+)-drawn": "num-labelled", r"seed-(-?\d+)": "seed",
               r"first-(\d+)": "limit", r"(\d+)px": "image-size"}  # fmt: skip
    found = {option: re.search(rf"(?:^|-){pattern}(?:-|$)", subset) for pattern, option in options.items()}
    return "".join(f"--{option} {match[1]} " for option, match in found.items() if match)


def keeps_report(model: str) -> bool:
    """Whether a model is a run directory, whose report shows what it is measured at."""
    from reinforce.models.create import find_directory

    folder = find_directory(model)
    return folder is not None and holds_run_config(folder)


def keep_evaluation(model: str, evaluation: Evaluation, shown: dict[str, Any] | None) -> None:
    """Write the files where `model` is a run directory or a kept checkpoint of one; other models stay as they are.

    `shown` is what a page shows of it (None: nothing); a run's report has it.
    """
    from reinforce.models.create import find_directory

    from train.world import is_main_process

    folder = find_directory(model)
    if folder is None or not is_main_process() or not is_run(folder):
        return
    try:
        write_json(folder / evaluation.file_name, dataclasses.asdict(evaluation))
        if shown is not None and holds_run_config(folder):
            write_json(folder / evaluation.shown_name, {"format": SHOWN_FORMAT, **shown})
    except OSError as error:
        print(f"train: {folder} does not keep this evaluation ({error.strerror})", file=sys.stderr)  # noqa: T201
        return
    if holds_run_config(folder):
        from train.run_report import report_run

        report_run(folder)


def read_shown(folder: Path, evaluation: Evaluation) -> dict[str, Any] | None:
    """What a page shows of it; None where that was not kept, or by another version."""
    try:
        found = json.loads((folder / evaluation.shown_name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("format") == SHOWN_FORMAT else None


def read_evaluations(folder: Path) -> list[Evaluation]:
    """All files of a run, by name; one that is no evaluation of this version is left out."""
    found = []
    for path in sorted(folder.glob(EVALUATIONS)):
        try:
            one = Evaluation(**json.loads(path.read_text(encoding="utf-8")))
            one.check()
        except (OSError, KeyError, TypeError, ValueError):
            continue
        found.append(one)
    return found


def is_run(folder: Path) -> bool:
    """Whether a model directory is a run, or a kept checkpoint of one: those of others are not written into."""
    return holds_run_config(folder) or (folder / COST_FILE).is_file()
