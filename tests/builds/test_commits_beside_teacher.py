"""Units that are encoded while the teacher goes on, as beside a GPU: the same bytes, errors and units, in less time."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from tiny_builds import ROWS_ONLY, config, digest_of, run

from reinforce.engine import runner as runner_module
from reinforce.engine.builder import BuildTask, UnitBuilder
from reinforce.engine.ray_actor import ActorReport, ActorTask, UnitActor
from reinforce.errors import BuildError
from reinforce.job import Ledger, Owner
from reinforce.store import PLAN, LocalObjects, UnfinishedStore
from reinforce.teacher import Teacher

SECONDS = 30.0


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this CPU were a device of its own."""
    monkeypatch.setattr(UnitBuilder, "shares_cores", False)


@pytest.fixture
def main_threads(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each unit, whether it was encoded by the thread that has the teacher."""
    found: list[bool] = []
    encode = runner_module.encode_within

    def watched(*args: Any, **options: Any) -> Any:
        found.append(threading.current_thread() is threading.main_thread())
        return encode(*args, **options)

    monkeypatch.setattr(runner_module, "encode_within", watched)
    return found


def test_a_teacher_on_the_cpu_has_nothing_beside_it(teacher: Path, images: Path, main_threads: list[bool]) -> None:
    run(teacher, images)
    assert len(main_threads) > 2
    assert all(main_threads)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_the_bytes_are_the_same(
    workers: int, teacher: Path, images: Path, monkeypatch: pytest.MonkeyPatch, main_threads: list[bool]
) -> None:
    run(teacher, images, out="one.zarr")
    num_units = len(main_threads)
    monkeypatch.setattr(UnitBuilder, "shares_cores", False)
    assert run(teacher, images, workers=workers).status == "complete"
    assert main_threads == [True] * num_units + [False] * num_units
    assert digest_of(Path("out.zarr")) == digest_of(Path("one.zarr"))


@ROWS_ONLY
@pytest.mark.usefixtures("beside")
class TestBeside:
    def test_a_unit_is_encoded_while_the_teacher_answers_the_next(
        self, teacher: Path, images: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each but the last waits in the middle for a batch of the next: without a thread, until this test fails."""
        answered, encode, answer = threading.Semaphore(0), runner_module.encode_within, Teacher.targets
        seen: list[int] = []

        def targets(self: Teacher, views: Any) -> Any:
            answered.release()
            return answer(self, views)

        def encode_later(schema: Any, codec: Any, index: int, *args: Any) -> Any:
            is_last = len(seen) == schema.num_units - 1
            seen.append(index)
            while answered.acquire(blocking=False):
                pass
            assert is_last or answered.acquire(timeout=SECONDS)
            return encode(schema, codec, index, *args)

        monkeypatch.setattr(Teacher, "targets", targets)
        monkeypatch.setattr(runner_module, "encode_within", encode_later)
        assert run(teacher, images).status == "complete"
        assert len(seen) > 2

    def test_its_error_is_that_of_the_build(self, teacher: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        commit = runner_module.commit_unit

        def full(objects: Any, schema: Any, index: int, *args: Any) -> None:
            if index == 1:
                raise OSError(28, "No space left on device")
            commit(objects, schema, index, *args)

        with monkeypatch.context() as patched:
            patched.setattr(runner_module, "commit_unit", full)
            with pytest.raises(OSError, match="No space left"):
                run(teacher, images)
        assert run(teacher, images, resume=True).status == "complete"
        run(teacher, images, out="one.zarr")
        assert digest_of(Path("out.zarr")) == digest_of(Path("one.zarr"))

    def test_what_was_begun_is_committed_before_an_error_of_the_teacher_ends_the_build(
        self, teacher: Path, images: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answer, encode, is_encoding = Teacher.targets, runner_module.encode_within, threading.Event()

        def fail_beside(self: Teacher, views: Any) -> Any:
            if is_encoding.is_set():
                raise BuildError("the teacher failed")
            return answer(self, views)

        def encode_watched(*args: Any) -> Any:
            is_encoding.set()
            return encode(*args)

        monkeypatch.setattr(Teacher, "targets", fail_beside)
        monkeypatch.setattr(runner_module, "encode_within", encode_watched)
        with pytest.raises(BuildError, match="the teacher failed"):
            run(teacher, images)
        store = UnfinishedStore(LocalObjects(Path("out.zarr")))
        assert len(Ledger(store.objects, store.schema.num_units, Owner.here()).done()) == 1

    def test_an_actor_does_not_wait_for_a_queue_that_nobody_fills(self, teacher: Path, images: Path) -> None:
        """Its last unit is committed in the teacher's place: beside it nothing would ask for its end."""
        run(teacher, images, shard="1/3")
        store, owner = UnfinishedStore(LocalObjects(Path("out.zarr"))), Owner.here()
        units, done = store.schema.num_units, Ledger(store.objects, store.schema.num_units, owner).done()
        todo = [unit for unit in range(units) if unit not in done]
        task = BuildTask(config=config(teacher, images, resume=True), objects=store.objects, owner=owner)
        digest = hashlib.sha256(store.objects.get(PLAN)).hexdigest()
        actor = UnitActor()
        actor.open(ActorTask(units=task, workers=0, request_sha256=digest, folder=".", home="home"))
        end_of_waiting = threading.Timer(SECONDS, actor.queue.put, (None,))
        end_of_waiting.start()
        assert len(todo) == 2
        assert _advanced(actor, todo) == todo
        assert end_of_waiting.is_alive()
        end_of_waiting.cancel()


def _advanced(actor: UnitActor, units: Collection[int]) -> list[int]:
    """The units that it commits when it is given these, until it has none left."""
    found: list[int] = []
    waiting = list(units)
    while waiting or actor.open_units:
        report = actor.advance(waiting, [])
        assert isinstance(report, ActorReport), report
        found, waiting = found + list(report.work.units), []
    return found
