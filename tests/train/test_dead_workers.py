"""A decoding process of a training run that is killed ends the run with one line, and the run goes on from its save."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_reinforced as tiny
from processes import session_members

PROGRAM = "from train.cli import main; main()"


def workers_of(session: int) -> list[int]:
    return session_members(session, "spawn_main")


UNTOLD = """
import _multiprocessing, multiprocessing, os
from reinforce.worker_process import naming_dead_workers
with naming_dead_workers():
    semaphore = multiprocessing.get_context("spawn").Lock()
    _multiprocessing.sem_unlink(semaphore._semlock.name)
    os._exit(1)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="there semaphores have names")
def test_a_semaphore_of_which_its_tracker_was_not_told_is_no_line() -> None:
    def said(program: str) -> str:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
        return done.stderr

    assert "leaked semaphore" in said(UNTOLD.replace("with naming_dead_workers()", "if True"))
    assert said(UNTOLD) == ""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_killed_worker_is_one_line(tmp_path: Path) -> None:
    images = tiny.write_images(tmp_path / "coloured")
    store = tiny.build_store(tmp_path / "coloured.zarr", images)
    out = tmp_path / "student"
    argv = ["distill", "--cache", str(store), "--transfer", str(images), "--student", "test_vit", "--image-size", "32",
            "--steps", "100000", "--batch-size", "4", "--workers", "2", "--quiet", "--out", str(out)]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, *argv], stderr=subprocess.PIPE, text=True,
                               start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while len(workers_of(process.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "a decoding process was killed" in err
    assert "--resume" in err
    assert len(err.strip().splitlines()) == 1, err
    assert not workers_of(process.pid)
