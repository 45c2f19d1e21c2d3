"""How fast and in how much memory a gallery is searched exactly, beside this machine's bare matrix product, and faiss.

    python tools/bench_search.py                 # a table
    python tools/bench_search.py --json          # {"figures": [{"name", "value", "limit", "peer", "goal", ...}]}
    python tools/bench_search.py --quick         # small galleries
    python tools/bench_search.py --vectors X.npy # only what an approximate search of real vectors costs and misses

Vectors are synthetic: of each unit from its own seed, or rows of one block shifted, where making them would take longer
than searching. `limit` is `torch.mm` alone, of the same queries with the same vectors in float32 that lie in memory;
`peer` is `faiss.knn` of the same arrays. The three take turns in one process on as many threads as torch is given
(OMP_NUM_THREADS); values are medians over the rounds, in seconds of the process, so that other work on the machine
counts for little. Extrapolations are named so.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from figures import Figure, table, to_json

from reinforce.curate.approximate import ApproximateIndex, ApproximateNeighbours
from reinforce.curate.embeddings import ArrayEmbeddings, Block, Items, Vectors
from reinforce.curate.search import nearest

GOAL = 0.85
"""Of the bare product's speed, at 1,000 queries and more."""
UNIT_ROWS = 16_384
BARE_ROWS = 2048
"""Vectors a product: larger and smaller ones are no faster here."""
GIGABYTE_MB = 1000.0
SPEEDS = ((50, 384, 10, 200_000), (50, 1536, 10, 60_000), (1000, 384, 10, 200_000), (1000, 1536, 10, 200_000),
          (10_000, 384, 10, 200_000), (10_000, 1536, 10, 60_000), (1000, 384, 100, 1_000_000))  # fmt: skip
"""Queries, dimensions, neighbours and vectors of each measurement."""
PAPER_QUERIES, YFCC, DATACOMP = 50, 15_000_000, 12_800_000_000


def unit_vectors(count: int, dimensions: int, seed: int) -> Vectors:
    """(count, D) float16 random directions."""
    rows = np.random.default_rng(seed).standard_normal((count, dimensions), np.float32)
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float16)


class SyntheticGallery:
    """A gallery of any size that takes the memory of one unit: unit u is the first, its elements shifted by u."""

    def __init__(self, num_items: int, dimensions: int) -> None:
        self.num_items = self.num_embedded = num_items
        self.widths = (dimensions,)
        self._first = unit_vectors(min(UNIT_ROWS, num_items), dimensions, 1)

    @property
    def num_units(self) -> int:
        return -(-self.num_items // UNIT_ROWS)

    def unit(self, unit: int) -> Block:
        items = np.arange(unit * UNIT_ROWS, min((unit + 1) * UNIT_ROWS, self.num_items))
        shift, turn = unit % self.widths[0], unit // self.widths[0]
        vectors = np.roll(self._first, shift, axis=1)
        vectors[:, turn % self.widths[0]] *= -1  # another gallery after every whole turn
        return Block(items, vectors[: len(items)])

    def vectors(self, items: Items) -> Vectors:
        raise KeyError("a search does not ask for single vectors")

    def tie_order(self, items: Items) -> Items:
        return items


class InMemory(SyntheticGallery):
    """The same, made before the clock runs."""

    def __init__(self, num_items: int, dimensions: int) -> None:
        super().__init__(num_items, dimensions)
        self.blocks = [super(InMemory, self).unit(unit) for unit in range(self.num_units)]

    def unit(self, unit: int) -> Block:
        return self.blocks[unit]


def process_seconds(action: Callable[[], object]) -> float:
    started = time.process_time()
    action()
    return time.process_time() - started


def bare_product(queries_QD: torch.Tensor, vectors_ND: torch.Tensor, rows: int) -> None:
    """All inner products, each block's over those before it; queries in tiles of a thousand or so."""
    tiles = queries_QD.tensor_split(-(-len(queries_QD) // 1024))
    out = [torch.empty(len(tile), rows) for tile in tiles]
    for start in range(0, len(vectors_ND) - rows + 1, rows):
        for tile, products in zip(tiles, out, strict=True):
            torch.mm(tile, vectors_ND[start : start + rows].T, out=products)


def speed(num_queries: int, dimensions: int, k: int, num_items: int, rounds: int) -> list[Figure]:
    """Vectors a second of process time, and the part of the bare product's speed."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    gallery, queries = InMemory(num_items, dimensions), unit_vectors(num_queries, dimensions, 2)
    vectors_ND = np.concatenate([block.vectors for block in gallery.blocks]).astype(np.float32)
    queries_QD = queries.astype(np.float32)
    arrays = torch.from_numpy(queries_QD), torch.from_numpy(vectors_ND)
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: nearest(queries, gallery, k),
        "bare": lambda: bare_product(*arrays, BARE_ROWS),
        "faiss": lambda: faiss.knn(queries_QD, vectors_ND, k, faiss.METRIC_INNER_PRODUCT),
    }
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, action in ways.items():
            taken[way].append(process_seconds(action))
    searched = {"ours": num_items, "bare": num_items // BARE_ROWS * BARE_ROWS, "faiss": num_items}
    ours, bare, peer = (searched[way] / statistics.median(seconds) for way, seconds in taken.items())
    name = f"{num_queries:,} queries, d = {dimensions}, k = {k:,}, {num_items:,} vectors"
    return [
        Figure(name=f"{name}: vectors/s and core", value=ours, limit=bare, peer=peer),
        Figure(name=f"{name}: part of the bare product", value=ours / bare, goal=GOAL if num_queries >= 1000 else None),
    ]


MEMORY = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from bench_search import SyntheticGallery, nearest, unit_vectors
import torch

def mb(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(name))

items, dimensions, num_queries, k = map(int, sys.argv[2:])
torch.mm(torch.zeros(64, 64), torch.zeros(64, 64))
before = mb("VmRSS")
nearest(unit_vectors(num_queries, dimensions, 2), SyntheticGallery(items, dimensions), k)
print(mb("VmHWM") - before)
"""
"""Prints the largest memory of a process beyond its imports, in MB (Linux)."""


def memory(num_items: int, dimensions: int, num_queries: int, k: int, goal: float) -> Figure:
    numbers = map(str, (num_items, dimensions, num_queries, k))
    command = [sys.executable, "-c", MEMORY, str(Path(__file__).parent), *numbers]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    found = float(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
    name = f"{num_queries:,} queries, d = {dimensions}, k = {k:,}, {num_items:,} vectors: memory, MB"
    return Figure(name=name, value=found, goal=goal, lower_is_better=True)


def extrapolated(measured: Figure, queries: int, dimensions: int) -> list[Figure]:
    """Hours of one core for the paper's galleries, at a measured speed; reading is not in it."""
    return [
        Figure(name=f"EXTRAPOLATED, not run: {size:,} vectors, {queries:,} queries, d = {dimensions}: core hours",
               value=size / measured.value / 3600, lower_is_better=True) for size in (YFCC, DATACOMP)
    ]  # fmt: skip


def approximate(vectors_ND: Vectors, words: str, probes: int, k: int) -> list[Figure]:
    """Process seconds of an index and of its search, beside the exact one (`limit`). The last seventh are queries."""
    cut = len(vectors_ND) - len(vectors_ND) // 7
    gallery, queries = ArrayEmbeddings(vectors_ND[:cut], vectors_ND.shape[1:], unit_rows=UNIT_ROWS), vectors_ND[cut:]
    made: list[ApproximateIndex] = []
    found: list[ApproximateNeighbours] = []
    building = process_seconds(lambda: made.append(ApproximateIndex(gallery, words, probes)))
    exact = process_seconds(lambda: nearest(queries, gallery, k))
    asking = process_seconds(lambda: found.append(made[0].nearest(queries, k)))
    name = f"{words}, {probes} probes, {len(queries):,} queries of {cut:,} vectors, k = {k:,}"
    return [
        Figure(name=f"{name}: building the index, s", value=building, lower_is_better=True),
        Figure(name=f"{name}: search, s", value=asking, limit=exact, lower_is_better=True),
        Figure(name=f"{name}: recall", value=found[0].recall),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small galleries: a try, not a record")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--vectors", type=Path, help="(N, D) rows of unit length, as .npy")
    args = parser.parse_args()
    if args.vectors is not None:
        rows = np.load(args.vectors).astype(np.float16)
        figures = [figure for probes in (4, 16) for figure in approximate(rows, "IVF256,SQfp16", probes, 100)]
        print(to_json(figures) if args.json else table(figures, limit="exact search", peer="-"))
        return
    small = 10 if args.quick else 1
    figures = []
    for num_queries, dimensions, k, num_items in SPEEDS:
        figures += speed(num_queries, dimensions, k, num_items // small, args.rounds)
        if num_queries == PAPER_QUERIES:
            figures += extrapolated(figures[-2], num_queries, dimensions)
    for num_items in (100_000, 1_000_000, 10_000_000):
        figures.append(memory(num_items // small, 384, PAPER_QUERIES, 1000, GIGABYTE_MB))
    figures.append(memory(60_000 // small, 384, 10_000 // small, 5000, GIGABYTE_MB))
    print(to_json(figures) if args.json else table(figures, limit="torch.mm alone", peer="faiss.knn"))


if __name__ == "__main__":
    main()
