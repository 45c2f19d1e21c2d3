"""What a build will cost, as `reinforce plan` and `--dry-run` say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from reinforce.progress import human_bytes

SECONDS_PER_HOUR = 3600


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
    build_seconds: float
    """Teacher and replay, one after the other in one process; of all devices together."""
    break_even_epochs: float
    """Student epochs after which the store has cost less than running the teacher in each."""
    codec: str
    num_devices: int = 1
    price_per_hour: float | None = None

    @property
    def wall_seconds(self) -> float:
        """Of `num_devices` that share the work evenly."""
        return self.build_seconds / self.num_devices

    @property
    def cost(self) -> float | None:
        """Device hours by their price."""
        return None if self.price_per_hour is None else self.build_seconds / SECONDS_PER_HOUR * self.price_per_hour

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "wall_seconds": self.wall_seconds, "cost": self.cost}

    def __str__(self) -> str:
        size, free = human_bytes(self.bytes), human_bytes(self.disk_free_bytes)
        lines = [
            f"{self.samples} samples x {self.views} views, {self.units} units, {self.codec}: {size}",
            f"{free} are free here" + ("" if self.bytes <= self.disk_free_bytes else ": TOO LITTLE"),
            f"teacher {_human_seconds(self.teacher_seconds)} here; with replay in the same process "
            f"{_human_seconds(self.build_seconds)}",
            f"paid for after {self.break_even_epochs:.1f} student epochs",
        ]
        if self.num_devices > 1:
            lines.insert(3, f"on {self.num_devices} such devices {_human_seconds(self.wall_seconds)}")
        if self.cost is not None:
            lines.append(f"{self.build_seconds / SECONDS_PER_HOUR:.2f} device hours at {self.price_per_hour:g} each: "
                         f"{self.cost:.2f}")  # fmt: skip
        return "\n".join(lines)


def _human_seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < SECONDS_PER_HOUR else f"{seconds / SECONDS_PER_HOUR:.1f} h"
