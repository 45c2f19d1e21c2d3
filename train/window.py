"""What happened between two lines of a run's metrics."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from train.world import World


class Window:
    """Losses and times since the last line of metrics; the sum of losses is part of the state to resume."""

    def __init__(self, device: torch.device) -> None:
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.num_images = 0
        self.num_timed = 0
        self.started = time.perf_counter()
        self.wait_seconds = 0.0

    def waiting(self) -> Stopwatch:
        return Stopwatch(self)

    def add(self, loss: Tensor, weight: float, num_images: int) -> None:
        """`loss`: its mean over ranks is the step's; `weight`: images of the step over the number of ranks."""
        self.loss_sum += loss.detach().double() * weight
        self.num_images += num_images
        self.num_timed += num_images

    def forgive(self, seconds: float) -> None:
        """Leave time that was not spent on training out of the rates."""
        self.started += seconds

    def take(self, world: World) -> dict[str, float]:
        """Mean loss per image, images per second and share of the time spent waiting for data; starts a new window."""
        now = time.perf_counter()
        seconds = max(now - self.started, 1e-9)
        loss_sum, num_images = self._sums(world)
        figures = {"loss": float(loss_sum / num_images), "images_per_second": self.num_timed * world.size / seconds,
                   "data_wait": min(1.0, self.wait_seconds / seconds)}  # fmt: skip
        self.__init__(self.loss_sum.device)  # type: ignore[misc]
        return figures

    def state_dict(self, world: World) -> dict[str, Any]:
        """Of all ranks together, each of which must ask; one of them takes it up again, the others begin empty."""
        loss_sum, num_images = self._sums(world)
        return {"loss_sum": loss_sum, "num_images": int(num_images)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.loss_sum.copy_(state["loss_sum"])
        self.num_images = state["num_images"]

    def _sums(self, world: World) -> Tensor:
        """(2,) losses and images of all ranks."""
        num_images = torch.tensor(float(self.num_images), dtype=torch.float64, device=self.loss_sum.device)
        return world.sum(torch.stack([self.loss_sum, num_images]))


class Stopwatch:
    """Adds the time within it to a window's waiting."""

    def __init__(self, window: Window) -> None:
        self.window = window

    def __enter__(self) -> Stopwatch:
        self.started = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        self.seconds = time.perf_counter() - self.started
        self.window.wait_seconds += self.seconds
