"""`--engine ray` on a real cluster of two nodes: the bytes of a build without it, whatever is lost on the way."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_builds import BAD, NUM_IMAGES, ROWS_ONLY, VIEWS, build_argv, config, digest_of, make_images, run

pytest.importorskip("ray")
if sys.platform != "linux":
    pytest.skip("looks for processes in /proc", allow_module_level=True)

from ray.cluster_utils import Cluster
from ray_clusters import (
    NODE,
    actors,
    cluster_of_two,
    connected_to,
    go_on,
    hold_in_the_middle,
    open_claims,
    remove_in_the_middle,
    wait_for,
    with_two_nodes,
)

from reinforce.engine.builder import BuildTask
from reinforce.engine.ray_actor import ActorTask, UnitActor
from reinforce.engine.ray_cluster import ActorSize
from reinforce.errors import BuildError, MissingExtraError, UsageError
from reinforce.job import Owner
from reinforce.store import LocalObjects

MANY = 400
"""Images, so that there is a middle."""


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[Cluster]:
    with cluster_of_two() as cluster:
        yield cluster


@pytest.fixture
def cluster(shared_cluster: Cluster) -> Iterator[Cluster]:
    with connected_to(shared_cluster) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("transfer") / "many", MANY)


@pytest.fixture(scope="module")
def reference(teacher: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A store of the local engine."""
    folder = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REINFORCE_HOME", str(folder / "home"))
        run(teacher, images, out=str(folder / "out.zarr"))
    return digest_of(folder / "out.zarr")


@contextlib.contextmanager
def meanwhile(act: Callable[[], object]) -> Iterator[None]:
    """Beside what is done here; fails where it does."""
    failures: list[BaseException] = []

    def act_and_tell() -> None:
        try:
            act()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=act_and_tell)
    thread.start()
    yield
    thread.join()
    assert not failures


@ROWS_ONLY
@pytest.mark.slow
def test_a_node_is_removed_in_the_middle(
    cluster: Cluster, reference: dict[str, str], teacher: Path, images: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its units go to the other one at once, though a unit that it has claimed is claimed still."""
    with meanwhile(lambda: remove_in_the_middle(cluster, Path("out.zarr"))):
        summary = run(teacher, images, engine="ray", quiet=False)
    assert summary.status == "complete"
    assert digest_of(Path("out.zarr")) == reference
    out, err = capfd.readouterr()
    assert out == ""
    (lost,) = [line for line in err.splitlines() if "lost" in line]
    assert lost.startswith("build: lost an actor (")
    done = sum(json.loads(line)["units"] for line in Path("out.zarr.runs.jsonl").read_text().splitlines())
    num_views = VIEWS * (MANY + len(BAD))
    assert f"build: 100% ({num_views}/{num_views} views)" in err
    assert done in (summary.units_done, summary.units_done - 1)  # the last one of the lost actor may not be told


@pytest.mark.slow
class TestWithoutACluster:
    @pytest.mark.parametrize(
        ("address", "words"),
        [("127.0.0.1:1", "no Ray cluster answers at 127.0.0.1:1"), ("nonsense", "HOST:PORT"), (":0x", "HOST:PORT")],
    )
    def test_one_line_before_anything_is_done(
        self, address: str, words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        from reinforce.cli import command
        from reinforce.command import run_group

        make_images(tmp_path / "images", 4)
        argv = ["build", "--teacher", "none", "--transfer", str(tmp_path / "images"), "--engine", "ray"]
        before = signal.getsignal(signal.SIGTERM)
        assert run_group(command, [*argv, "--ray-address", address]) == 2
        signal.signal(signal.SIGTERM, before)
        out, err = capfd.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert words in err


    def test_ray_is_not_installed(self, monkeypatch: pytest.MonkeyPatch, teacher: Path, images: Path) -> None:
        monkeypatch.setitem(sys.modules, "ray", None)
        with pytest.raises(MissingExtraError, match=r"--engine ray needs ray: pip install 'reinforce-vision\[ray\]'"):
            run(teacher, images, engine="ray")
        assert not Path("out.zarr").exists()


@ROWS_ONLY
@pytest.mark.parametrize("there", ["nothing", "another store"])
def test_a_machine_that_does_not_see_the_store(there: str, teacher: Path, images: Path, tmp_path: Path) -> None:
    """As an actor there, but without a machine of its own."""
    if there == "another store":
        run(teacher, images, limit=8)
    build = BuildTask(config=config(teacher, images), objects=LocalObjects("out.zarr"), owner=Owner.here())
    task = ActorTask(units=build, workers=0, request_sha256="0" * 64, folder=str(tmp_path), home=str(tmp_path / "home"))
    answer = UnitActor().open(task)
    assert isinstance(answer, BuildError)
    assert str(answer).startswith(f"on {socket.gethostname()}: out.zarr is not what the build has begun")


HEAD, GPUS, FEW_CORES = {"CPU": 4.0}, {"CPU": 64.0, "GPU": 8.0}, {"CPU": 16.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("machines", "device", "threads", "asked", "expected", "room"),
    [
        ([HEAD], "cpu", 1, -1, (2, 3), 1),
        ([HEAD, HEAD], "cpu", 1, 0, (0, 1), 8),
        ([HEAD], "cpu", 32, -1, (1, 4), 1),
        ([HEAD, GPUS, GPUS], "cuda", 32, -1, (7, 8), 16),
        ([GPUS, FEW_CORES], "cuda", 32, -1, (3, 4), 12),
        ([GPUS], "cuda", 32, 30, (30, 8), 8),
        ([GPUS], "cuda", 32, 0, (0, 1), 8),
    ],
)
def test_how_many_actors_machines_hold(
    machines: list[dict[str, float]], device: str, threads: int, asked: int, expected: tuple[int, int], room: int
) -> None:
    size = ActorSize.choose(machines, device, threads, asked, num_views=10**6)
    assert (size.workers, size.num_cpus) == expected
    assert size.room(machines) == room


def test_a_cluster_without_the_device() -> None:
    with pytest.raises(UsageError, match="no GPU"):
        ActorSize.choose([HEAD], "cuda", 1, -1, 10**6)


def command_line(cluster: Cluster, argv: list[str], *more: str) -> list[str]:
    """As a terminal starts it: a background job of a shell would inherit that Ctrl-C is ignored."""
    heeded = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    program = f"{heeded}from reinforce.cli import main; main()"
    return [argv[0], "-c", program, *argv[3:], "--engine", "ray", "--ray-address", cluster.address, *more]


def assert_one_line(err: str, *words: str) -> None:
    assert err.count("\n") == 1, err
    assert err.startswith("reinforce: ")
    for word in words:
        assert word in err


def no_actor_is_left() -> None:
    wait_for(lambda: not actors(), 60)


@ROWS_ONLY
@pytest.mark.long
class TestCommands:
    """The command line as a process of its own, on the shared cluster."""

    @pytest.fixture
    def cluster(self, shared_cluster: Cluster) -> Cluster:
        return with_two_nodes(shared_cluster)

    @pytest.mark.parametrize("workers", [0, 2])
    def test_equal_bytes_and_one_json_object(
        self, workers: int, cluster: Cluster, reference: dict[str, str], teacher: Path, images: Path
    ) -> None:
        argv = command_line(cluster, build_argv(teacher, images, workers))
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert json.loads(done.stdout)["status"] == "complete"
        assert digest_of(Path("out.zarr")) == reference
        no_actor_is_left()

    def test_an_actor_is_killed_in_the_middle(
        self, cluster: Cluster, reference: dict[str, str], teacher: Path, images: Path
    ) -> None:
        process = subprocess.Popen(command_line(cluster, build_argv(teacher, images)))
        held = hold_in_the_middle(Path("out.zarr"))
        os.kill(held[0], signal.SIGKILL)
        go_on(held)
        assert process.wait(180) == 0
        assert digest_of(Path("out.zarr")) == reference

    @pytest.mark.parametrize("engine", ["local", "ray"])
    def test_the_driver_is_killed_in_the_middle(
        self, engine: str, cluster: Cluster, reference: dict[str, str], teacher: Path, images: Path
    ) -> None:
        process = subprocess.Popen(command_line(cluster, build_argv(teacher, images)))
        held = hold_in_the_middle(Path("out.zarr"))
        process.kill()
        process.wait()
        go_on(held)
        no_actor_is_left()
        assert open_claims(Path("out.zarr"))
        again = command_line(cluster, build_argv(teacher, images)) if engine == "ray" else build_argv(teacher, images)
        assert subprocess.run(again, check=False).returncode == 0
        assert digest_of(Path("out.zarr")) == reference

    @pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
    def test_a_stopped_driver(
        self, how: signal.Signals, cluster: Cluster, reference: dict[str, str], teacher: Path, images: Path
    ) -> None:
        argv = command_line(cluster, build_argv(teacher, images))
        process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
        held = hold_in_the_middle(Path("out.zarr"))
        process.send_signal(how)
        go_on(held)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert_one_line(err, "stopped with", "--resume")
        no_actor_is_left()
        assert not open_claims(Path("out.zarr"))
        assert subprocess.run(argv, check=False).returncode == 0
        assert digest_of(Path("out.zarr")) == reference

    def test_an_image_that_has_changed(self, cluster: Cluster, teacher: Path, tmp_path: Path) -> None:
        images = make_images(tmp_path / "mine", NUM_IMAGES)
        run(teacher, images, shard="1/2")
        shutil.copy(images / "b" / "001.png", images / "a" / "002.png")
        argv = command_line(cluster, build_argv(teacher, images))
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert_one_line(done.stderr, "a/002.png")
        no_actor_is_left()

    def test_another_environment(self, cluster: Cluster, teacher: Path, images: Path) -> None:
        run(teacher, images, shard="1/2")
        plan = Path("out.zarr/plan.json")
        plan.write_bytes(plan.read_bytes().replace(b'"attention":"fused"', b'"attention":"plain"'))
        argv = command_line(cluster, build_argv(teacher, images))
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert_one_line(done.stderr, "reinforce: on ", "attention plain -> fused", "--mixed-environment")
        assert subprocess.run([*argv, "--mixed-environment"], check=False).returncode == 0

    def test_a_full_disk(self, cluster: Cluster, teacher: Path, images: Path, tmp_path: Path) -> None:
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=62", "tmpfs", str(disk)]
        if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("mounting a file system takes privileges")
        try:
            argv = command_line(cluster, build_argv(teacher, images), "--out", str(disk / "out.zarr"))
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            assert done.returncode == 1
            assert "No space left on device" in done.stderr.splitlines()[-1]
            assert "--resume" in done.stderr.splitlines()[-1]
            subprocess.run(["mount", "-o", "remount,nr_inodes=1000", str(disk)], check=True)
            assert subprocess.run(argv, check=False).returncode == 0
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    def test_a_node_that_joins_in_the_middle_takes_part(
        self, cluster: Cluster, reference: dict[str, str], teacher: Path, images: Path
    ) -> None:
        process = subprocess.Popen(command_line(cluster, build_argv(teacher, images)))
        held = hold_in_the_middle(Path("out.zarr"))
        node = cluster.add_node(**NODE)
        try:
            wait_for(lambda: len(open_claims(Path("out.zarr"))) == 3)
            go_on(held)
            assert process.wait(180) == 0
        finally:
            cluster.remove_node(node)
        assert digest_of(Path("out.zarr")) == reference

    def test_a_cluster_of_its_own(self, reference: dict[str, str], teacher: Path, images: Path) -> None:
        argv = [*build_argv(teacher, images), "--engine", "ray", "--ray-address", "local"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, env=os.environ | {"RAY_ADDRESS": ""})
        assert (done.returncode, done.stderr) == (0, "")
        assert digest_of(Path("out.zarr")) == reference
