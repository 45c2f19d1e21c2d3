"""Commands of an experiment, run once each: their JSON and seconds are kept, and a recorded one is not run again."""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Z95 = 1.96
T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""Student's t of a 95 % interval, by how many values."""


@dataclass(frozen=True)
class Stage:
    name: str
    argv: tuple[str, ...]


def run_stages(stages: Sequence[Stage], folder: Path) -> dict[str, Any]:
    """Run what folder/record.json does not have yet, and give all of it: name -> argv, seconds, result."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "record.json"
    record: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for stage in stages:
        _run(stage, record, path)
    return record


def _run(stage: Stage, record: dict[str, Any], path: Path) -> None:
    known = record.get(stage.name)
    if known and known["argv"] == list(stage.argv):
        return
    print(f"\n== {stage.name}\n$ {' '.join(stage.argv)}", flush=True)
    started = time.monotonic()
    done = subprocess.run([*stage.argv, "--json"], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"the stage '{stage.name}' failed with status {done.returncode}")
    seconds = time.monotonic() - started
    record[stage.name] = {"argv": list(stage.argv), "seconds": seconds, "result": json.loads(done.stdout)}
    path.write_text(json.dumps(record, indent=1) + "\n")


def half_width(values: Sequence[float], num_images: int) -> float:
    """Of the 95 % interval of a mean accuracy: over seeds (t), or over test images for one seed."""
    if len(values) > 1:
        return T95.get(len(values), Z95) * statistics.stdev(values) / math.sqrt(len(values))
    return Z95 * math.sqrt(values[0] * (1 - values[0]) / num_images)
