"""What `reinforce.allocator` is worth on a CPU: teacher batches and training steps with it and without, in turns.

    python tools/bench_allocator.py

Each measurement is a process of its own, on one thread; seconds are process time (user and system), medians.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

CASES = (("forward", "efficientnet_lite0", 96, 64), ("forward", "vit_small_patch14_reg4_dinov2", 84, 64),
         ("train", "fastvit_t8", 64, 32), ("train", "mobilevitv2_050", 64, 32))  # fmt: skip
"""What is done, architecture, side in px, images a batch."""
ROUNDS, BATCHES = 3, 6


def measure(keeps: bool, what: str, architecture: str, size_px: int, batch: int) -> dict[str, float]:
    """In this process: seconds of a batch, the system's share of all, peak memory in MB."""
    from reinforce.allocator import keep_freed_memory

    if keeps and not keep_freed_memory():
        sys.exit("bench_allocator: this C library cannot be told")
    step = _step(what, architecture, size_px, batch)
    step()
    before, taken = resource.getrusage(resource.RUSAGE_SELF), []
    for _ in range(BATCHES):
        started = time.process_time()
        step()
        taken.append(time.process_time() - started)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {"seconds": statistics.median(taken), "system": (after.ru_stime - before.ru_stime) / sum(taken),
            "peak_mb": after.ru_maxrss / 1024}  # fmt: skip


def _step(what: str, architecture: str, size_px: int, batch: int) -> Callable[[], object]:
    import timm
    import torch

    torch.set_num_threads(1)
    sized: dict[str, Any] = {"img_size": size_px} if architecture.startswith("vit") else {}
    model = timm.create_model(architecture, num_classes=10, **sized)
    images, labels = torch.rand(batch, 3, size_px, size_px), torch.arange(batch) % 10
    if what == "forward":
        model.eval()
        return torch.inference_mode()(lambda: model(images))
    optimizer = torch.optim.AdamW(model.parameters())

    def train() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return train


def _child(keeps: bool, case: tuple[str, str, int, int]) -> dict[str, float]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, __file__, str(int(keeps)), *map(str, case)], check=True, text=True,
                          stdout=subprocess.PIPE, env=environment)  # fmt: skip
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> None:
    if len(sys.argv) == 6:
        asked = sys.argv[1:]
        print(json.dumps(measure(asked[0] == "1", asked[1], asked[2], int(asked[3]), int(asked[4]))))
        return
    print("| | seconds a batch, glibc's defaults | kept | ratio | system time | peak MB |\n|---|---|---|---|---|---|")
    for case in CASES:
        runs: dict[bool, list[dict[str, float]]] = {False: [], True: []}
        for _ in range(ROUNDS):
            for keeps, found in runs.items():
                found.append(_child(keeps, case))
        plain, kept = ({name: statistics.median(run[name] for run in found) for name in found[0]}
                       for found in runs.values())  # fmt: skip
        what, architecture, size_px, batch = case
        print(f"| {what} {architecture}, {batch} x {size_px} px | {plain['seconds']:.2f} | {kept['seconds']:.2f} | "
              f"{kept['seconds'] / plain['seconds']:.2f} | {plain['system']:.0%} -> {kept['system']:.0%} | "
              f"{plain['peak_mb']:.0f} -> {kept['peak_mb']:.0f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
