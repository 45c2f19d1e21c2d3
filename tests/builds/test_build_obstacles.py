"""Builds on full disks, without permission, with killed workers, stopped, two at once: real, and resumed exactly."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forked import Forked
from processes import session_members
from tiny_builds import LICENCE, ROWS_ONLY, VIEWS, digest_of, largest_object, run

from reinforce.cli import command
from reinforce.command import run_group
from reinforce.whole_file import TEMPORARY_PREFIX

IS_ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
NOBODY = 65534


@pytest.fixture(scope="module")
def reference(teacher: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of a store that met no obstacle."""
    return built_apart(tmp_path_factory.mktemp("reference"), teacher, images)


def built_apart(folder: Path, teacher: Path, images: Path, **changes: int) -> dict[str, str]:
    """Digests of a store that is built in a folder with a home of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REINFORCE_HOME", str(folder / "home"))
        run(teacher, images, out=str(folder / "out.zarr"), **changes)
    return digest_of(folder / "out.zarr")


def build_argv(teacher: Path, images: Path, *more: str, workers: int = 0) -> list[str]:
    return ["build", "--teacher", str(teacher), "--transfer", str(images), "--views", str(VIEWS), "--batch-size", "16",
            "--out", "out.zarr", "--workers", str(workers), "--json", "--quiet", "--data-license", LICENCE,
            *more]  # fmt: skip


def call(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status and stderr of the command, in this process."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        status = run_group(command, arguments)
    finally:
        signal.signal(signal.SIGTERM, before)
    return status, capsys.readouterr().err


def assert_one_line(err: str, *words: str) -> None:
    assert err.count("\n") == 1, err
    assert err.startswith("reinforce: ")
    assert "Traceback" not in err
    for word in words:
        assert word in err


def assert_nothing_partial(store: Path, reference: dict[str, str]) -> None:
    """Whatever objects there are, they are the finished store's, or the build's own."""
    for name, digest in digest_of(store).items():
        if not name.startswith(("units/", "claims/")):
            assert digest == reference[name], name
    assert not list(store.rglob(f"{TEMPORARY_PREFIX}*"))


# full disks


@contextlib.contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """Files over this size cannot be written (EFBIG): a full disk that needs no privileges."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


@ROWS_ONLY
class TestFilesThatCannotGrow:
    @pytest.mark.parametrize("num_bytes", [0, 100, 300, 1000, 3000, 10_000, 30_000])
    def test_one_line_and_then_equal_bytes(
        self, num_bytes: int, reference: dict[str, str], teacher: Path, images: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with largest_file(num_bytes):
            status, err = call(build_argv(teacher, images, "--resume"), capsys)
        if status:
            assert status == 1
            assert_one_line(err, "cannot write", "File too large", "--resume")
        assert_nothing_partial(Path("out.zarr"), reference)
        status, _ = call(build_argv(teacher, images, "--resume"), capsys)
        assert status == 0
        assert digest_of(Path("out.zarr")) == reference


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """The working folder becomes a file system of its own; call it with options such as size=1m to change its size."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if not IS_ROOT or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a file system takes privileges")
    home = Path.cwd()
    os.chdir(disk)
    try:
        yield lambda options: subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True) and None
    finally:
        os.chdir(home)
        subprocess.run(["umount", str(disk)], check=True)


class TestFullDisks:
    def stops_and_goes_on(
        self, resize: Callable[[str], None], size: str, reference: dict[str, str], arguments: list[str],
        capsys: pytest.CaptureFixture[str],
    ) -> int:  # fmt: skip
        """The exit status on the small disk, after which there is room again."""
        resize(size)
        status, err = call(arguments, capsys)
        if status:
            assert status == 1
            assert_one_line(err.splitlines(keepends=True)[-1], "No space left on device", "--resume")
        assert_nothing_partial(Path("out.zarr"), reference)
        resize("size=8m,nr_inodes=1000")
        assert call(arguments, capsys)[0] == 0
        assert digest_of(Path("out.zarr")) == reference
        return status

    @pytest.mark.parametrize("num_files", [2, 4, 12, 24, 40, 46, 50, 54, 57, 60, 200])
    def test_at_some_of_its_files(
        self, num_files: int, small_disk: Callable[[str], None], reference: dict[str, str], teacher: Path, images: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        arguments = build_argv(teacher, images, "--resume")
        status = self.stops_and_goes_on(small_disk, f"nr_inodes={num_files}", reference, arguments, capsys)
        assert status == (0 if num_files == 200 else 1)

    @pytest.mark.long
    def test_at_each_of_its_files(
        self, small_disk: Callable[[str], None], reference: dict[str, str], teacher: Path, images: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        arguments, num_files = build_argv(teacher, images, "--resume"), 2
        while self.stops_and_goes_on(small_disk, f"nr_inodes={num_files}", reference, arguments, capsys):
            shutil.rmtree("out.zarr")
            num_files += 1
        assert num_files > len(reference)

    @pytest.mark.parametrize("when", ["plan.json", "probes.json", "claims", "units"])
    def test_while_it_writes(
        self, when: str, small_disk: Callable[[str], None], reference: dict[str, str], teacher: Path, images: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        with something_fills_the_disk(Path("out.zarr") / when):
            status, err = call(build_argv(teacher, images, "--resume"), capsys)
        if status:
            assert status == 1
            assert_one_line(err.splitlines(keepends=True)[-1], "No space left on device", "--resume")
        assert_nothing_partial(Path("out.zarr"), reference)
        Path("filler").unlink(missing_ok=True)
        assert call(build_argv(teacher, images, "--resume"), capsys)[0] == 0
        assert digest_of(Path("out.zarr")) == reference

    def test_it_does_not_begin_what_cannot_fit(
        self, small_disk: Callable[[str], None], teacher: Path, images: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        small_disk("size=64k")
        status, err = call(build_argv(teacher, images), capsys)
        assert status == 1
        assert_one_line(err, "the store needs", "are free")
        assert not Path("out.zarr").exists()


@contextlib.contextmanager
def something_fills_the_disk(once_there_is: Path) -> Iterator[None]:
    def fill() -> None:
        while not once_there_is.exists() and not over.is_set():
            time.sleep(0.0005)
        with contextlib.suppress(OSError), Path("filler").open("wb", buffering=0) as file:
            while not over.is_set():
                file.write(bytes(4096))

    over = threading.Event()
    thread = threading.Thread(target=fill)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no /dev/full")
def test_a_store_is_good_without_its_run_log(
    reference: dict[str, str], teacher: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("out.zarr.runs.jsonl").symlink_to("/dev/full")
    status, err = call(build_argv(teacher, images), capsys)
    assert status == 0
    assert_one_line(err, "out.zarr.runs.jsonl misses this run", "No space left on device")
    assert digest_of(Path("out.zarr")) == reference


# permission


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder that belongs to whom `unprivileged` is."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name).resolve()
        place.chmod(0o755)
        if IS_ROOT:
            os.chown(place, NOBODY, NOBODY)
        monkeypatch.chdir(place)
        monkeypatch.setenv("REINFORCE_HOME", str(place / "home"))
        yield place
        for folder in [place, *(path for path in place.rglob("*") if path.is_dir())]:
            folder.chmod(0o755)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """root may read and write everything, so it becomes somebody else."""
    if not IS_ROOT:
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@contextlib.contextmanager
def mode(path: Path, bits: int) -> Iterator[None]:
    before = path.stat().st_mode
    path.chmod(bits)
    try:
        yield
    finally:
        if path.exists():
            path.chmod(before)


@pytest.fixture(scope="module")
def public(images: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """Teacher and images where anybody may read them."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        shutil.copytree(teacher, Path(name) / teacher.name)
        shutil.copytree(images, Path(name) / images.name)
        yield Path(name) / teacher.name, Path(name) / images.name


@ROWS_ONLY
class TestPermissionDenied:
    @pytest.mark.parametrize(
        ("path", "bits", "words"),
        [
            (".", 0o555, "cannot write plan.json"),
            ("out.zarr", 0o555, "cannot write"),
            ("out.zarr", 0o000, "out.zarr: Permission denied"),
            ("out.zarr/claims", 0o555, "cannot write claims/"),
            ("out.zarr/units", 0o555, "cannot write units/"),
            ("out.zarr/targets/{array}/c/0", 0o555, "cannot write targets/{array}/c/0/"),
            ("out.zarr/samples", 0o000, "cannot read samples/"),
            ("out.zarr/plan.json", 0o000, "cannot read plan.json"),
            ("out.zarr/codec", 0o000, ""),
        ],
        ids=lambda value: oct(value) if isinstance(value, int) else value,
    )
    def test_one_line_and_then_equal_bytes(
        self, path: str, bits: int, words: str, place: Path, public: tuple[Path, Path], reference: dict[str, str],
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        arguments = build_argv(*public, "--resume")
        array = {name.split("/")[1] for name in reference if name.startswith("targets/")} & {"values", "codes"}
        path, words = (text.replace("{array}", next(iter(array), "")) for text in (path, words))
        with unprivileged():
            if path != ".":
                assert call([*arguments, "--shard", "1/2"], capsys)[0] == 0
            if (place / path).exists():
                with mode(place / path, bits):
                    status, err = call(arguments, capsys)
                assert status == 1
                assert_one_line(err, words, "Permission denied")
            assert call(arguments, capsys)[0] == 0
        assert digest_of(Path("out.zarr")) == reference

    def test_what_cannot_be_read_is_not_damaged(
        self, place: Path, public: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with unprivileged():
            assert call(build_argv(*public), capsys)[0] == 0
            unit = largest_object(place / "out.zarr")
            name = unit.relative_to(place / "out.zarr").as_posix()
            before = digest_of(Path("out.zarr"))
            with mode(unit, 0):
                status, err = call(["verify", "out.zarr", "--level", "full", "--repair"], capsys)
                assert status == 1
                assert_one_line(err, f"cannot read {name} in out.zarr: Permission denied")
        assert digest_of(Path("out.zarr")) == before

    def test_an_old_store_that_cannot_be_removed(
        self, place: Path, public: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        with unprivileged():
            assert call(build_argv(*public), capsys)[0] == 0
            with mode(place / "out.zarr/targets", 0o555):
                status, err = call([*build_argv(*public), "--overwrite"], capsys)
        assert status == 1
        assert_one_line(err, "cannot remove out.zarr: Permission denied")


# killed and terminated

MANY_VIEWS = 60


@pytest.fixture(scope="module")
def longer(teacher: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of a store whose build takes long enough to be met in the middle."""
    folder = tmp_path_factory.mktemp("longer")
    return built_apart(folder, teacher, images, views=MANY_VIEWS, unit_budget_mb=1)


def longer_argv(teacher: Path, images: Path, workers: int) -> list[str]:
    more = ["--views", str(MANY_VIEWS), "--unit-budget-mb", "1", "--resume"]
    return build_argv(teacher, images, *more, workers=workers)


COMMAND = """
import signal
from reinforce.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs begin with ignored
main()
"""


@contextlib.contextmanager
def started(arguments: list[str]) -> Iterator[Forked]:
    """The command, once it is in the middle of its units."""
    with Forked(COMMAND, arguments, folder=Path.cwd(), environment=os.environ) as process:
        wait_for(lambda: any(Path("out.zarr/units").glob("*.json")) or process.has_ended)
        yield process


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
class TestKilledAndTerminated:
    def ends(self, process: Forked, status: int, *words: str) -> None:
        done = process.ended()
        assert done.returncode == status, done.stderr
        assert_one_line(done.stderr, "--resume", *words)
        wait_for(lambda: not session_members(process.pid))

    def goes_on(self, teacher: Path, images: Path, longer: dict[str, str]) -> None:
        assert any(Path("out.zarr/units").glob("*.json"))
        run(teacher, images, resume=True, views=MANY_VIEWS, unit_budget_mb=1)
        assert digest_of(Path("out.zarr")) == longer

    @ROWS_ONLY
    def test_killed_workers(
        self, longer: dict[str, str], teacher: Path, images: Path, request: pytest.FixtureRequest
    ) -> None:
        for number in range(30 if request.config.getoption("--long") else 1):
            with started(longer_argv(teacher, images, workers=2)) as process:
                workers = session_members(process.pid, "spawn_main")
                assert len(workers) == 2
                time.sleep(0.02 * (number % 10))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(workers[number % 2], signal.SIGKILL)
                self.ends(process, 1, "a decoding process was killed", "--workers")
            self.goes_on(teacher, images, longer)
            shutil.rmtree("out.zarr")

    @ROWS_ONLY
    @pytest.mark.parametrize(
        ("how", "workers"),
        [
            pytest.param(signal.SIGTERM, 0, id="SIGTERM-0"),
            pytest.param(signal.SIGTERM, 2, id="SIGTERM-2"),
            pytest.param(signal.SIGINT, 0, id="SIGINT-0"),
            pytest.param(signal.SIGINT, 2, id="SIGINT-2", marks=pytest.mark.long),
        ],
    )
    def test_a_stopped_builder(
        self, how: signal.Signals, workers: int, longer: dict[str, str], teacher: Path, images: Path
    ) -> None:
        with started(longer_argv(teacher, images, workers)) as process:
            os.killpg(process.pid, how)  # as a terminal and most schedulers do
            self.ends(process, 130, "stopped with", "units done")
        done = {path.name for path in Path("out.zarr/units").glob("*.json")}
        assert {path.name for path in Path("out.zarr/claims").glob("*.json")} <= done
        self.goes_on(teacher, images, longer)


# two at once

RACER = """
import json, os, sys
import torch
from reinforce.cli import command
from reinforce.command import run_group
import reinforce.build, reinforce.planning, reinforce.teacher, reinforce.engine.local

torch.set_num_threads(1)
print("ready", flush=True)
for line in sys.stdin:
    folder, os.environ["REINFORCE_HOME"], arguments = json.loads(line)
    os.chdir(folder)
    print(run_group(command, arguments), flush=True)
"""


class Racer:
    """A process that runs one command after another, each when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.errors = folder / f"racer{secrets.token_hex(4)}.txt"
        with self.errors.open("w") as errors:
            pipe = subprocess.PIPE
            self.process = subprocess.Popen([sys.executable, "-c", RACER], stdin=pipe, stdout=pipe, stderr=errors,
                                            text=True)  # fmt: skip

    def say(self, arguments: list[str]) -> None:
        """Begin, in the working folder of here."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([str(Path.cwd()), os.environ["REINFORCE_HOME"], arguments]) + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        """The next line that is "ready" or an exit status; what the command prints is passed over."""
        assert self.process.stdout is not None
        while (line := self.process.stdout.readline().strip()) and line != "ready" and not line.isdigit():
            pass
        return line


@pytest.fixture(scope="module")
def racers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Racer, Racer]]:
    """Two processes for all of the module's races: what they import would take longer than the builds."""
    folder = tmp_path_factory.mktemp("racers")
    both = Racer(folder), Racer(folder)
    assert [racer.hear() for racer in both] == ["ready", "ready"], [racer.errors.read_text() for racer in both]
    yield both
    for racer in both:
        racer.process.communicate(timeout=60)
    assert not any("Traceback" in racer.errors.read_text() for racer in both)


def race(racers: tuple[Racer, Racer], rounds: int, *ways: list[str]) -> Iterator[tuple[list[int], Path]]:
    """Exit statuses and store of every round."""
    for number in range(rounds):
        store = f"round{number}.zarr"
        for racer, way in zip(racers, ways, strict=True):
            racer.say([*way, "--out", store])
        yield [int(racer.hear()) for racer in racers], Path(store)


def arguments_of(teacher: Path, images: Path, *more: str, workers: int = 0) -> list[str]:
    """Without --out."""
    return [*build_argv(teacher, images, workers=workers)[:9], "--workers", str(workers), "--json", "--quiet",
            "--data-license", LICENCE, *more]  # fmt: skip


@pytest.mark.slow
@ROWS_ONLY
class TestTwoAtOnce:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (["--resume"], ["--resume"]),
            ([], []),
            (["--shard", "1/2"], ["--shard", "2/2"]),
            (["--resume"], ["--shard", "1/2"]),
        ],
        ids=" ".join,
    )
    def test_they_share_the_work(
        self, one: list[str], other: list[str], reference: dict[str, str], teacher: Path, images: Path,
        racers: tuple[Racer, Racer], request: pytest.FixtureRequest,
    ) -> None:  # fmt: skip
        rounds = 100 if request.config.getoption("--long") else 4
        ways = [arguments_of(teacher, images, *way) for way in (one, other)]
        for statuses, store in race(racers, rounds, *ways):
            assert set(statuses) <= ({0} if one else {0, 2})  # a late plain start is told to type --resume
            if digest_of(store) != reference:
                assert run(teacher, images, out=str(store), resume=True).status == "complete"
            assert digest_of(store) == reference
            shutil.rmtree(store)

    def test_with_workers(
        self, reference: dict[str, str], teacher: Path, images: Path, racers: tuple[Racer, Racer]
    ) -> None:
        way = arguments_of(teacher, images, "--resume", workers=2)
        for statuses, store in race(racers, 1, way, way):
            assert statuses == [0, 0]
            assert digest_of(store) == reference

    def test_a_store_is_not_replaced_under_its_builder(
        self, longer: dict[str, str], teacher: Path, images: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with started(longer_argv(teacher, images, workers=0)) as process:
            os.kill(process.pid, signal.SIGSTOP)  # it lives, and is not done before it is looked at
            status, err = call([*build_argv(teacher, images), "--overwrite"], capsys)
            os.kill(process.pid, signal.SIGCONT)
            assert status == 1
            assert_one_line(err, f"is being built by process {process.pid}", "stop that first")
            assert process.ended().returncode == 0
        assert digest_of(Path("out.zarr")) == longer
