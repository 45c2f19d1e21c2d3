"""The processor, memory and GPUs, and whether the commands on the PATH are this installation's."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reinforce.cores import usable_cores
from reinforce.doctor.finding import Finding
from reinforce.progress import human_bytes

COMMANDS = ("reinforce", "train")


def machine_findings(torch_facts: dict[str, Any]) -> Iterator[Finding]:
    """`torch_facts` are empty where torch cannot be imported."""
    yield Finding("machine", "ok", _processor(torch_facts))
    if torch_facts:
        yield from _gpus(torch_facts)
    for name in COMMANDS:
        yield from _command(name)


def _processor(facts: dict[str, Any]) -> str:
    threads, usable = os.cpu_count() or 1, usable_cores()
    parts = [f"{platform.system()} {platform.machine()}", f"{usable} of {threads} threads"]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        parts.append(f"{human_bytes(os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE'))} of memory")
    if facts:
        units = [name for name, here in (("bf16", facts["bf16"]), ("AMX", facts["amx"])) if here]
        arithmetic = "bfloat16" if facts["bf16"] else "float32"
        parts.append(f"{' + '.join([facts['instructions'], *units])} (vision transformers in {arithmetic})")
    return ", ".join(parts)


def _gpus(facts: dict[str, Any]) -> Iterator[Finding]:
    for index, gpu in enumerate(facts["gpus"]):
        what = f"cuda:{index}: {gpu['name']}, {human_bytes(gpu['bytes'])} (CUDA {facts['cuda']})"
        yield Finding("machine", "ok", what)
    if facts["gpus"]:
        return
    if shutil.which("nvidia-smi") is None:
        yield Finding("machine", "ok", "no CUDA GPU: everything runs on the processor")
    elif os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        yield Finding("machine", "note", "CUDA_VISIBLE_DEVICES hides the GPUs", "unset CUDA_VISIBLE_DEVICES")
    elif facts["cuda"] is None:
        yield Finding("machine", "broken", "nvidia-smi is here, but this torch is built for processors alone",
                      "install torch for CUDA, see https://pytorch.org/get-started")  # fmt: skip
    else:
        yield Finding("machine", "broken", f"nvidia-smi is here, but torch (CUDA {facts['cuda']}) finds no GPU",
                      "type nvidia-smi and compare the driver's CUDA version")  # fmt: skip
    if facts["mps"]:
        yield Finding("machine", "note", "Apple's GPU (MPS) is not used: its bits are not reproducible")


def _command(name: str) -> Iterator[Finding]:
    """Another program of the same name is run instead of ours; `train` is a common name."""
    found, own = shutil.which(name), Path(sys.executable).parent
    if found is None:
        yield Finding("machine", "note", f"{name} is not on the PATH", f"activate the environment in {own.parent}")
    elif Path(found).parent.resolve() != own.resolve():
        yield Finding("machine", "note", f"{name} on the PATH is {found}, of another environment than {sys.executable}",
                      f"put {own} first into PATH")  # fmt: skip
