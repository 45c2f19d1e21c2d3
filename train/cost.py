"""What training cost: `cost.json` of a run directory and of each kept checkpoint.

    {"seconds": 44.3, "steps": 120, "images": 7680, "parts": {
        "probe features": {"seconds": 3.1, "steps": 0, "images": 0, "device": "cpu", "num_devices": 1},
        "full-lr0.0001": {"seconds": 41.2, "steps": 120, "images": 7680, "device": "cpu", "num_devices": 1}}}

`seconds` are device time: what passed while the devices trained, times their number. Waiting for images counts, since
the devices are taken; evaluating and saving do not. They are part of a checkpoint, so that a run that was killed and
resumed has spent what led to its weights, and no step twice. Every trial counts, also one that was beaten.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from train.rundir import COST_FILE, write_json
from train.world import World


@dataclasses.dataclass(frozen=True)
class Cost:
    """Device seconds, optimiser steps and images seen (over all devices, each view anew)."""

    seconds: float = 0.0
    steps: int = 0
    images: int = 0


class DeviceClock:
    """Device seconds; runs inside `with clock:` but not inside `with clock.paused():`."""

    def __init__(self, world: World, seconds: float = 0.0) -> None:
        self.world, self._passed = world, seconds
        self._started: float | None = None

    @property
    def seconds(self) -> float:
        return self._passed + (0.0 if self._started is None else self._since(self._started))

    def __enter__(self) -> DeviceClock:
        self._started = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        self._stop()
        try:
            yield
        finally:
            self._started = time.perf_counter()

    def _stop(self) -> None:
        if self.world.device.type == "cuda":
            torch.cuda.synchronize(self.world.device)  # what is queued has been paid for
        self._passed, self._started = self.seconds, None

    def _since(self, started: float) -> float:
        return (time.perf_counter() - started) * self.world.size


class CostBook:
    """cost.json in `folder`, kept by the main rank; a part that is booked again replaces what it was."""

    def __init__(self, folder: Path, world: World) -> None:
        self.path, self.world = folder / COST_FILE, world

    def book(self, part: str, cost: Cost) -> None:
        if not self.world.is_main:
            return
        entry = {**dataclasses.asdict(cost), "device": device_name(self.world), "num_devices": self.world.size}
        self._write({**self._parts(), part: entry})

    def copy_to(self, folder: Path) -> None:
        """What was spent so far, as the cost of a model in `folder`."""
        if self.world.is_main:
            CostBook(folder, self.world)._write(self._parts())

    def _write(self, parts: Mapping[str, Any]) -> None:
        total = {field.name: sum(one[field.name] for one in parts.values()) for field in dataclasses.fields(Cost)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, {**total, "parts": parts})

    def _parts(self) -> Mapping[str, Any]:
        return json.loads(self.path.read_text(encoding="utf-8"))["parts"] if self.path.exists() else {}


def device_name(world: World) -> str:
    """ "cpu", or what the GPU calls itself: names that travel."""
    return torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else world.device.type
