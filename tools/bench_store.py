"""How fast a store is read, beside what this machine's memory and disk can do, and beside zarr.

    python tools/bench_store.py                  # a table
    python tools/bench_store.py --json           # {"figures": [{"name", "value", "limit", "peer", "goal", ...}]}
    python tools/bench_store.py --samples 3000000 --views 100

Targets are synthetic. `limit` is what the machine does with the same bytes and nothing to decode (a copy in memory, a
sequential read), `peer` the same rows through zarr-python. Values are medians of several runs, in processor time, which
other programs' work does not count in; opening is in wall time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from figures import Figure, table, to_json
from numpy.typing import NDArray

from reinforce.allocator import keep_freed_memory
from reinforce.store import (
    Divergence,
    FidelityStats,
    LocalObjects,
    RowShape,
    SampleColumns,
    Store,
    TargetCodec,
    TargetReader,
    TargetShape,
    calibrate,
    codec_record,
    commit_unit,
    create_store,
    encode_unit,
    finalize,
)
from reinforce.store.choose import CodecRequest
from reinforce.store.codecs.fp16 import Fp16Codec
from reinforce.units import MIN_ROWS_OF_MANY_VIEWS, UNIT_VIEWS

WINDOW_PLANES = 64
BATCH_ROWS = 4096
REPEATS = 5
BUDGET_BYTES = 64 << 20
Rows = NDArray[np.int64]


def synthetic_logits(views: int, rows: int, classes: int, seed: int = 0) -> NDArray[np.float32]:
    """(V, R, C): correlated classes, and views of one row alike, as a teacher's are."""
    rng = np.random.Generator(np.random.Philox(seed))
    mixing = rng.standard_normal((classes, classes)) / np.sqrt(np.arange(1, classes + 1))[:, None]
    image, view = rng.standard_normal((1, rows, classes)), rng.standard_normal((views, rows, classes))
    return np.asarray((image + 0.7 * view) @ mixing, np.float32)


def write_store(root: Path, codec: TargetCodec, unit: NDArray[np.float32], num_samples: int,
                shape: TargetShape | None = None) -> Store:  # fmt: skip
    """A finished store all of whose units have the same targets, (V, U, *item_shape): their files are links to one
    unit's. `shape`: that of rows by default."""
    objects, (views, unit_rows), classes = LocalObjects(root), unit.shape[:2], unit.shape[-1]
    shape = shape or RowShape(classes)
    starts = range(0, num_samples, unit_rows)
    plan = {
        "format": 1, **shape.to_json(), "views": views, "unit_rows": unit_rows, "num_samples": num_samples,
        "units": [[0, start, min(start + unit_rows, num_samples)] for start in starts],
        "classes": classes, "class_names": [f"class {i}" for i in range(classes)], "policy": {"size_px": 512},
        "promise": {"max_kl": 1e-3, "max_bytes": None, "temperature": 1.0}, "codec": codec_record(codec),
        "transfer": {"name": "synthetic", "digest": "0" * 64, "shards": [{"name": "s", "samples": num_samples}]},
    }  # fmt: skip
    numbers = np.arange(num_samples)
    samples = SampleColumns(keys=[f"{n // 10_000:05d}/{n:09d}" for n in range(num_samples)],
                            sha64=numbers.astype(np.uint64), width=np.full(num_samples, 500, np.int32),
                            height=np.full(num_samples, 400, np.int32))  # fmt: skip
    schema = create_store(objects, plan, codec, samples)
    first = encode_unit(schema, codec, 0, unit)
    arrays = schema.target_arrays(codec)
    for number in range(schema.num_units):
        contents = {array.object_path(number): first[array.object_path(0)] for array in arrays.values()}
        _link(root, first, contents, arrays, number)
        count = shape.num_measured(views, schema.unit_size(number))
        fidelity = FidelityStats(measure=Divergence(1.0), count=count, top1_count=count, histogram={0: count})
        commit_unit(objects, schema, number, contents, fidelity, [])
    finalize(objects, plan)
    return Store.open(root)


def _link(root: Path, first: dict[str, bytes], contents: dict[str, bytes], arrays: dict[str, Any], unit: int) -> None:
    if unit == 0:
        return
    for array in arrays.values():
        target = root / array.object_path(unit)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(root / array.object_path(0), target)


def seconds(action: Callable[[], object], repeats: int = REPEATS) -> float:
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        action()
        taken.append(time.process_time() - started)
    return statistics.median(taken)


def from_memory(folder: Path) -> list[Figure]:
    """Rows of 16 bytes (four classes) that a window of planes holds decoded, in batches of a block shuffle."""
    unit_rows = 1024
    logits = synthetic_logits(1, unit_rows, 4)
    store = write_store(folder / "memory.zarr", Fp16Codec(), logits, WINDOW_PLANES * unit_rows)
    reader = TargetReader(store)
    rows = np.random.Generator(np.random.Philox(1)).permutation(store.num_rows)
    views = np.zeros_like(rows)
    batches = [(rows[i : i + BATCH_ROWS], views[i : i + BATCH_ROWS]) for i in range(0, len(rows), BATCH_ROWS)]
    reader.read(rows, views)
    plane = np.concatenate([store.read_targets(unit, 0) for unit in range(store.num_units)])
    ours = seconds(lambda: [reader.read(*batch) for batch in batches])
    limit = seconds(lambda: [np.take(plane, batch[0], axis=0) for batch in batches])
    return [
        Figure(name="16-byte rows from memory, rows/s", value=len(rows) / ours, limit=len(rows) / limit,
               peer=_zarr_rows_per_second(folder / "memory.zarr", rows[:BATCH_ROWS]), goal=5e6),
    ]  # fmt: skip


def _zarr_rows_per_second(root: Path, rows: Rows) -> float:
    import zarr

    array: Any = zarr.open_array(root / "targets/values", mode="r")
    return len(rows) / seconds(lambda: array.oindex[0, rows], repeats=1)


def from_disk(folder: Path, classes: int, codec_name: str, goal: float, max_error: float) -> Iterator[Figure]:
    """One plane after the other from files, decoded, in one thread. The page cache is warm: decoding is measured."""
    unit_rows = UNIT_VIEWS // 8
    logits = synthetic_logits(4, unit_rows, classes)
    request = CodecRequest(max_error=max_error, measure=Divergence(1.0), num_samples=10**6, num_views=4,
                           unit_rows=unit_rows)  # fmt: skip
    codec = calibrate(synthetic_logits(4, 2 * unit_rows, classes), request, codec_name).codec
    root = folder / f"{codec_name}-{classes}-{max_error:g}.zarr"
    store = write_store(root, codec, logits, 4 * unit_rows)
    places = [(unit, view) for unit in range(store.num_units) for view in range(store.num_views)]
    files = sorted((root / "targets").rglob("c/**/*"))
    data = [path for path in files if path.is_file()]
    limit = seconds(lambda: [path.read_bytes() for path in data])
    rows, limit_rows = len(places) * unit_rows, len(places) * unit_rows / limit
    size = sum(path.stat().st_size for path in data) / rows
    kl = Divergence(1.0).errors(logits[0], store.read_targets(0, 0)).mean()
    name = f"{classes} classes ({codec.name}, {size:.0f} B/view, KL {kl:.1e}) read and decoded, rows/s"
    if codec_name == "klt" and "torch" not in sys.modules:
        without = seconds(lambda: [store.read_targets(*place) for place in places])
        yield Figure(name=f"{name}, without torch", value=rows / without, limit=limit_rows)
        import torch  # klt multiplies integers where a program has loaded it, as training has

        torch.set_num_threads(1)
    ours = seconds(lambda: [store.read_targets(*place) for place in places])
    yield Figure(name=name, value=rows / ours, limit=limit_rows, goal=goal)


OPENING = """
import sys, time
from pathlib import Path
import numpy as np
from reinforce.store import Store, TargetReader

def mb(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))

before = mb("VmRSS")
started = time.perf_counter()
store = Store.open(sys.argv[1])
opened = time.perf_counter() - started
after = mb("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
reader = TargetReader(store, budget_bytes=int(sys.argv[2]))
rng = np.random.Generator(np.random.Philox(0))
plane_bytes = 4 * store.unit_rows * int(np.prod(store.item_shape))
for _ in range(4 * int(sys.argv[2]) // plane_bytes):
    unit, view = rng.integers(store.num_units), rng.integers(store.num_views)
    reader.read(np.array([unit * store.unit_rows]), np.array([view]))
print(opened, after - before, mb("VmHWM") - after)
"""
"""Prints seconds, MB that an open store takes, and MB that reading planes at random took above them (Linux)."""


def large(folder: Path, num_samples: int, views: int) -> list[Figure]:
    """A store of millions of samples: opening it, its memory, its objects."""
    unit_rows = max(UNIT_VIEWS // views, MIN_ROWS_OF_MANY_VIEWS)
    logits = synthetic_logits(views, unit_rows, 10)
    request = CodecRequest(
        max_error=1e-3, measure=Divergence(1.0), num_samples=num_samples, num_views=views, unit_rows=unit_rows
    )
    root = folder / "large.zarr"
    write_store(root, calibrate(logits[:4], request).codec, logits, num_samples)
    return list(store_figures(root, f"{num_samples:,} samples x {views} views"))


def store_figures(root: Path, title: str) -> Iterator[Figure]:
    """Opening a store, its memory, its objects."""
    listed = [path for path, _ in LocalObjects(root).list()]
    largest = max(Counter(path.rpartition("/")[0] for path in listed).values())
    runs = [_open_elsewhere(root) for _ in range(3)]
    opened, memory, reading = (statistics.median(column) for column in zip(*runs, strict=True))
    limit = seconds(lambda: (list(LocalObjects(root).list()), (root / "manifest.json").read_bytes()), repeats=3)
    yield Figure(name=f"{title}: open, s", value=opened, limit=limit, goal=1.0, lower_is_better=True)
    yield Figure(name="... memory of the open store, MB", value=memory, lower_is_better=True)
    yield Figure(name=f"... memory of a reader of {BUDGET_BYTES >> 20} MB, MB", value=reading,
                 goal=1.5 * (BUDGET_BYTES >> 20), lower_is_better=True)  # fmt: skip
    yield Figure(name="... objects", value=len(listed), goal=1e5, lower_is_better=True)
    yield Figure(name="... most objects in a folder", value=largest, goal=1e4, lower_is_better=True)


def _open_elsewhere(root: Path) -> tuple[float, ...]:
    command = [sys.executable, "-c", OPENING, str(root), str(BUDGET_BYTES)]
    return tuple(map(float, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=3_000_000)
    parser.add_argument("--views", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    os.fsync = lambda fd: None  # what is measured is reading
    keep_freed_memory()  # as the commands do
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = [*from_memory(folder), *from_disk(folder, 10, "sqrt-p", 1e6, 1e-3),
                   *from_disk(folder, 1000, "sqrt-p", 1e5, 1e-2), *from_disk(folder, 1000, "klt", 1e5, 1e-2),
                   *from_disk(folder, 1000, "klt", 1e5, 1e-3),
                   *large(folder, args.samples, args.views)]  # fmt: skip
    print(to_json(figures) if args.json else table(figures, limit="machine's limit", peer="zarr-python"))


if __name__ == "__main__":
    main()
