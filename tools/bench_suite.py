"""Speed and memory of every stage beside what bounds them and what a peer takes, in one run.

    bash tools/bench --quick                 # minutes on 2 cores
    bash tools/bench --json > figures.json   # {"figures": [{"name", "value", "limit", "peer", "goal", ...}]}
    bash tools/bench --only step,online

Pictures and (untrained) networks are made here. Both sides of a ratio take turns; values are medians over the rounds,
of seconds of the process on one thread of a CPU (OMP_NUM_THREADS=1), else of wall time. Records: docs/benchmarks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from figures import Figure, table, to_json
from suite.build_speed import build_figures
from suite.inputs import Network, StoreRequest, Task
from suite.memory import STAGES, memory_figures
from suite.online_speed import OnlineCase, online_figures
from suite.step_cost import StepCase, step_figures

from reinforce.allocator import keep_freed_memory
from reinforce.teacher import choose_device

PARTS = ("build", "step", "online", "memory")
SMALL, LARGE = "vit_small_patch14_dinov2", "vit_large_patch14_dinov2"


def _network(architecture: str, image_size: int, task: Task = "classification") -> Network:
    return Network(architecture=architecture, image_size=image_size, task=task)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What is measured, and how often."""

    rounds: int
    """Builds of each size."""
    steps: int
    """Training steps each way."""
    builds: Sequence[StoreRequest]
    students: Sequence[StepCase]
    online: Sequence[OnlineCase]
    counts: Sequence[int]
    """Samples of the memory figures."""
    stages: Sequence[str] = STAGES
    """Commands whose memory is measured."""


QUICK = Scale(
    rounds=1, steps=15,
    builds=[StoreRequest(teacher=_network(SMALL, 70), num_images=160, views=5, view_px=70)],
    students=[StepCase(student=_network("fastvit_t8", 64)), StepCase(student=_network("mobilevitv2_050", 64))],
    online=[OnlineCase(teacher=_network(SMALL, 70), student=_network("fastvit_t8", 64), view_px=70)],
    counts=(10_000, 30_000), stages=("build", "verify", "distill"),
)  # fmt: skip
FULL = Scale(
    rounds=1, steps=21,
    builds=[StoreRequest(teacher=_network(SMALL, 70), num_images=600, views=5, view_px=70),
            StoreRequest(teacher=_network(SMALL, 126), num_images=192, views=5, view_px=126),
            StoreRequest(teacher=_network("efficientnet_lite0", 96), num_images=600, views=5, view_px=96)],
    students=[StepCase(student=_network(name, size), batch_size=16 if size > 128 else 32)
              for name in ("fastvit_t8", "fastvit_s12", "mobilevitv2_050") for size in (64, 128, 256)],
    online=[OnlineCase(teacher=_network(SMALL, 70), student=_network("fastvit_t8", 64), view_px=70),
            OnlineCase(teacher=_network(LARGE, 70), student=_network("fastvit_s12", 64), view_px=70, batch_size=8,
                       num_images=24, views=2),
            OnlineCase(teacher=_network(SMALL, 64, "segmentation"), student=_network("fastvit_t8", 64, "segmentation"),
                       view_px=64, batch_size=8, num_images=32, views=2),
            OnlineCase(teacher=_network(LARGE, 64, "segmentation"), student=_network("fastvit_t8", 64, "segmentation"),
                       view_px=64, batch_size=4, num_images=12, views=2)],
    counts=(10_000, 100_000),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where and how the parts run."""

    scale: Scale
    folder: Path
    device: str
    workers: int

    def figures(self, parts: Sequence[str]) -> Iterator[Figure]:
        known: dict[str, Callable[[], Iterator[Figure]]] = {"build": self._builds, "step": self._steps,
                                                            "online": self._online, "memory": self._memory}  # fmt: skip
        for part in parts:
            yield from known[part]()

    def _builds(self) -> Iterator[Figure]:
        for request in self.scale.builds:
            yield from build_figures(request, self.folder, device=self.device, workers=self.workers,
                                     rounds=self.scale.rounds)  # fmt: skip

    def _steps(self) -> Iterator[Figure]:
        for case in self.scale.students:
            yield from step_figures(case, self.folder, device=self.device, workers=self.workers,
                                    rounds=self.scale.steps)  # fmt: skip

    def _online(self) -> Iterator[Figure]:
        for case in self.scale.online:
            yield from online_figures(case, self.folder, device=self.device, workers=self.workers,
                                      rounds=self.scale.steps)  # fmt: skip

    def _memory(self) -> Iterator[Figure]:
        return memory_figures(self.scale.counts, self.scale.stages, self.folder / "memory")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few cases of each part")
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object on stdout")
    parser.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)} (default: all)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--workers", type=int, help="decoding processes (default: 0 on a CPU, 8 beside a GPU)")
    args = parser.parse_args()
    parts = args.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"--only takes some of {','.join(PARTS)}, not {','.join(sorted(unknown))}")
    keep_freed_memory()
    device = str(choose_device(args.device))
    workers = args.workers if args.workers is not None else 0 if device == "cpu" else 8
    found = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(scale=QUICK if args.quick else FULL, folder=Path(folder), device=device, workers=workers)
        for figure in bench.figures(parts):
            found.append(figure)
            print(f"{figure.name}: {figure.value:,.3g}", file=sys.stderr, flush=True)
    print(to_json(found) if args.json else _report(found, device))


def _report(figures: Sequence[Figure], device: str) -> str:
    where = f"{torch.get_num_threads()} threads" if device == "cpu" else torch.cuda.get_device_name(device)
    return f"{device}, {where}, torch {torch.__version__}\n\n{table(figures, limit='limit', peer='peer')}"


if __name__ == "__main__":
    main()
