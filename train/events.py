"""The figures of metrics.jsonl for TensorBoard: a folder of event files in the run directory, one of each trial."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reinforce.errors import MissingExtraError

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter

POSITION = ("trial", "step", "epoch", "seconds")
"""Members of a line of metrics.jsonl that say where in the training it belongs."""


def check_tensorboard() -> None:
    """Raises MissingExtraError where TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise MissingExtraError("tensorboard", "tensorboard", "--tensorboard")


class EventFiles:
    """Scalars by optimiser step. What a resumed run writes again takes the place of what it had written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writers: dict[str, SummaryWriter] = {}

    def write(self, line: Mapping[str, Any]) -> None:
        """The figures of a line of metrics.jsonl; on the disk when this returns."""
        writer = self._of(str(line.get("trial", "")))
        for name, value in line.items():
            if name not in POSITION and isinstance(value, int | float):
                writer.add_scalar(name, value, line["step"])
        writer.flush()

    def forget_after(self, step: int, trial: str) -> None:
        self._of(trial, purge_step=step + 1)

    def _of(self, trial: str, purge_step: int | None = None) -> SummaryWriter:
        from torch.utils.tensorboard.writer import SummaryWriter

        if trial not in self._writers or purge_step is not None:
            self._writers[trial] = SummaryWriter(str(self.folder / trial), purge_step=purge_step)
        return self._writers[trial]
