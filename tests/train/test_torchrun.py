"""Two processes of torchrun give the losses and figures of one (a model without BatchNorm, to float noise)."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from forked import TIMEOUT_SECONDS, Ended, Forked, free_port, run_ranks
from other_orders import write_in_other_order
from processes import session_members

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
OPTIONS = {"--model": "test_vit", "--image-size": "32", "--lr": "1e-3", "--steps": "6", "--batch-size": "11",
           "--precision": "fp32", "--log-every": "2", "--device": "cpu"}  # fmt: skip
TASKS = {
    "classification": ["--policy", "crops"],
    "segmentation": ["--policy", "segmentation", "--task", "segmentation", "--head", "linear"],
}


def losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line.get("loss", line.get("val_loss")) for line in lines]


def run(num_processes: int, folder: Path, argv: Sequence[str]) -> str:
    """What the main process prints."""
    first, *others = run_ranks("from train.cli import main; main()", argv, folder=folder, ranks=num_processes)
    assert all(rank.returncode == 0 for rank in (first, *others)), first.stderr
    return first.stdout


def torchrun(num_processes: int, folder: Path, argv: Sequence[str]) -> str:
    launcher = folder / "launch_training.py"
    launcher.write_text("from train.cli import main\nmain()\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    command = [*TORCHRUN, "--nproc-per-node", str(num_processes), str(launcher), *argv]
    return subprocess.run(command, check=True, env=environment, cwd=folder, capture_output=True, text=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize(("task", "start"), [("classification", torchrun), ("segmentation", run)], ids=TASKS)
def test_two_processes_are_one(
    task: str, start: Callable[..., str], colours: Path, scenes: Path, tmp_path: Path
) -> None:
    data = {"classification": colours, "segmentation": scenes}[task]
    for num_processes, started_by in ((1, run), (2, start)):
        options = itertools.chain(*OPTIONS.items(), TASKS[task], ("--data", str(data), "--out", str(num_processes)))
        started_by(num_processes, tmp_path, ["finetune", *options])
    assert losses(tmp_path / "2") == pytest.approx(losses(tmp_path / "1"), rel=1e-4)


COUNTED = """
import sys
from train.cli import main
from train.labelled import PlainViews

load, loaded = PlainViews.load, []
PlainViews.load = lambda views, rows, epoch: loaded.extend(rows.tolist()) or load(views, rows, epoch)
try:
    main()
finally:
    print("loaded", sorted(loaded), file=sys.stderr)
"""


@pytest.mark.slow
def test_processes_share_the_images_of_an_evaluation(colours: Path, tmp_path: Path) -> None:
    """Fifteen images in batches of four, of which the last of a batch, another rank's, and a whole share are broken."""
    run(1, tmp_path, ["finetune", *itertools.chain(*OPTIONS.items()), "--data", str(colours), "--out", "model"])
    broken = [path for place, path in enumerate(sorted(colours.glob("test/*/*.png"))) if place in (3, 6, 7)]
    for path in broken:
        path.write_bytes(b"")
    argv = ["evaluate", "--model", "model", "--data", str(colours), "--batch-size", "4", "--device", "cpu", "--json",
            "--precision", "fp32", "--html", "page.html", "--overwrite"]  # fmt: skip
    alone, *shared = [rank for number in (1, 2)
                      for rank in run_ranks(COUNTED, argv, folder=tmp_path, ranks=number)]  # fmt: skip
    assert json.loads(shared[0].stdout) == json.loads(alone.stdout)
    assert json.loads(alone.stdout)["num_skipped"] == 3
    assert [rank.stderr.count("warning: skipped") for rank in (alone, *shared)] == [3, 3, 0]
    loaded = [json.loads(rank.stderr.rpartition("loaded ")[2]) for rank in (alone, *shared)]
    assert sorted(loaded[1] + loaded[2]) == loaded[0] == list(range(15))


@pytest.mark.slow
def test_processes_match_classes_by_name_alike(colours: Path, tmp_path: Path) -> None:
    run(1, tmp_path, ["finetune", *itertools.chain(*OPTIONS.items()), "--data", str(colours), "--out", "model"])
    write_in_other_order(tmp_path / "model", tmp_path / "other", [2, 0, 1])
    argv = ["--data", str(colours), "--batch-size", "4", "--device", "cpu", "--json", "--precision", "fp32"]
    own = json.loads(run(1, tmp_path, ["evaluate", "--model", "model", *argv]))
    other = json.loads(run(2, tmp_path, ["evaluate", "--model", "other", *argv]))
    assert other == {**own, "matched_by_name": ["other"]}


@pytest.mark.slow
def test_what_any_process_skips_is_counted(colours: Path, tmp_path: Path) -> None:
    for path in sorted(colours.glob("train/*/*.png"))[::5]:
        path.write_bytes(b"")
    argv = ["finetune", *itertools.chain(*OPTIONS.items()), "--data", str(colours), "--json"]
    counts = [json.loads(run(number, tmp_path, [*argv, "--out", str(number)]))["num_skipped"] for number in (1, 2)]
    assert counts == [5, 5]


@pytest.mark.slow
def test_processes_share_the_masks_of_an_evaluation(scenes: Path, tmp_path: Path) -> None:
    """Five images in batches of three: a rank's shares differ in size."""
    options = itertools.chain(*OPTIONS.items(), TASKS["segmentation"], ("--data", str(scenes), "--out", "model"))
    run(1, tmp_path, ["finetune", *options])
    argv = ["evaluate", "--model", "model", "--data", str(scenes), "--batch-size", "3", "--device", "cpu", "--json"]
    figures: list[dict[str, Any]] = [json.loads(run(number, tmp_path, [*argv, "--precision", "fp32"]))
                                     for number in (1, 2)]  # fmt: skip
    assert figures[0] == figures[1]
    assert figures[0]["num_images"] == 5


STOPPED_RANK = """
import os, signal
from train.cli import main
from train.labelled import TrainingViews

load, loads = TrainingViews.load, []
def load_and_stop(views, rows, epoch):
    loads.append(rows)
    if len(loads) == 5 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.{name})
    return load(views, rows, epoch)
TrainingViews.load = load_and_stop
main()
"""


def stopped_ranks(name: str, colours: Path, folder: Path) -> list[Ended]:
    """Two of a training whose second one gets a signal while it loads its fifth batch."""
    argv = ["finetune", *itertools.chain(*OPTIONS.items()), "--log-every", "4", "--data", str(colours), "--quiet"]
    run(2, folder, [*argv, "--out", "whole"])
    ended = run_ranks(STOPPED_RANK.format(name=name), [*argv, "--out", "part"], folder=folder)
    run(2, folder, [*argv, "--out", "part", "--resume"])
    return ended


@pytest.mark.slow
def test_a_stop_of_any_process_is_one_line_and_resumes_exactly(colours: Path, tmp_path: Path) -> None:
    ranks = stopped_ranks("SIGTERM", colours, tmp_path)
    assert [rank.returncode for rank in ranks] == [143, 143]
    assert [rank.stderr for rank in ranks] == [
        "train: stopped at step 5 of 6: type the same command with --resume to go on\n", ""]  # fmt: skip
    assert losses(tmp_path / "part") == losses(tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_process_is_one_line_and_resumes_exactly(colours: Path, tmp_path: Path) -> None:
    ranks = stopped_ranks("SIGKILL", colours, tmp_path)
    assert [rank.returncode for rank in ranks] == [1, -signal.SIGKILL]
    (line,) = ranks[0].stderr.splitlines()
    assert line.startswith("train: another process that torchrun started has ended")
    assert "--resume" in line
    assert losses(tmp_path / "part") == losses(tmp_path / "whole")


LAUNCHER = """
import os
for rank in range(2):
    if os.fork() == 0:
        os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
                          MASTER_PORT="{port}")
        from train.cli import main
        main()
while True:
    os.wait()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_processes_whose_launcher_is_killed_save_and_end(colours: Path, tmp_path: Path) -> None:
    options = OPTIONS | {"--steps": "1000000"}
    argv = ["finetune", *itertools.chain(*options.items()), "--data", str(colours), "--out", "run", "--quiet"]
    code = LAUNCHER.format(port=free_port())
    with Forked(code, argv, folder=tmp_path, environment=os.environ) as launcher:
        wait_until(lambda: (tmp_path / "run" / "metrics.jsonl").exists())
        os.kill(launcher.pid, signal.SIGKILL)
        try:
            wait_until(lambda: not session_members(launcher.pid))
            assert "type the same command with --resume" in launcher.ended().stderr
            assert list((tmp_path / "run" / "checkpoints").rglob("last.pt"))
        finally:
            for left in session_members(launcher.pid):
                os.kill(left, signal.SIGKILL)


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS / 2
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
