"""Training state on disk: tensors and plain values only, replaced atomically, read without unpickling code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from reinforce.errors import ModelError
from reinforce.whole_file import written_whole

FORMAT = 1


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Put `state` (tensors, str, int, float, bool, None, lists and dicts of them) at `path`, all or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file:
        torch.save({"format": FORMAT, **state}, file)


def read_checkpoint(path: Path, *, mmap: bool = False) -> dict[str, Any]:
    """The state at `path`, on the CPU; with `mmap` its tensors are read from disk when they are touched.

    Raises ModelError for a file that is damaged or from a newer version.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:
        raise ModelError(f"{path} cannot be read ({type(error).__name__}): remove it or type --overwrite") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ModelError(f"{path} is not a checkpoint of this version: type --overwrite to start again")
    return state


def checkpoint_step(path: Path) -> int:
    """The step that the state at `path` is of, without reading its tensors. Raises ModelError."""
    return int(read_checkpoint(path, mmap=True)["step"])
