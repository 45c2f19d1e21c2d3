"""`python -c CODE` without the seconds that importing torch takes: a fork of a server that has imported it, once.

Each process is a real one, with its own memory, signals, working folder and exit status; only the end of the
interpreter (`atexit`) is not that of a new one. What looks at a start, or at what is imported, starts an interpreter.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["timm", "torch.distributed", "torchvision", "train.supervised", "reinforce.build",
                                 "reinforce.planning", "reinforce.teacher"])  # fmt: skip
TIMEOUT_SECONDS = 120


@dataclass(frozen=True)
class Ended:
    """What a process left."""

    returncode: int
    """Of a process that a signal has ended, minus its number."""
    stdout: str
    stderr: str


class Forked:
    """A running process, the first of a session of its own; used as a context manager it ends with the block."""

    def __init__(self, code: str, argv: Sequence[str] = (), *, folder: Path, environment: Mapping[str, str]) -> None:
        self._output = tempfile.TemporaryDirectory()
        where = Path(self._output.name)
        for name in ("stdout", "stderr"):
            (where / name).touch()
        self.process = _CONTEXT.Process(target=_execute, args=(code, list(argv), folder, dict(environment), where))
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self._output.cleanup()

    @property
    def has_ended(self) -> bool:
        return self.process.exitcode is not None

    def ended(self, timeout_seconds: float = TIMEOUT_SECONDS) -> Ended:
        """Wait for its end. Raises TimeoutError."""
        self.process.join(timeout_seconds)
        if self.process.exitcode is None:
            raise TimeoutError(f"not ended within {timeout_seconds:g} s: {self._read('stderr')}")
        return Ended(self.process.exitcode, self._read("stdout"), self._read("stderr"))

    def _read(self, name: str) -> str:
        return (Path(self._output.name) / name).read_text()


def run(code: str, argv: Sequence[str] = (), *, folder: Path) -> Ended:
    """Run code to its end, in a working folder and the environment of here."""
    with Forked(code, argv, folder=folder, environment=os.environ) as process:
        return process.ended()


def run_ranks(code: str, argv: Sequence[str] = (), *, folder: Path, ranks: int = 2) -> list[Ended]:
    """Run the same code as every rank of a process group, in the environment that torchrun gives."""
    shared = {**os.environ, "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    with ExitStack() as stack:
        processes = [stack.enter_context(Forked(code, argv, folder=folder, environment=shared | _place(rank)))
                     for rank in range(ranks)]  # fmt: skip
        return [process.ended() for process in processes]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def _place(rank: int) -> dict[str, str]:
    return {"RANK": str(rank), "LOCAL_RANK": str(rank)}


def _execute(code: str, argv: list[str], folder: Path, environment: dict[str, str], output: Path) -> None:
    import torch

    os.setsid()
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(output / name, os.O_WRONLY | os.O_APPEND), descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["-c", *argv]
    torch.set_num_threads(1)
    exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})
