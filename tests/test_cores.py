"""How many processors there are to use: what the process is allowed on, and what its container grants."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from reinforce import cores
from reinforce.cores import share_of_time, usable_cores
from train.world import loader_workers

VERSION_2 = {"cpu.max": "{} 100000\n"}
VERSION_1 = {"cpu/cpu.cfs_quota_us": "{}\n", "cpu/cpu.cfs_period_us": "100000\n"}


def groups(folder: Path, files: dict[str, str], quota: str) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text.format(quota))
    return folder


def groups_of(folder: Path, *lines: str) -> Path:
    """What /proc/self/cgroup says."""
    path = folder / "own"
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("files", "quota", "share"),
    [
        (VERSION_2, "400000", 4.0),
        (VERSION_2, "250000", 2.5),
        (VERSION_2, "max", math.inf),
        (VERSION_1, "150000", 1.5),
        (VERSION_1, "-1", math.inf),
        ({}, "", math.inf),
        ({"cpu.max": "nonsense"}, "", math.inf),
        ({"cpu.max": "{} 0\n"}, "100000", math.inf),
    ],
)
def test_a_container_grants_a_share_of_time(files: dict[str, str], quota: str, share: float, tmp_path: Path) -> None:
    assert share_of_time(groups(tmp_path, files, quota), tmp_path / "none") == share


@pytest.mark.parametrize(
    ("files", "own", "share"),
    [
        ({"a/b/cpu.max": "200000 100000", "cpu.max": "max 100000"}, ["0::/a/b"], 2.0),
        ({"a/cpu.max": "100000 100000", "a/b/cpu.max": "200000 100000"}, ["0::/a/b"], 1.0),
        ({"other/cpu.max": "100000 100000"}, ["0::/a/b"], math.inf),
        ({"cpu.max": "300000 100000"}, ["0::/"], 3.0),
        ({"cpu/job/cpu.cfs_quota_us": "150000", "cpu/job/cpu.cfs_period_us": "100000"},
         ["5:memory:/", "4:cpu,cpuacct:/job", "0::/"], 1.5),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, ["4:cpu:/docker/not/here"], 0.5),
        ({"cpu.max": "300000 100000"}, ["nonsense", ""], 3.0),
    ],
    ids=["own group", "group around it", "of others", "root", "version 1", "container of version 1", "unreadable"],
)  # fmt: skip
def test_groups_around_the_process_count(files: dict[str, str], own: list[str], share: float, tmp_path: Path) -> None:
    assert share_of_time(groups(tmp_path / "fs", files, ""), groups_of(tmp_path, *own)) == share


@pytest.mark.parametrize(("quota", "usable"), [("100000", 1), ("10000", 1), ("110000", 2), ("max", 4), ("900000", 4)])
def test_the_smaller_of_both_counts_in_whole_processors(
    quota: str, usable: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)
    monkeypatch.setattr(cores, "CGROUPS", groups(tmp_path, VERSION_2, quota))
    monkeypatch.setattr(cores, "OWN_GROUPS", tmp_path / "none")
    assert usable_cores() == usable


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot be bound to processors here")
def test_a_process_bound_to_one_processor_has_one() -> None:
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{one}]); from reinforce import cores; print(cores.usable_cores())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.mark.parametrize(
    ("requested", "device", "ranks", "processes"),
    [(-1, "cpu", 1, 0), (3, "cpu", 1, 3), (0, "cuda", 1, 0), (20, "cuda", 1, 20),
     (-1, "cuda", 1, 8), (-1, "cuda", 2, 5), (-1, "cuda", 4, 2), (-1, "cuda", 8, 1)],
)  # fmt: skip
def test_training_loads_by_the_share_of_its_rank(
    requested: int, device: str, ranks: int, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.world.usable_cores", lambda: 12)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    assert loader_workers(requested, torch.device(device)) == processes
