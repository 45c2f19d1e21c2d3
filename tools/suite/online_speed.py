"""How much faster an epoch from the store is than one with the live teacher, and when the store has paid for itself."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from figures import Figure

from reinforce.build import build
from suite.inputs import Network, StoreRequest
from suite.timing import Clock, median_of, seconds_of, tallied
from suite.training import Student
from train.online import LiveTeacher

PART_OF_BOUND = 0.95


@dataclass(frozen=True, kw_only=True)
class OnlineCase:
    teacher: Network
    student: Network
    view_px: int
    batch_size: int = 16
    views: int = 4
    num_images: int = 64

    @property
    def name(self) -> str:
        return f"{self.teacher.name} -> {self.student.name}, {self.student.task}"


def online_figures(case: OnlineCase, folder: Path, *, device: str, workers: int, rounds: int) -> Iterator[Figure]:
    """Online epoch over cached epoch beside 1 + t_teacher / t_student, t_student being the step from the store."""
    request = StoreRequest(teacher=case.teacher, num_images=case.num_images, views=case.views, view_px=case.view_px,
                           batch_size=case.batch_size)  # fmt: skip
    config, clock = request.config(folder / "online", device=device), Clock(device, 0)
    build_seconds = seconds_of(lambda: build(config), clock)
    student = Student(case.student, str(config.path), device, case.batch_size, workers)
    teacher = LiveTeacher.open(config.teacher, student.dataset.store, torch.device(device))
    with tallied(LiveTeacher, "relabelled", student.clock) as answers:
        times, _ = student.train({"cached": student.from_store(), "online": student.from_teacher(teacher)}, rounds)
    gain, bound = median_of(_gain, times), median_of(partial(_bound, teacher=answers.seconds / answers.calls), times)
    saved = (statistics.median(times["online"]) - statistics.median(times["cached"])) / case.batch_size
    yield Figure(name=f"online / cached epoch, {case.name}", value=gain, limit=bound, peer=1.0)
    yield Figure(name="... part of its bound 1 + teacher / student", value=gain / bound, limit=1.0, goal=PART_OF_BOUND)
    yield Figure(name=f"... epochs until the store of {case.views} views has paid for itself",
                 value=build_seconds / (saved * case.num_images), limit=float(case.views),
                 lower_is_better=True)  # fmt: skip


def _gain(cached: float, online: float) -> float:
    return online / cached


def _bound(cached: float, online: float, *, teacher: float) -> float:
    return 1 + teacher / cached
