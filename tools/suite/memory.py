"""Peak memory of every stage, and how it grows with the number of samples: each stage is a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from figures import Figure

from suite.inputs import Network, make_teacher, make_tiles
from suite.peak import LABEL

MOST_BYTES_A_SAMPLE = 1024
"""A key, its hashes, its place in a tar: what a process may keep of a sample."""
TILE_PX = 32
UNIT_BUDGET_MB = 1
"""So little that units of few samples have no fewer rows than those of many: what a unit needs is bounded by its budget
and not by the number of samples, but the default lets it grow up to there."""
STAGES = ("plan", "build", "verify", "inspect", "distill", "embed", "curate")
MEGABYTE = 1 << 20


def memory_figures(counts: Sequence[int], stages: Sequence[str], folder: Path) -> Iterator[Figure]:
    """Of the largest count in MB, and bytes for each sample more than in the smallest; all on the CPU."""
    folder.mkdir(parents=True, exist_ok=True)
    make_teacher(folder / "teacher", Network(architecture="test_vit", image_size=TILE_PX), 10)
    peaks = {count: {stage: _peak_bytes(argv, folder) for stage, argv in _commands(count, folder) if stage in stages}
             for count in counts}  # fmt: skip
    few, many = min(counts), max(counts)
    for stage in stages:
        yield Figure(name=f"memory, {stage}, {many:,} samples, MB", value=peaks[many][stage] / MEGABYTE,
                     peer=peaks[few][stage] / MEGABYTE, lower_is_better=True)  # fmt: skip
        yield Figure(name=f"... bytes a sample more than {few:,}",
                     value=max(0.0, (peaks[many][stage] - peaks[few][stage]) / (many - few)), goal=MOST_BYTES_A_SAMPLE,
                     lower_is_better=True)  # fmt: skip


def _commands(count: int, folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Stage and command, in the order in which they can run."""
    tiles, store = folder / f"tiles-{count}", folder / f"{count}.zarr"
    if not tiles.exists():
        make_tiles(tiles, count, 16)
    computed = ["--batch-size", "256", "--unit-budget-mb", str(UNIT_BUDGET_MB), "--workers", "0", "--quiet"]
    built = ["--teacher", str(folder / "teacher"), "--transfer", str(tiles), "--views", "1", *computed]
    yield "plan", ["reinforce", "plan", *built]
    yield "build", ["reinforce", "build", *built, "--overwrite", "--out", str(store)]
    yield "verify", ["reinforce", "verify", str(store), "--level", "full"]
    yield "inspect", ["reinforce", "inspect", str(store)]
    yield "distill", ["train", "distill", "--cache", str(store), "--student", "test_efficientnet", "--batch-size", "64",
                      "--steps", "20", "--workers", "0", "--quiet", "--overwrite", "--out",
                      str(folder / f"student-{count}")]  # fmt: skip
    gallery = str(folder / f"gallery-{count}.zarr")
    yield "embed", ["reinforce", "embed", "--gallery", str(tiles), "--encoder", str(folder / "teacher"), *computed,
                    "--overwrite", "--out", gallery]  # fmt: skip
    yield "curate", ["reinforce", "curate", "--gallery", gallery, "--query", str(tiles), "--limit", "50", "--size",
                     "300", "--quiet", "--overwrite", "--out", str(folder / f"curated-{count}")]  # fmt: skip


def _peak_bytes(argv: Sequence[str], folder: Path) -> int:
    """Largest resident size of the command. Exits where it fails."""
    tools = str(Path(__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([tools, os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, "-m", "suite.peak", *argv], check=False, text=True, cwd=folder,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment)  # fmt: skip
    said = done.stderr.strip()
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(argv)} failed: {said}")
    return int(said.rpartition(LABEL)[2])
