"""How many processes decode and render views, beside a teacher or in training."""

from __future__ import annotations

import os
from typing import Any

from reinforce.cores import usable_cores
from reinforce.counting import counted

FEW_VIEWS = 2000
"""Fewer views than this are rendered sooner in this process than in workers that must first start."""
MAX_WORKERS = 16


def choose_workers(asked: int, total_views: int, device: str, num_devices: int = 1) -> int:
    """Decoding processes for each device: as asked, or none for little work, few beside a CPU teacher, many beside a
    GPU."""
    if asked >= 0:
        return asked
    return share_of_cores(total_views // num_devices, device, usable_cores() // num_devices)


def share_of_cores(views: int, device: str, cores: int) -> int:
    """Of the cores that a device has to itself, for its views."""
    if views < FEW_VIEWS:
        return 0
    return max(1, cores // 2) if device == "cpu" else max(1, min(MAX_WORKERS, cores - 1))


def local_ranks() -> int:
    """Processes of this command that torchrun started on this machine; 1 without torchrun."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def crowd(config: Any) -> str:
    """What to say of more decoding processes than processors, by a verb's options; "" is nothing.

    One line where torch would write several at every start of them, for all processes of torchrun. Those of Ray's
    actors are on other machines.
    """
    workers, cores = getattr(config, "workers", 0), usable_cores()
    shares = max(local_ranks(), getattr(config, "device", "").count(",") + 1)
    is_elsewhere = getattr(config, "engine", "local") != "local" or os.environ.get("RANK", "0") != "0"
    if is_elsewhere or workers * shares <= cores:
        return ""
    each = f" for each of {shares}" if shares > 1 else ""
    return (f"--workers {workers}{each} is more than the {counted(cores, 'processor')} here: "
            "the processes will wait for each other")  # fmt: skip
