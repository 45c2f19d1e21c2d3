"""What computing a store took is booked meanwhile: a kill loses little of it, and nothing is booked twice."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from tiny_builds import build_argv, run

from reinforce.engine import work
from reinforce.engine.work import Record, Work, WorkBook
from reinforce.progress import Progress
from reinforce.store import Store

BOOKING_ALL = (
    "import reinforce.engine.work as work; work.SECONDS_BETWEEN_RECORDS = 0; from reinforce.cli import main; main()"
)


def lines() -> list[dict[str, Any]]:
    log = Path("out.zarr.runs.jsonl")
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.mark.slow
def test_what_was_computed_before_a_kill_is_booked(teacher: Path, images: Path) -> None:
    argv = build_argv(teacher, images)[3:]
    with Forked(BOOKING_ALL, argv, folder=Path.cwd(), environment=os.environ) as process:
        while not sum(line["units"] for line in lines()):
            assert not process.has_ended
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
    killed = lines()
    run(teacher, images, resume=True)
    assert lines()[: len(killed)] == killed
    assert {line["plan_digest"] for line in lines()} == {Store.open("out.zarr").manifest.plan_digest}
    assert all(line["seconds"] > 0 for line in killed)


@pytest.mark.parametrize("num_helpers", [0, 2])
def test_nothing_is_booked_twice(num_helpers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "SECONDS_BETWEEN_RECORDS", 0.02)
    kept: list[Record] = []
    started = time.time()
    book = WorkBook(Progress("build", 8, quiet=True), "cpu", started - 5, kept.extend)
    for unit in range(8):
        time.sleep(0.01)
        done = Work(amount=1, units=(unit,), seconds=3.0)
        book.add_of(unit % num_helpers, "cuda:0", done) if num_helpers else book.add(done)
    book.close()
    assert len(kept) > 2
    assert sum(record["units"] for record in kept) == 8
    passed = 5 + 8 * 3.0 if num_helpers else 5 + time.time() - started
    assert sum(record["seconds"] for record in kept) == pytest.approx(passed, abs=0.02)
    assert book.total.units == tuple(range(8))
