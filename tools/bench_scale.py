"""Does a sample cost the same in a set of ten thousand and in one of a million? And stores of the size of real ones.

    python tools/bench_scale.py                                # 10,000, 100,000 and 1,000,000 samples: half an hour
    python tools/bench_scale.py --counts 1000,4000,16000 --json

Samples are PNGs of 16 px in tars, all different, and the teacher costs nothing (suite/synthetic_teacher.py), so that
what is measured is ours. Each stage is a process of its own. Its seconds are processor time, in which other programs'
work counts for little; what it costs to begin (imports, calibration) falls out of the difference between two sizes.

    build    freeze, plan, render two views a sample, encode, commit, finalize
    verify   every byte of the store
    read     open store and set, the order of an epoch, and its targets

Then whole stores of real ones' metadata: 3 million samples x 10 views x 1000 classes, 154,000 maps of 64 x 64 x 150.
Their targets are synthetic and all units alike (as files, links to one), as nothing else would fit this machine.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from bench_decode import MAPS, synthetic_maps
from bench_store import store_figures, synthetic_logits, write_store
from figures import Figure, table, to_json
from numpy.typing import NDArray
from suite.inputs import make_tiles
from suite.pace import Pace
from suite.peak import peak_bytes
from suite.synthetic_teacher import SyntheticRequest

from reinforce.allocator import keep_freed_memory
from reinforce.build import build
from reinforce.dataset import open_dataset
from reinforce.store import Divergence, RowShape, TargetShape, calibrate, verify
from reinforce.store.choose import CodecRequest
from reinforce.units import bytes_of_units, choose_unit_rows

COUNTS = (10_000, 100_000, 1_000_000)
VIEWS = 2
BATCH_ROWS = 1024
MOST_GROWTH = 1.05
"""Of the seconds of a sample more."""
MOST_BYTES_A_SAMPLE = 1024


@dataclass(frozen=True)
class Taken:
    """What a stage took of so many samples."""

    count: int
    work: float
    """See Pace."""
    seconds: float
    peak_bytes: int


def run_build(tiles: Path, store: Path) -> None:
    build(SyntheticRequest(teacher="synthetic", transfer=str(tiles), out=str(store), views=VIEWS, policy="crops",
                           image_size=16, batch_size=256, workers=0, quiet=True, overwrite=True,
                           data_license="CC0-1.0"))  # fmt: skip


def run_verify(tiles: Path, store: Path) -> None:
    if not verify(str(store), "full").ok:
        sys.exit(f"{store} is damaged")


def run_read(tiles: Path, store: Path) -> None:
    dataset = open_dataset(store, str(tiles))
    order = dataset.epoch_order(0)
    views = dataset.view_index(order, 0)
    for start in range(0, len(order), BATCH_ROWS):
        own = slice(start, start + BATCH_ROWS)
        dataset.targets.read(order[own], views[own])


STAGES: dict[str, Callable[[Path, Path], None]] = {"build": run_build, "verify": run_verify, "read": run_read}
TURNS = {"build": 1, "verify": 5, "read": 3}
"""Of which the median counts: what is short is noisy."""


def growth_figures(counts: Sequence[int], folder: Path, stages: Iterable[str] = tuple(STAGES)) -> Iterator[Figure]:
    """Of each stage: microseconds of a sample more between the two largest counts, beside those between the two
    smallest; and bytes of memory."""
    for count in counts:
        make_tiles(folder / f"tiles-{count}", count)
    for stage in stages:
        turns = [[_elsewhere(stage, count, folder) for count in counts] for _ in range(TURNS[stage])]
        taken = [sorted(own, key=lambda each: each.work)[len(own) // 2] for own in zip(*turns, strict=True)]
        pace = sum(each.seconds for each in taken) / sum(each.work for each in taken)
        slopes = [pace * (more.work - less.work) / (more.count - less.count) for less, more in pairwise(taken)]
        few, many = slopes[0], slopes[-1]
        less, more = taken[-2:]
        memory = (more.peak_bytes - less.peak_bytes) / (more.count - less.count)
        yield Figure(name=f"{stage}: us a sample more, up to {counts[-1]:,} (peer: up to {counts[1]:,})",
                     value=1e6 * many, peer=1e6 * few, lower_is_better=True)  # fmt: skip
        yield Figure(name="... ratio of both", value=many / few, goal=MOST_GROWTH, lower_is_better=True)
        yield Figure(name="... bytes of memory a sample more", value=max(0.0, memory), goal=MOST_BYTES_A_SAMPLE,
                     lower_is_better=True)  # fmt: skip


def _elsewhere(stage: str, count: int, folder: Path) -> Taken:
    """A stage in a process of its own."""
    argv = [sys.executable, __file__, "--stage", stage, str(folder / f"tiles-{count}"), str(folder / f"{count}.zarr")]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    return Taken(count, *json.loads(done.stdout))


def whole_stores(folder: Path, rows: int, maps: int) -> Iterator[Figure]:
    """Stores of the metadata of real ones."""
    unit_rows = choose_unit_rows([rows], 10, 1000, 256 << 20)
    logits = synthetic_logits(10, unit_rows, 1000)
    yield from _whole_store(folder / "rows.zarr", f"{rows:,} samples x 10 views x 1000 classes", logits, rows,
                            RowShape(1000))  # fmt: skip
    values = math.prod(MAPS.item_shape)
    budget = bytes_of_units(-(-maps // 8192), 1, values)
    unit_rows = choose_unit_rows([maps], 1, values, budget)
    yield from _whole_store(folder / "maps.zarr", f"{maps:,} maps of 64 x 64 x 150 (--unit-budget-mb {budget >> 20})",
                            synthetic_maps(1, unit_rows), maps, MAPS)  # fmt: skip


def _whole_store(root: Path, title: str, unit: NDArray[np.float32], num_samples: int,
                 shape: TargetShape) -> Iterator[Figure]:  # fmt: skip
    views, unit_rows = unit.shape[:2]
    request = CodecRequest(max_error=1e-2, measure=Divergence(1.0), num_samples=num_samples, num_views=views,
                           unit_rows=unit_rows, shape=shape)  # fmt: skip
    codec = calibrate(unit[:4, : max(2, 4096 // math.prod(shape.item_shape[:-1]))], request).codec
    started = time.process_time()
    write_store(root, codec, unit, num_samples, shape)
    taken = time.process_time() - started
    yield Figure(name=f"{title}: us a sample to commit and finish", value=1e6 * taken / num_samples,
                 lower_is_better=True)  # fmt: skip
    yield from store_figures(root, title)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=lambda text: tuple(map(int, text.split(","))), default=COUNTS)
    parser.add_argument("--rows", type=int, default=3_000_000, help="samples of the large store of rows")
    parser.add_argument("--maps", type=int, default=154_000, help="samples of the large store of maps")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("--stage", nargs=3, metavar=("NAME", "TILES", "STORE"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.fsync = lambda fd: None  # what is measured is processor time
    keep_freed_memory()  # as the commands do
    if args.stage:
        name, tiles, store = args.stage
        with Pace() as pace:
            STAGES[name](Path(tiles), Path(store))
        print(json.dumps([pace.work, pace.seconds, peak_bytes()]))
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        figures = [*growth_figures(args.counts, Path(name)), *whole_stores(Path(name), args.rows, args.maps)]
    print(to_json(figures) if args.json else table(figures, limit="machine's limit", peer="peer"))


if __name__ == "__main__":
    main()
