"""A training that is going to take hours says so once, after its first steps, and what to type for less.

Everything said is of what was measured: the seconds of a step, and how many of them images were waited for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

from reinforce.models import ModelInfo

if TYPE_CHECKING:
    from train.distill import DistillConfig

LONG_SECONDS = 3 * 3600.0
"""From here on a training is long."""
TRIED_SECONDS = 3600.0
"""What a shorter one may take."""
MEASURED_SECONDS, SLOW_STEP_SECONDS = 10.0, 60.0
"""What is measured at least behind the first step, which starts workers, or in it, where that is slow by itself."""
SMALL_STUDENTS = {"fastvit_t8": 3_260_000, "mobilevitv2_050": 1_110_000}
"""Encoder -> its parameters, larger first."""
SIDE_PX, LEAST_SIDE_PX = 32, 64
"""A shorter side is a multiple of the first, and at least the second."""


@dataclasses.dataclass(frozen=True)
class Pace:
    seconds: float
    """Of a step."""
    wait: float
    """Share of them that images were waited for, 0..1."""
    num_left: int
    """Steps."""

    @property
    def seconds_left(self) -> float:
        return self.seconds * self.num_left


class PaceWatch:
    """Measures the first steps of a process, once."""

    def __init__(self, line: Callable[[Pace], str]) -> None:
        """`line`: what to say of a long training."""
        self._line = line
        self._num_steps = 0
        self._first = self._waited = 0.0
        self._ended = False

    def after_step(self, seconds: float, waited: float, num_left: int) -> str | None:
        """What is to be said now. `seconds`: since the first step began; `waited`: for the images of this one."""
        if self._ended:
            return None
        self._num_steps += 1
        if self._num_steps == 1:
            self._first = seconds
            is_measured, behind = seconds >= SLOW_STEP_SECONDS, seconds
            share = waited / seconds if seconds else 0.0
        else:
            self._waited += waited
            behind = seconds - self._first
            is_measured, share = behind >= MEASURED_SECONDS, self._waited / behind if behind else 0.0
        if not is_measured:
            return None
        self._ended = True
        pace = Pace(behind / max(self._num_steps - 1, 1), min(share, 1.0), num_left)
        return self._line(pace) if pace.seconds_left >= LONG_SECONDS else None


def shorter_distillation(pace: Pace, config: DistillConfig, info: ModelInfo, num_parameters: int, *,
                         side_px: int | None) -> str:  # fmt: skip
    """The line. `num_parameters`: the student's; `side_px`: a shorter side that it can take, if there is one."""
    num_steps = max(1, int(TRIED_SECONDS / pace.seconds))
    instead = " instead of --epochs" if config.epochs is not None else ""
    choices = [f"--steps {num_steps}{instead} (an hour)"]
    if pace.wait < 0.5 and config.online_teacher is None:
        if side_px is not None:
            share = pace.wait + (1 - pace.wait) * (side_px / info.image_size) ** 2
            choices.append(f"--image-size {side_px} (some {_hours(share * pace.seconds_left)})")
        if config.init_from is None and (smaller := smaller_student(num_parameters)) is not None:
            choices.append(f"a smaller --student {smaller}")
    waits = f", {pace.wait:.0%} of them for images" if pace.wait >= 0.5 else ""
    last = f" or {choices[-1]}" if len(choices) > 1 else ""
    return (f"at {pace.seconds:.1f} s a step this takes some {_hours(pace.seconds_left)}{waits}; for less, stop it and "
            f"type the command with --overwrite and {', '.join(choices[:-1] if last else choices)}{last}")  # fmt: skip


def smaller_student(num_parameters: int) -> str | None:
    """One of at most half of the parameters, the largest that is known here."""
    return next((name for name, few in SMALL_STUDENTS.items() if 2 * few <= num_parameters), None)


def shorter_side(image_size: int, multiple_px: int) -> int | None:
    """About half of the side in px, a multiple of what is asked for; None where that is too little to see anything."""
    multiple = SIDE_PX if SIDE_PX % multiple_px == 0 else multiple_px
    side = -(-image_size // (2 * multiple)) * multiple
    return side if LEAST_SIDE_PX <= side < image_size else None


def _hours(seconds: float) -> str:
    hours = round(seconds / 3600)
    return "an hour" if hours <= 1 else f"{hours} hours"
