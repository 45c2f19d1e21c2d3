"""What a step from a store costs over a step with plain labels on the same images."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from figures import Figure

from suite.inputs import Network, StoreRequest
from suite.timing import median_of
from suite.training import Student

MOST_OVER_LABELS = 1.02
MOST_DATA_WAIT = 0.01
TEACHER = "test_vit"
"""Its targets alone matter here."""


@dataclass(frozen=True, kw_only=True)
class StepCase:
    student: Network
    batch_size: int = 32
    num_classes: int = 1000


def step_figures(case: StepCase, folder: Path, *, device: str, workers: int, rounds: int) -> Iterator[Figure]:
    """Step from the store over step with labels; share of both that waits for data."""
    size_px = case.student.image_size
    teacher = Network(architecture=TEACHER, image_size=32)
    request = StoreRequest(teacher=teacher, num_images=4 * case.batch_size, views=2, view_px=size_px,
                           num_classes=case.num_classes)  # fmt: skip
    config = request.built(folder / f"{TEACHER}-{case.num_classes}")
    student = Student(case.student, str(config.path), device, case.batch_size, workers)
    times, wait = student.train({"stored": student.from_store(), "labelled": student.from_labels()}, rounds)
    name = f"distill step, {case.student.name}, batch {case.batch_size}, {case.num_classes} classes"
    yield Figure(name=f"{name} / the same step with labels", value=median_of(_quotient, times), limit=1.0,
                 goal=MOST_OVER_LABELS, lower_is_better=True)  # fmt: skip
    yield Figure(name="... images/s", value=case.batch_size / statistics.median(times["stored"]),
                 peer=case.batch_size / statistics.median(times["labelled"]))  # fmt: skip
    yield Figure(name=f"... waiting for data with {workers} workers", value=wait,
                 goal=MOST_DATA_WAIT if device != "cpu" else None, lower_is_better=True)  # fmt: skip


def _quotient(stored: float, labelled: float) -> float:
    return stored / labelled
