"""Connecting to a Ray cluster, and how many actors its machines hold."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from reinforce.decoding_workers import share_of_cores
from reinforce.errors import MissingExtraError, UsageError

CONNECT_SECONDS = 10.0
OBJECT_STORE_BYTES = 100_000_000
"""Of a cluster that lives for one command: only numbers go through it."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Nothing is sent to Ray's makers, and a warning of what will change is not shown."""


def import_ray() -> ModuleType:
    """Raises MissingExtraError."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise MissingExtraError("ray", "ray", "--engine ray") from None
    module: ModuleType = ray
    return module


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """To the cluster at `address`: auto, local or HOST:PORT; to the caller's where there is a connection already.

    Raises UsageError where there is no cluster. Meanwhile nothing is printed on stdout: Ray tells there what has
    happened to its machines.
    """
    ray = import_ray()
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        if ray.is_initialized():
            yield
            return
        _check_answers(address)
        _connect(ray, address)
        try:
            yield
        finally:
            ray.shutdown()


def _connect(ray: ModuleType, address: str) -> None:
    local = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES} if address == "local" else {}
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **local)
    except ConnectionError:
        raise UsageError("no Ray cluster runs here: type ray start --head first, --ray-address HOST:PORT of one, or "
                         "--ray-address local") from None  # fmt: skip
    except (RuntimeError, ValueError) as error:  # other versions of Ray or Python, a malformed address
        raise UsageError(f"--ray-address {address}: {' '.join(str(error).split())[:300]}") from error
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGTERM, on_terminate)


def _check_answers(address: str) -> None:
    """Ray itself takes a minute to give up, and the process with it."""
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (ValueError, OverflowError):
        raise UsageError(f"--ray-address takes auto, local or HOST:PORT, not '{address}'") from None
    except OSError as error:
        raise UsageError(f"no Ray cluster answers at {address} ({error.strerror or error})") from None


Machines = Sequence[Mapping[str, float]]
"""Resources of each, under Ray's names: CPU, GPU ..."""


@dataclass(frozen=True, kw_only=True)
class ActorSize:
    """What one actor takes of a machine."""

    workers: int
    """Decoding processes."""
    num_cpus: int
    num_gpus: int

    @classmethod
    def choose(cls, machines: Machines, device: str, threads: int, asked_workers: int, num_views: int) -> ActorSize:
        """For a process on a device of this type, and so many views in all. Every machine with a GPU holds one for each
        of them; of processors the largest holds at least one, even where the plan has more threads. Raises UsageError
        where there is no GPU."""
        if device == "cuda":
            machines = [machine for machine in machines if machine.get("GPU", 0) >= 1]
            if not machines:
                raise UsageError("the cluster has no GPU, and this is computed on one: type --device cpu")
            cores = max(1, min(int(machine.get("CPU", 0) // machine["GPU"]) for machine in machines))
            threads, num_gpus = 1, 1
        else:
            cores, num_gpus = max([1, *(int(machine.get("CPU", 0)) for machine in machines)]), 0
        chosen = min(share_of_cores(num_views, device, cores), max(1, cores - threads))
        workers = asked_workers if asked_workers >= 0 else chosen
        return cls(workers=workers, num_cpus=min(cores, threads + workers), num_gpus=num_gpus)

    def room(self, machines: Machines) -> int:
        """How many they hold."""
        return sum(self._room(machine) for machine in machines)

    def _room(self, machine: Mapping[str, float]) -> int:
        by_cpu = int(machine.get("CPU", 0) // self.num_cpus)
        return min(by_cpu, int(machine.get("GPU", 0))) if self.num_gpus else by_cpu


def living_machines() -> Machines:
    """Of the cluster."""
    return [node["Resources"] for node in import_ray().nodes() if node["Alive"]]
