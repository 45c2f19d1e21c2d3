"""Imports packages in a process of its own and tells what became of it: a broken one may crash or hang.

python -m reinforce.doctor.imports torch zarr      prints a JSON object for each
"""

from __future__ import annotations

import contextlib
import importlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

TIMEOUT_SECONDS = 180


@dataclass(frozen=True)
class Import:
    """What became of one module."""

    module: str
    error: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    """Of torch: what it says of the machine."""


def try_imports(modules: Sequence[str]) -> dict[str, Import]:
    """By module; whichever kills the process is named, and those behind it get another."""
    found: dict[str, Import] = {}
    while todo := [module for module in modules if module not in found]:
        outcomes, death = _run(todo)
        found |= {outcome.module: outcome for outcome in outcomes}
        if culprit := next((module for module in todo if module not in found), None):
            found[culprit] = Import(culprit, death)
    return found


def _run(modules: Sequence[str]) -> tuple[list[Import], str]:
    """The modules that the process told of, and how it ended."""
    argv = [sys.executable, "-m", __spec__.name if __spec__ else __name__, *modules]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        text = error.stdout.decode() if isinstance(error.stdout, bytes) else error.stdout or ""
        return list(_parsed(text)), f"is not imported within {TIMEOUT_SECONDS} s"
    if done.returncode < 0:
        return list(_parsed(done.stdout)), f"crashes when it is imported ({signal.Signals(-done.returncode).name})"
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return list(_parsed(done.stdout)), f"ends the process that imports it ({last})"


def _parsed(text: str) -> Iterator[Import]:
    for line in text.splitlines():
        with contextlib.suppress(json.JSONDecodeError, TypeError):  # packages print on stdout, too
            yield Import(**json.loads(line))


def _try(name: str) -> Import:
    try:
        module = importlib.import_module(name)
        return Import(name, None, _facts_of_torch(module) if name == "torch" else {})
    except Exception as error:
        return Import(name, f"cannot be imported ({type(error).__name__}: {' '.join(str(error).split())[:200]})")


def _facts_of_torch(torch: Any) -> dict[str, Any]:
    cuda = torch.cuda
    gpus = [cuda.get_device_properties(index) for index in range(cuda.device_count())] if cuda.is_available() else []
    return {
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bf16": bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()),
        "amx": bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()),
        "cuda": torch.version.cuda,
        "gpus": [{"name": gpu.name, "bytes": gpu.total_memory} for gpu in gpus],
        "mps": torch.backends.mps.is_available(),
    }


if __name__ == "__main__":
    for name in sys.argv[1:]:
        sys.stdout.write(json.dumps(vars(_try(name))) + "\n")
        sys.stdout.flush()
