"""The experiment on curated sets: which commands it runs, and the table that comes out."""

from __future__ import annotations

import sys
from pathlib import Path

import click
import pytest

import reinforce.cli
import train.cli

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from curation_job import SCRATCH, WHOLE, Job, table

GROUPS = {"reinforce": reinforce.cli.command, "train": train.cli.command}


@pytest.mark.parametrize("changes", [{}, {"target": "global-features", "crops": 3}, {"teacher": "runs/t-s{seed}"}])
def test_its_commands_parse_and_read_what_earlier_ones_write(changes: dict[str, object], tmp_path: Path) -> None:
    job = Job(gallery="gallery", out=tmp_path, sizes=(10, 20), seeds=(0, 1), **changes)  # type: ignore[arg-type]
    stages = job.stages()
    known: set[str] = set()
    for stage in stages:
        program, verb, *argv = stage.argv
        command = GROUPS[program].get_command(click.Context(GROUPS[program]), verb)
        assert command is not None
        command.make_context(verb, list(argv))
        assert set(stage.inputs) <= known
        assert stage.name not in known
        known.add(stage.name)
    sets = [stage for stage in stages if stage.argv[1] == "curate"]
    assert len(sets) == 2 * 2 * 2
    assert sum(stage.argv[1] == "embed" for stage in stages) == 1
    assert any(stage.argv[1] == "adapt" for stage in stages) == (not changes)


def test_the_table_pairs_gains_by_seed(tmp_path: Path) -> None:
    job = Job(gallery="gallery", out=tmp_path, sizes=(10,), strategies=("random",), seeds=(0, 1))
    accuracy = {"random 10 s0": 0.5, "random 10 s1": 0.7, f"{SCRATCH} s0": 0.4, f"{SCRATCH} s1": 0.5,
                f"{WHOLE} s0": 0.6}  # fmt: skip
    record = {f"evaluate {name}": {"result": {"accuracy": value}} for name, value in accuracy.items()}
    lines = table(job, record).splitlines()
    assert lines[2] == "| random | 10 | 60.0 % ± 14.1 | +15.0 | 2 |"
    assert lines[3] == f"| {WHOLE} |  | 60.0 % | +20.0 | 1 |"
    assert lines[4] == f"| {SCRATCH} |  | 45.0 % ± 7.1 |  | 2 |"
