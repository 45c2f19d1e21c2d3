"""Two processes under torchrun give the losses of one (a model without BatchNorm, to float noise)."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

OPTIONS = {"--model": "test_vit", "--image-size": "32", "--lr": "1e-3", "--steps": "6", "--batch-size": "11",
           "--policy": "crops", "--precision": "fp32", "--log-every": "2", "--device": "cpu"}  # fmt: skip


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line.get("loss", line.get("val_loss")) for line in lines]


@pytest.mark.slow
def test_two_processes_are_one(colours: Path, tmp_path: Path) -> None:
    launcher = tmp_path / "launch_training.py"
    launcher.write_text("from train.cli import main\nmain()\n")
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    for name, prefix in (("one", []), ("two", ["-m", "torch.distributed.run", "--nproc-per-node", "2"])):
        options = itertools.chain(*OPTIONS.items(), ("--data", str(colours), "--out", str(tmp_path / name)))
        command = [sys.executable, *prefix, str(launcher), "finetune", *options]
        subprocess.run(command, check=True, env=environment, cwd=tmp_path, capture_output=True)
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
