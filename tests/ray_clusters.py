"""Clusters of several nodes on this machine, and what lives on them. Linux: looks for processes in /proc."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}
"""Has room for one actor."""


@contextlib.contextmanager
def cluster_of_two() -> Iterator[Cluster]:
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        cluster.add_node(**NODE)
        cluster.wait_for_nodes()
        yield cluster
    finally:
        cluster.shutdown()


def with_two_nodes(cluster: Cluster) -> Cluster:
    """Adds what tests have removed."""
    while len(cluster.list_all_nodes()) < 2:
        cluster.add_node(**NODE)
    cluster.wait_for_nodes()
    return cluster


@contextlib.contextmanager
def connected_to(cluster: Cluster) -> Iterator[Cluster]:
    """This process, as a program that uses Ray for other things too; with two nodes again."""
    with_two_nodes(cluster)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="CRITICAL")
    try:
        yield cluster
    finally:
        ray.shutdown()


def raylet_of(node: Any) -> int:
    (info,) = node.all_processes["raylet"]
    return int(info.process.pid)


def actors(raylet: int | None = None, but: tuple[str, ...] = ()) -> list[int]:
    """Of builds, on all nodes or on one, but those that are doing something; Ray titles their processes with that."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((process / "stat").read_text().rsplit(")", 1)[1].split()[1])
            title = (process / "cmdline").read_text().rstrip("\0 ")
            if title.startswith("ray::UnitActor") and not title.endswith(but) and raylet in (None, parent):
                found.append(int(process.name))
    return found


def open_claims(store: Path) -> dict[str, list[str]]:
    """Helper -> units that it has claimed and not marked."""
    found: dict[str, list[str]] = {}
    for claim in sorted(store.glob("claims/*.json")):
        with contextlib.suppress(FileNotFoundError, ValueError):
            unit = claim.name.partition(".")[0]
            if not (store / f"units/{unit}.json").exists():
                found.setdefault(json.loads(claim.read_text())["helper"], []).append(unit)
    return found


def wait_for(condition: Callable[[], Any], seconds: float = 400.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)
    return found


def hold_in_the_middle(store: Path) -> list[int]:
    """Stop both actors, each when it has a unit that it has claimed and not finished. `go_on` lets them go.

    A claim says by which helper it is, not by which process: so all are stopped to look whether there are as many
    helpers with claims as processes, but those that have not opened their task and can have none."""
    held: list[int] = []
    helpers: set[str] = set()

    def hold_more() -> bool:
        running = set(actors(but=(".__init__", ".open"))).difference(held)
        for actor in running:
            os.kill(actor, signal.SIGSTOP)
        claiming = set(open_claims(store)).difference(helpers)
        if len(claiming) == len(running):
            held.extend(running)
            helpers.update(claiming)
        else:
            go_on(running)
        return len(held) == 2

    wait_for(hold_more)
    return held


def go_on(held: Iterable[int]) -> None:
    for actor in held:
        with contextlib.suppress(ProcessLookupError):
            os.kill(actor, signal.SIGCONT)


def remove_in_the_middle(cluster: Cluster, store: Path) -> None:
    """The node that is not the head's, with all that runs on it, as a machine that loses its power."""
    held = hold_in_the_middle(store)
    node = next(node for node in cluster.list_all_nodes() if not node.head)
    (lost,) = set(actors(raylet_of(node))).intersection(held)
    cluster.remove_node(node, allow_graceful=False)
    os.kill(lost, signal.SIGKILL)
    go_on(held)
