"""`--device a,b`: a teacher process for each device; tested with processors, on which the same processes run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import session_members
from tiny_builds import ROWS_ONLY, build_argv, digest_of, run

from reinforce.engine.options import EngineOptions
from reinforce.errors import BuildError, UsageError
from reinforce.teacher import choose_devices

NUM_IMAGES = 400

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@ROWS_ONLY
class TestTwoTeachers:
    @pytest.mark.slow
    def test_they_give_the_bytes_of_one(self, teacher: Path, images: Path) -> None:
        run(teacher, images, out="one.zarr")
        assert run(teacher, images, device="cpu,cpu").status == "complete"
        assert digest_of(Path("out.zarr")) == digest_of(Path("one.zarr"))
        lines = [json.loads(line) for line in Path("out.zarr.runs.jsonl").read_text().splitlines()]
        (planned,), (whole,) = lines[:1], map(json.loads, Path("one.zarr.runs.jsonl").read_text().splitlines())
        assert planned["units"] == 0
        assert sum(line["units"] for line in lines[1:]) == whole["units"]

    @pytest.mark.slow
    def test_what_one_of_them_raises_is_the_error(self, teacher: Path, images: Path) -> None:
        """Another environment is seen by whoever computes; it reaches the user as the error that it is."""
        run(teacher, images, shard="1/2")
        plan = Path("out.zarr/plan.json")
        plan.write_bytes(plan.read_bytes().replace(b'"attention":"fused"', b'"attention":"plain"'))
        with pytest.raises(BuildError, match="attention plain -> fused"):
            run(teacher, images, resume=True, device="cpu,cpu")

    @pytest.mark.long
    @pytest.mark.parametrize("workers", [0, 1])
    def test_one_of_them_is_killed(self, workers: int, teacher: Path, images: Path) -> None:
        run(teacher, images, out="one.zarr")
        argv = [*build_argv(teacher, images, workers), "--device", "cpu,cpu"]
        process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, start_new_session=True)
        while not list(Path("out.zarr/claims").glob("*.json")):
            assert process.poll() is None
            time.sleep(0.001)
        os.kill(max(children(process.pid)), signal.SIGKILL)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 1
        assert err.count("\n") == 1
        assert "the teacher process on cpu was killed" in err
        deadline = time.monotonic() + 20
        while session_members(process.pid):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        run(teacher, images, resume=True)
        assert digest_of(Path("out.zarr")) == digest_of(Path("one.zarr"))


def children(pid: int) -> list[int]:
    """Those that compute: multiprocessing's resource tracker is none of them."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]


class TestNames:
    def test_one_is_a_list_of_one(self) -> None:
        assert choose_devices("cpu") == ["cpu"]
        assert choose_devices("auto") in (["cpu"], ["cuda"])

    def test_several(self) -> None:
        assert choose_devices("cpu, cpu") == ["cpu", "cpu"]

    @pytest.mark.parametrize("names", ["cuda:all", "cuda:0,cuda:1", "cpu,tpu", "cpu,"])
    def test_what_is_not_there(self, names: str, no_gpu: None) -> None:
        with pytest.raises(UsageError, match="--device"):
            choose_devices(names)

    @pytest.fixture
    def no_gpu(self) -> None:
        import torch

        if torch.cuda.is_available():
            pytest.skip("has a GPU")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ray_address": "auto"}, "--engine ray"),
        ({"engine": "ray", "device": "cpu,cpu"}, "--device auto, cpu or cuda"),
        ({"engine": "ray", "device": "cuda:1"}, "--device auto, cpu or cuda"),
        ({"engine": "ray", "ray_address": "ray://head:10001"}, "HOST:PORT"),
        ({"shard": "3/2"}, "i/n"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
)
def test_options_that_do_not_go_together(options: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        EngineOptions(**options)  # type: ignore[arg-type]
