"""Claims are the queue: one winner a unit, dead owners are replaced, living ones are left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from reinforce.job import STALE_SECONDS, Ledger, Owner, Share, living_builders
from reinforce.store import MANIFEST, LocalObjects, claim_path, marker_path


@pytest.fixture
def objects(tmp_path: Path) -> LocalObjects:
    return LocalObjects(tmp_path / "store")


def finished_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_unit_is_claimed_once(objects: LocalObjects) -> None:
    ledger = Ledger(objects, 3, Owner.here())
    assert ledger.claim(1)
    assert not ledger.claim(1)
    assert ledger.claim(2)


def test_a_marked_unit_is_done(objects: LocalObjects) -> None:
    objects.put_new(marker_path(0), b"{}")
    ledger = Ledger(objects, 2, Owner.here())
    assert not ledger.claim(0)
    assert ledger.done() == [0]


def test_no_unit_of_a_finished_store_is_claimed(objects: LocalObjects) -> None:
    objects.put_new(MANIFEST, b"{}")
    assert not Ledger(objects, 2, Owner.here()).claim(0)


@pytest.mark.parametrize(
    ("change", "wins"),
    [
        ({"process_start": "1"}, True),
        ({"host": "elsewhere"}, False),
        ({"host": "elsewhere", "claimed": -2 * STALE_SECONDS}, True),
        ({"pid": "gone"}, True),
    ],
    ids=["another process by now", "another host", "another host, long ago", "process is gone"],
)
def test_whose_claim_is_taken_over(change: dict[str, object], wins: bool, objects: LocalObjects) -> None:
    here = Owner.here()
    if change.get("pid") == "gone":
        change = {"pid": finished_process()}
    if "claimed" in change:
        change = change | {"claimed": here.claimed - 2 * STALE_SECONDS}
    Ledger(objects, 1, replace(here, **change)).claim(0)  # type: ignore[arg-type]
    if "claimed" in change:  # a claim says when it was made, so an old one must be written as such
        objects.delete(claim_path(0))
        objects.put_new(claim_path(0), json.dumps(asdict(replace(here, **change))).encode())  # type: ignore[arg-type]
    assert Ledger(objects, 1, here).claim(0) is wins


def test_a_killed_process_that_nobody_waited_for_is_dead(objects: LocalObjects) -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    stat = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    holder = replace(Owner.here(), pid=process.pid, process_start=stat[19])
    assert Ledger(objects, 1, holder).claim(0)
    assert not Ledger(objects, 1, Owner.here()).claim(0)
    process.kill()
    while Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
        pass
    assert Ledger(objects, 1, Owner.here()).claim(0)
    process.wait()


@pytest.mark.parametrize(
    "data",
    [
        b"{ half a cla",
        b"[]",
        b'{"host":1,"pid":"x","process_start":"","claimed":null}',
        b'{"host":"h","pid":1e999,"process_start":"","claimed":1}',
        b"[" * 100_000,
    ],
    ids=lambda data: data[:20].decode(),
)
def test_a_broken_claim_is_taken_over(data: bytes, objects: LocalObjects) -> None:
    objects.put_new(claim_path(0), data)
    assert Ledger(objects, 1, Owner.here()).claim(0)
    assert not Ledger(objects, 1, Owner.here()).claim(0)


ENDING = """
import os, signal, sys
from dataclasses import replace
from reinforce.job import Owner
here = Owner.here()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: they are gone when they end
for _ in range(60):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    while os.path.exists(f"/proc/{pid}"):
        replace(here, pid=pid).is_alive()
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are told by /proc")
def test_an_owner_may_end_while_it_is_looked_at() -> None:
    subprocess.run([sys.executable, "-c", ENDING], check=True, timeout=60)


def test_of_many_that_take_over_a_dead_claim_one_wins(objects: LocalObjects) -> None:
    """A claim that was deleted before it was made anew could be deleted twice, and won twice."""
    here = Owner.here()
    dead = replace(here, pid=finished_process())
    for unit in range(20):
        assert Ledger(objects, 20, dead).claim(unit)
        ledgers = [Ledger(objects, 20, replace(here, process_start=here.process_start)) for _ in range(8)]
        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(lambda ledger, unit=unit: ledger.claim(unit), ledgers)) == 1


def test_a_unit_that_was_marked_while_its_claim_was_won_is_not_ours(objects: LocalObjects) -> None:
    class MarkedMeanwhile(LocalObjects):
        def put_new(self, path: str, data: bytes) -> None:
            super().put_new(path, data)
            LocalObjects(self.root).put_new(marker_path(0), b"{}")

    assert not Ledger(MarkedMeanwhile(objects.root), 1, Owner.here()).claim(0)


def test_a_claim_that_was_taken_over_and_given_up_leaves_no_gap(objects: LocalObjects) -> None:
    here = Owner.here()
    assert Ledger(objects, 1, replace(here, pid=finished_process())).claim(0)
    ours = Ledger(objects, 1, here)
    assert ours.claim(0)
    ours.release()
    assert Ledger(objects, 1, here).claim(0)
    assert not ours.claim(0)


def test_units_of_a_helper_that_is_lost_are_free_at_once(objects: LocalObjects) -> None:
    """Its builder lives, and knows who helps it."""
    here = Owner.here()
    first, second = (Ledger(objects, 3, replace(here, helper=name)) for name in ("first", "second"))
    assert first.claim(0, ["first", "second"])
    assert not second.claim(0, ["first", "second"])
    assert second.claim(0, ["second"])
    assert not second.claim(0, ["second"])
    assert not Ledger(objects, 3, replace(here, host="elsewhere")).claim(0, [])


def test_a_builder_gives_up_what_its_helpers_have_not_finished(objects: LocalObjects) -> None:
    here = Owner.here()
    assert Ledger(objects, 2, replace(here, helper="first")).claim(0, ["first"])
    Ledger(objects, 2, here).release()
    assert not objects.exists(claim_path(0))


def test_living_builders_are_others_that_live(objects: LocalObjects) -> None:
    here = Owner.here()
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    stat = Path(f"/proc/{other.pid}/stat").read_text().rsplit(")", 1)[1].split()
    living = replace(here, pid=other.pid, process_start=stat[19])
    for unit, owner in enumerate([here, replace(here, pid=finished_process()), living]):
        Ledger(objects, 3, owner).claim(unit)
    objects.put_new(claim_path(7), b"no claim")
    assert [owner.pid for owner in living_builders(objects)] == [other.pid]
    other.kill()
    other.wait()
    assert living_builders(objects) == []


def test_release_gives_up_only_what_is_ours_and_unfinished(objects: LocalObjects) -> None:
    ours, theirs = Ledger(objects, 3, Owner.here()), Ledger(objects, 3, replace(Owner.here(), host="elsewhere"))
    assert ours.claim(0)
    assert ours.claim(1)
    assert theirs.claim(2)
    objects.put_new(marker_path(0), b"{}")
    ours.release()
    assert [unit for unit in range(3) if objects.exists(claim_path(unit))] == [0, 2]


def test_shares() -> None:
    assert list(Share().units(4)) == [0, 1, 2, 3]
    assert list(Share(1, 3).units(8)) == [1, 4, 7]
