"""Ctrl-C, wherever a long verb is: one line that says how to go on, and doing so ends well.

Each command runs in a process of its own, which sends itself a real SIGINT while it reads its nth image; or all its
processes get one, as from a terminal, while its workers start.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import forked
import numpy as np
import pytest
import torch
from PIL import Image
from processes import session_members

import reinforce.cli
import train.cli
from reinforce.command import run_group
from reinforce.models import create_model, save_model

GROUPS = {"reinforce": reinforce.cli.command, "train": train.cli.command}
STOPPING = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with SIGINT ignored
from reinforce.data.folder import FolderSource
from {program}.cli import main
read, reads = FolderSource.read, []
def read_and_stop(self, *where):
    reads.append(where)
    if len(reads) == {nth}:
        os.kill(os.getpid(), signal.SIGINT)
    return read(self, *where)
FolderSource.read = read_and_stop
main()
"""
SMALL = "--batch-size 8 --workers 0 --quiet"
BUILD = f"reinforce build --teacher teacher --transfer web --views 2 {SMALL} --out new.zarr"
CURATE = "reinforce curate --query photos --shots 2 --gallery emb.zarr --size 8 --workers 0 --quiet --out curated"
LABELLED = f"--data photos --image-size 32 --lr 1e-3 {SMALL} --out runs/new"
CASES = [
    ("reinforce pack --transfer web --shard-size 4 --out packed --quiet", 30),
    (BUILD, 20),
    (BUILD, 100),
    (f"reinforce embed --gallery web --encoder teacher {SMALL} --out new-emb.zarr", 70),
    (CURATE, 2),
    (CURATE, 8),
    (f"train adapt --model teacher --mode linear-probe --epochs 2 {LABELLED}", 2),
    (f"train finetune --model test_vit --mode full --steps 6 {LABELLED}", 1),
    (f"train distill --cache web.zarr --student test_vit --steps 6 {SMALL} --out runs/new", 3),
    (f"train pretrain --method supervised --model test_vit --steps 6 {LABELLED}", 30),
]
"""A command, and which of the images that it reads is the last before the signal."""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, labelled images, a teacher, a store and an embedded gallery."""
    folder, rng = tmp_path_factory.mktemp("prepared"), np.random.default_rng(0)
    labelled = [f"{split}/{'ab'[i % 2]}/{i}.png" for split in ("train", "val", "test") for i in range(16)]
    for name in [*(f"photos/{name}" for name in labelled), *(f"web/{index:03}.png" for index in range(60))]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / name)
    torch.manual_seed(0)
    save_model(folder / "teacher", *create_model("test_vit", class_names=("a", "b"), image_size=32))
    (folder / "reinforce.toml").write_text('[models]\nteacher = "teacher"\n[data]\nweb = "web"\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        options = ["--batch-size", "8", "--workers", "0", "--quiet"]
        assert run_group(GROUPS["reinforce"], ["build", "--teacher", "teacher", "--transfer", "web", *options]) == 0
        argv = ["embed", "--gallery", "web", "--encoder", "teacher", "--out", "emb.zarr", *options]
        assert run_group(GROUPS["reinforce"], argv) == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("line", "nth"), CASES, ids=[f"{line.split()[1]}-{nth}" for line, nth in CASES])
def test_ctrl_c_says_how_to_go_on(
    prepared: Path, tmp_path: Path, line: str, nth: int, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    program, *argv = line.split()
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    done = forked.run(STOPPING.format(program=program, nth=nth), argv, folder=tmp_path)
    assert done.returncode == 130, done.stderr[-2000:]
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"{program}: stopped")
    assert "type the same command with --resume" in last
    assert "Traceback" not in done.stderr
    monkeypatch.chdir(tmp_path)
    assert run_group(GROUPS[program], [*argv, "--resume"]) == 0, capsys.readouterr().err


STARTING = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from {program}.cli import main
main()
"""
WITH_WORKERS = [
    f"{BUILD.replace('--workers 0', '--workers 1')} --views 12",
    f"{BUILD} --device cpu,cpu",
    f"train finetune --model test_vit --mode full --steps 6 {LABELLED.replace('--workers 0', '--workers 1')}",
]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("line", WITH_WORKERS, ids=["build-workers", "build-devices", "finetune-workers"])
def test_a_signal_while_workers_start_is_no_death_of_theirs(
    prepared: Path, tmp_path: Path, line: str, number: signal.Signals
) -> None:
    program, *argv = line.split()
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    code = STARTING.format(program=program)
    with forked.Forked(code, argv, folder=tmp_path, environment=os.environ) as process:
        deadline = time.monotonic() + forked.TIMEOUT_SECONDS
        while not session_members(process.pid, "spawn_main") and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.3)  # Python runs, and imports
        os.killpg(process.pid, number)
        done, deadline = process.ended(), time.monotonic() + 10
        while (left := session_members(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert done.returncode in (130, 128 + number), done.stderr[-2000:]
    assert "type the same command with --resume" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not left
