"""Weights files of others: read without unpickling anything but tensors, unwrap, and load with one-line errors."""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from reinforce.errors import ModelError

StateDict = dict[str, Tensor]

WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model", "module")
"""Where checkpoints keep their weights, best first: an average of weights is what others evaluated."""
PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DistributedDataParallel, torch.compile and Lightning put before every name."""
TORCH_STARTS = (b"PK\x03\x04", b"\x80")
"""First bytes of what torch.save writes: a zip, or before torch 1.6 a pickle."""


def read_checkpoint(path: Path) -> StateDict:
    """Names and tensors of a .safetensors file or of a torch checkpoint, on the CPU.

    Torch files are read with `weights_only=True`; `argparse.Namespace`, which many carry, is allowed by name and
    dropped. Raises ModelError when there is no such file, it holds other Python objects, or no weights.
    """
    if not path.is_file():
        raise ModelError(f"no weights file {path}: check --weights")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    state = _strip_prefixes(_unwrap(content))
    if not state:
        raise ModelError(f"{path.name} holds no weights: save them with torch.save(model.state_dict(), '{path.name}')")
    return state


def load_strictly(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load every weight, or raise a ModelError that counts and names what is missing, unexpected or misshapen."""
    problem = mismatch(model, state)
    if problem:
        raise ModelError(f"{source} does not fit {type(model).__name__}: {problem}")
    model.load_state_dict(state, strict=True)


def mismatch(model: nn.Module, state: Mapping[str, Tensor]) -> str:
    """What keeps `state` from being loaded, in one line; empty when it fits."""
    expected = model.state_dict()
    both = expected.keys() & state.keys()
    reshaped = sorted(name for name in both if expected[name].shape != state[name].shape)
    parts = {
        "missing": sorted(expected.keys() - both),
        "unexpected": sorted(state.keys() - both),
        "of another shape": [f"{n} {_shape(state[n])} instead of {_shape(expected[n])}" for n in reshaped],
    }
    return "; ".join(f"{len(names)} {kind} ({_some(names)})" for kind, names in parts.items() if names)


def _read_safetensors(path: Path) -> StateDict:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"cannot read {path.name}: {_one_line(error)}") from error


def _read_torch(path: Path) -> Any:
    with path.open("rb") as file:
        if not file.read(4).startswith(TORCH_STARTS):
            raise ModelError(f"{path.name} was not written by torch.save, and may be a web page: download it again")
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path.name} holds Python objects{_unsafe_names(path)}, which could run code and are refused: "
            f"save the weights alone with torch.save(model.state_dict(), ...)"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        raise ModelError(f"cannot read {path.name}: {_one_line(error)}") from error


def _unsafe_names(path: Path) -> str:
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # only a nicer message depends on it; old formats and broken files cannot be listed
        return ""
    return f" ({_some(sorted(set(names) - {'argparse.Namespace'}))})"


def _unwrap(content: Any) -> StateDict:
    """The innermost mapping of names to tensors."""
    while isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
        content = inner
    return {}


def _strip_prefixes(state: StateDict) -> StateDict:
    """Drop the wrappers' prefixes while every name has one; counters such as `n_averaged` do not count."""
    state = {name: value for name, value in state.items() if name != "n_averaged"}
    while state and (prefix := next((p for p in PREFIXES if all(n.startswith(p) for n in state)), None)):
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _some(names: Iterable[str], limit: int = 3) -> str:
    names = list(names)
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")


def _shape(tensor: Tensor) -> str:
    return "x".join(str(n) for n in tensor.shape)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
