"""The Python of docs/walkthrough.md and docs/training-loop.md does what these pages say, block after block."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
DOCS = Path(__file__).parents[1] / "docs"


def python_blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.M | re.S)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any]]:
    """The folder in which the walk-through was run, what it printed, and its variables."""
    folder, names, printed = tmp_path_factory.mktemp("walk"), {}, io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setenv("REINFORCE_HOME", str(folder / "home"))
        patch.chdir(folder)
        for number, block in enumerate(python_blocks("walkthrough.md")):
            exec(compile(block, f"walkthrough.md, block {number}", "exec"), names)
    return folder, printed.getvalue(), names


@pytest.mark.slow
def test_the_walk_through_runs(walked: tuple[Path, str, dict[str, Any]]) -> None:
    folder, printed, names = walked
    assert [line.split()[0] for line in printed.splitlines() if " accuracy " in line and "% .." in line] == [
        "runs/teacher:",
        "runs/student-ft:",
        "runs/scratch:",
    ]
    assert names["found"].num_images == 120
    assert printed.splitlines()[-1].startswith("web.zarr exists: it has 4 views: type more (--views 8)")
    assert (folder / "runs/student-ft/model.safetensors").exists()


@pytest.mark.slow
def test_the_training_loop_runs_in_two_processes(walked: tuple[Path, str, dict[str, Any]]) -> None:
    folder, _, _ = walked
    (loop,) = python_blocks("training-loop.md")
    (folder / "loop.py").write_text(loop)
    environment = {**os.environ, "REINFORCE_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*TORCHRUN, "loop.py"], cwd=folder, env=environment, capture_output=True,
                          text=True, check=False, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    losses = [float(line.split()[-1]) for line in done.stdout.splitlines() if line.startswith("step")]
    assert len(losses) == 2 * (456 // 32)
    assert sum(losses[-5:]) < sum(losses[:5])
    assert (folder / "student.pt").exists()
