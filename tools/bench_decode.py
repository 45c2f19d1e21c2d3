"""How fast one core reads and decodes transforms, from coarse to fine steps, beside the bare product of that size.

    python tools/bench_decode.py                 # tables: rows of 1000 classes (klt), maps of 64x64x150 (klt-maps)
    python tools/bench_decode.py --json

Targets are synthetic, times are medians of processor time. `limit` is the matrix product alone, by torch in 8-bit
integers, or in float32 where the processor is slow at those (klt), and in float32 by numpy (klt-maps).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench_store import synthetic_logits, write_store
from figures import Figure, table, to_json
from numpy.typing import NDArray

from reinforce.allocator import keep_freed_memory
from reinforce.store import Divergence, MapShape, RowShape, TargetShape
from reinforce.store.codecs.klt import KltCodec, KltFamily
from reinforce.store.codecs.klt_maps import KltMapsCodec, KltMapsFamily
from reinforce.store.codecs.product import are_quick
from reinforce.store.shapes import upsample

ROW_STEPS = (12.0, 8.0, 5.0, 3.0, 1.6, 0.8, 0.4, 0.15, 0.08)
MAP_STEPS = (3.0, 2.0, 1.3, 0.6, 0.3, 0.2)
ROWS = RowShape(1000)
MAPS = MapShape(150, 64, 64, 512)
NUM_PATTERNS = 24
REPEATS = 9


def synthetic_maps(views: int, rows: int, seed: int = 0) -> NDArray[np.float32]:
    """(V, R, N, C): smooth fields of a few patterns of classes, and noise in every class."""
    rng = np.random.Generator(np.random.Philox(seed))
    patterns = rng.standard_normal((NUM_PATTERNS, MAPS.num_channels), np.float32)
    maps = 0.5 * rng.standard_normal((views, rows, *MAPS.item_shape), np.float32)
    for view, row in np.ndindex(views, rows):
        coarse = rng.standard_normal((8, 8, NUM_PATTERNS), np.float32)
        fields = upsample(coarse, MAPS.height, np.arange(MAPS.height)).reshape(-1, NUM_PATTERNS)
        maps[view, row] += 1.2 * fields @ patterns
    return maps


@dataclass(frozen=True)
class Bench:
    """Reading one view of a unit of `targets`, (V, R, *item_shape), from files that the page cache holds."""

    shape: TargetShape
    targets: NDArray[np.float32]
    unit: str

    def figure(self, codec: KltCodec | KltMapsCodec, product: Callable[[], object], goal: float) -> Figure:
        num_views, num_rows = self.targets.shape[:2]
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "store.zarr"
            store = write_store(root, codec, self.targets, num_rows, self.shape)
            kl = self.shape.fidelity(self.targets[0], store.read_targets(0, 0), Divergence(1.0)).mean
            taken, least = processor_seconds(lambda: store.read_targets(0, 0), product)
            size = sum(file.stat().st_size for file in root.glob("targets/*/c/**/*") if file.is_file())
        title = f"{codec.name}, KL {kl:.1e}, {size / num_views / num_rows:,.0f} B/view, {len(codec.scales)} components"
        return Figure(name=f"{title}: {self.unit}/s", value=num_rows / taken, limit=num_rows / least, goal=goal)


def processor_seconds(*actions: Callable[[], object]) -> list[float]:
    """Medians of processor time, which other programs' work does not count in, the actions in turn."""
    taken: list[list[float]] = [[] for _ in actions]
    for _ in range(REPEATS):
        for action, times in zip(actions, taken, strict=True):
            started = time.process_time()
            action()
            times.append(time.process_time() - started)
    return [statistics.median(times) for times in taken]


def rows_by_step(unit_rows: int = 2000) -> Iterator[Figure]:
    bench = Bench(ROWS, synthetic_logits(4, unit_rows, ROWS.num_channels), "rows")
    fitted_on = synthetic_logits(4, 2 * unit_rows, ROWS.num_channels)
    family = KltFamily.of_logits(fitted_on, temperature=1.0, num_views=4)
    for step in ROW_STEPS:
        codec = family.codec(step)
        dtype, product = (torch.int8, torch._int_mm) if are_quick() else (torch.float32, torch.mm)
        digits, basis = (torch.ones(shape, dtype=dtype) for shape in
                         ((unit_rows, len(codec.scales)), codec.basis.shape))  # fmt: skip
        yield bench.figure(codec, partial(product, digits, basis), 1e5)


def maps_by_step(unit_rows: int = 4) -> Iterator[Figure]:
    bench = Bench(MAPS, synthetic_maps(2, unit_rows), "views")
    family = KltMapsFamily.of_logits(synthetic_maps(2, 8), MAPS.height, MAPS.width, temperature=1.0)
    for step in MAP_STEPS:
        codec = family.codec(step)
        left: Any = np.ones((unit_rows * MAPS.num_cells, len(codec.scales)), np.float32)
        yield bench.figure(codec, partial(np.matmul, left, codec.decoder), 200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.fsync = lambda fd: None  # what is measured is reading
    keep_freed_memory()  # as the commands do
    figures = [*rows_by_step(), *maps_by_step()]
    print(to_json(figures) if args.json else table(figures, limit="the product alone", peer=""))


if __name__ == "__main__":
    main()
