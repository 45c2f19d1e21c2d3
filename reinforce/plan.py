"""`reinforce plan`: what a build will cost, as `--dry-run` says it, too."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from reinforce.counting import counted
from reinforce.errors import UsageError
from reinforce.progress import human_bytes
from reinforce.target_options import TargetOptions

SECONDS_PER_HOUR = 3600


@dataclass(frozen=True, kw_only=True)
class PlanConfig(TargetOptions):
    num_devices: int = 1
    """Devices like this one that would share the build."""
    price_per_hour: float | None = None
    """What an hour of one such device costs, in your currency: the plan then says what the build does."""
    views_per_second: float | None = None
    """What the teacher does on one device of another machine; by default it is measured on this one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_devices < 1:
            raise UsageError(f"--num-devices must be at least 1, not {self.num_devices}")
        if self.price_per_hour is not None and not 0 <= self.price_per_hour < math.inf:
            raise UsageError(f"--price-per-hour must be 0 or more, not {self.price_per_hour}")
        if self.views_per_second is not None and not 0 < self.views_per_second < math.inf:
            raise UsageError(f"--views-per-second must be more than 0, not {self.views_per_second}")


@dataclass(frozen=True, kw_only=True)
class PlanEstimate:
    """What a build will cost, from a few hundred calibration views on this device."""

    samples: int
    views: int
    units: int
    bytes: int
    disk_free_bytes: int
    """Where the store would lie."""
    teacher_seconds: float
    """Teacher forward alone, of all devices together."""
    replay_seconds: float
    """Decoding and rendering all views on one core of this machine."""
    build_seconds: float
    """Of all devices together: teacher and replay where they share cores, else that of both that takes longer."""
    codec: str
    stored_views: int = 0
    """Of `views`, those that a store that grows has already."""
    num_devices: int = 1
    price_per_hour: float | None = None
    views_per_second: float | None = None
    """What the teacher of one device was said to do; None: measured here."""

    @property
    def decoding_processes(self) -> int:
        """On cores like those of this machine, that keep one device busy."""
        return max(1, math.ceil(self.replay_seconds / self.teacher_seconds))

    @property
    def wall_seconds(self) -> float:
        """Of `num_devices` that share the work evenly."""
        return self.build_seconds / self.num_devices

    @property
    def cost(self) -> float | None:
        """Device hours by their price."""
        return None if self.price_per_hour is None else self.build_seconds / SECONDS_PER_HOUR * self.price_per_hour

    @property
    def break_even_epochs(self) -> float:
        """Student epochs after which the store has cost less than running the teacher in each."""
        return self.build_seconds / self.teacher_seconds * (self.views - self.stored_views)

    def on_device(self, views_per_second: float) -> PlanEstimate:
        """Where a device's teacher does so much, and has as many decoding processes as keep it busy."""
        seconds = self.samples * (self.views - self.stored_views) / views_per_second
        return replace(self, teacher_seconds=seconds, build_seconds=seconds, views_per_second=views_per_second)

    def to_json(self) -> dict[str, Any]:
        derived = ("break_even_epochs", "decoding_processes", "wall_seconds", "cost")
        return {**self.__dict__, **{name: getattr(self, name) for name in derived}}

    def __str__(self) -> str:
        size, free = human_bytes(self.bytes), human_bytes(self.disk_free_bytes)
        lines = [
            f"{counted(self.samples, 'sample')} x {counted(self.views, 'view')}, {counted(self.units, 'unit')}, "
            f"{self.codec}: {size}",
            f"{free} are free here" + ("" if self.bytes <= self.disk_free_bytes else ": TOO LITTLE"),
            self._time(),
            f"paid for after {self.break_even_epochs:.1f} student epochs",
        ]
        if self.num_devices > 1:
            lines.insert(3, f"on {self.num_devices} such devices {_human_seconds(self.wall_seconds)}")
        if self.cost is not None:
            lines.append(f"{self.build_seconds / SECONDS_PER_HOUR:.2f} device hours at {self.price_per_hour:g} each: "
                         f"{self.cost:.2f}")  # fmt: skip
        return "\n".join(lines)

    def _time(self) -> str:
        teacher = _human_seconds(self.teacher_seconds)
        if self.views_per_second is None:
            return f"teacher {teacher} here; with replay {_human_seconds(self.build_seconds)}"
        processes = counted(self.decoding_processes, "decoding process", "decoding processes")
        return (f"teacher {teacher} at {self.views_per_second:g} views/s a device, each with {processes} on cores like "
                "these")  # fmt: skip


def plan(config: PlanConfig) -> PlanEstimate:
    """Say what a build will cost before it runs: bytes, teacher time, break-even, disk, money."""
    from reinforce.planning import Inputs, draft_plan, estimate

    inputs = Inputs(config)
    found = estimate(inputs, draft_plan(inputs, inputs.freeze()), Path())
    found = replace(found, num_devices=config.num_devices, price_per_hour=config.price_per_hour)
    return found if config.views_per_second is None else found.on_device(config.views_per_second)


def _human_seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < SECONDS_PER_HOUR else f"{seconds / SECONDS_PER_HOUR:.1f} h"
