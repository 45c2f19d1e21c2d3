"""How near a build comes to its teacher: views/s beside teacher and replay alone, and a loader that keeps nothing.

A build's own time is that of `build` less that of `plan`, which freezes the set and calibrates in the same way: its
share is constant or falls with the number of images. Teacher and replay are timed inside of both; with decoding
processes the teacher alone is the limit.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from figures import Figure
from numpy.typing import NDArray
from PIL import Image

from reinforce.build import BuildConfig, build
from reinforce.data import open_source
from reinforce.dataset import open_dataset
from reinforce.plan import PlanConfig, plan
from reinforce.teacher import Teacher
from reinforce.views import UnitReplayer
from suite.inputs import StoreRequest
from suite.timing import Clock, seconds_of, tallied

PART_OF_LIMIT = 0.97
MOST_OFF_PLAN = 0.15
"""Of the time that a plan foretells."""


@dataclasses.dataclass(frozen=True)
class Spent:
    """Seconds of a build, or of one less another's."""

    total: float
    replay: float
    teacher: float
    decoded: int
    """Images."""

    def __sub__(self, other: Spent) -> Spent:
        pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
        return Spent(*(own - less for own, less in pairs))

    @property
    def part(self) -> float:
        """Of the time in which something must be done that only teacher or replay can do."""
        return (self.replay + self.teacher) / self.total


def build_figures(request: StoreRequest, folder: Path, *, device: str, workers: int, rounds: int) -> Iterator[Figure]:
    """Of one teacher at one view size."""
    config, clock = request.config(folder / "build", device=device, workers=workers), Clock(device, workers)
    num_views = request.num_images * request.views
    _spend(lambda: build(config), clock)
    yield Figure(name=f"plan, {request.teacher.name}, off the build's seconds by", value=_off_plan(config),
                 goal=MOST_OFF_PLAN, lower_is_better=True)  # fmt: skip
    found = [_spend(lambda: build(config), clock) - _spend(lambda: plan(_plan_of(config)), clock)
             for _ in range(rounds)]  # fmt: skip
    total = statistics.median(one.total for one in found)
    part = statistics.median(one.part for one in found)
    yield Figure(name=f"build, {request.teacher.name}, views of {request.view_px} px, views/s", value=num_views / total,
                 limit=num_views / total / part, peer=_peer_rate(config, request, clock))  # fmt: skip
    yield Figure(name="... part of its limit", value=part, limit=1.0, goal=PART_OF_LIMIT)
    if workers == 0:
        yield Figure(name="... views a decoded image", value=num_views / found[0].decoded, limit=float(request.views),
                     peer=1.0, goal=float(request.views))  # fmt: skip


def _plan_of(config: BuildConfig) -> PlanConfig:
    names = [field.name for field in dataclasses.fields(PlanConfig)]
    return PlanConfig(**{name: getattr(config, name) for name in names if hasattr(config, name)})


def _off_plan(config: BuildConfig) -> float:
    """|foretold / taken - 1|, of wall time, freezing and calibration included."""
    foretold, started = plan(_plan_of(config)).build_seconds, time.perf_counter()
    build(config)
    return abs(foretold / (time.perf_counter() - started) - 1)


def _spend(action: Callable[[], object], clock: Clock) -> Spent:
    replaying = sys.modules[UnitReplayer.__module__]
    with (tallied(UnitReplayer, "view", clock) as replay, tallied(Teacher, "targets", clock) as teacher,
          tallied(replaying, "decode_sized", clock) as decoding):  # fmt: skip
        total = seconds_of(action, clock)
    return Spent(total, replay.seconds, teacher.seconds, decoding.calls)


def _peer_rate(config: BuildConfig, request: StoreRequest, clock: Clock) -> float:
    """Views/s of timm's transform with RandAugment from the file on, and the same teacher: a decode for every view."""
    from timm.data.transforms_factory import create_transform

    planned, source = open_dataset(config.path).store.plan, open_source(config.transfer)
    teacher = Teacher(config.teacher, device=config.device, dtype=planned["environment"]["dtype"],
                      threads=planned["threads"], batch_size=request.batch_size)  # fmt: skip
    transform = create_transform(request.view_px, is_training=True, auto_augment="rand-m9-mstd0.5", normalize=False)

    def run() -> None:
        pictures = (transform(Image.open(io.BytesIO(source.read(0, row))).convert("RGB"))
                    for row in range(request.num_images))  # fmt: skip
        for batch in _batched((picture.permute(1, 2, 0).numpy() for picture in pictures), request.batch_size):
            teacher.targets(np.stack(batch))

    run()
    return request.num_images / seconds_of(run, clock)


def _batched(items: Iterator[NDArray[np.uint8]], size: int) -> Iterator[list[NDArray[np.uint8]]]:
    while batch := list(itertools.islice(items, size)):
        yield batch
