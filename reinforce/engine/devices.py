"""Units computed on several devices of this machine: a teacher process for each, decoding workers beside it.

They share the work as separate builds do, by claims.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from reinforce.allocator import keep_freed_memory
from reinforce.decoding_workers import choose_workers
from reinforce.engine.builder import BuildTask
from reinforce.engine.feed import ClaimedUnits
from reinforce.engine.work import Work, WorkBook
from reinforce.errors import WorkerDiedError
from reinforce.store import UnfinishedStore
from reinforce.worker_process import enter_worker, naming_dead_workers, portable, starting_processes


@dataclass(frozen=True)
class _Teacher:
    """A process and where it reports."""

    number: int
    device: str
    process: SpawnProcess
    reports: Connection


def build_on_devices(task: BuildTask, devices: Sequence[str], todo: Sequence[int], book: WorkBook) -> None:
    """Compute every unit whose claim is won.

    Raises WorkerDiedError where a teacher's process is killed, and what any of them raises; the others end with it.
    """
    left, kind = task.num_views(UnfinishedStore(task.objects).schema, todo), devices[0].partition(":")[0]
    workers = choose_workers(task.config.workers, left, kind, len(devices))
    teachers: list[_Teacher] = []
    try:
        with starting_processes():
            for number, device in enumerate(devices):
                teachers.append(_start(task, number, device, [*todo[number:], *todo[:number]], workers))
        _listen(teachers, book)
    finally:
        for teacher in teachers:
            teacher.process.kill()
            teacher.process.join()


def _start(task: BuildTask, number: int, device: str, todo: Sequence[int], workers: int) -> _Teacher:
    own = replace(task, config=replace(task.config, device=device))
    context = multiprocessing.get_context("spawn")
    reports, sender = context.Pipe(duplex=False)
    process = context.Process(target=_teach, args=(own, todo, workers, sender), name=f"teacher on {device}")
    process.start()
    sender.close()  # so that the pipe ends with the process
    return _Teacher(number, device, process, reports)


def _listen(teachers: Sequence[_Teacher], book: WorkBook) -> None:
    by_pipe = {teacher.reports: teacher for teacher in teachers}
    while by_pipe:
        for pipe in connection.wait(list(by_pipe)):
            teacher = by_pipe[pipe]  # type: ignore[index]
            try:
                report = teacher.reports.recv()
            except (EOFError, OSError):
                _check_ended_well(teacher)
                del by_pipe[teacher.reports]
                continue
            if isinstance(report, Exception):
                raise report
            book.add_of(teacher.number, teacher.device, report)


def _check_ended_well(teacher: _Teacher) -> None:
    teacher.process.join()
    if teacher.process.exitcode != 0:
        raise WorkerDiedError(f"the teacher process on {teacher.device} was killed, perhaps for want of memory: "
                              "type the same command with --resume")  # fmt: skip


def _teach(task: BuildTask, todo: Sequence[int], workers: int, reports: Connection) -> None:
    """What a teacher's process does."""
    enter_worker(0)
    keep_freed_memory()
    started = time.monotonic()
    try:
        with naming_dead_workers():
            builder = task.open_builder()
            reports.send(Work(seconds=time.monotonic() - started))
            for work in builder.build(ClaimedUnits(builder.ledger, todo), workers):
                reports.send(work)
    except Exception as error:
        reports.send(portable(error))
