"""How many processes decode and render views beside a teacher."""

from __future__ import annotations

from reinforce.cores import usable_cores

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
