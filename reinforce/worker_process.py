"""Spawned decoding processes of builds and of training: how they start, end, and report an error."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Generator, Iterable, Iterator
from multiprocessing import connection
from types import TracebackType
from typing import TypeVar

from reinforce.errors import ReinforceError, WorkerDiedError

T = TypeVar("T")
UNREAD = "ignore::UserWarning:multiprocessing.resource_tracker"
"""Torch's handler of SIGCHLD may raise when a semaphore is unlinked and its tracker, a process, not told yet: what that
then says of leaks is not so. As an option of Python, which processes inherit."""
LOST = ("a decoding process was killed, perhaps for want of memory: type the same command with --resume, and with "
        "fewer --workers if that happens again")  # fmt: skip
SECONDS_TO_DIE = 2.0
"""Between what a killed process had open and the process itself."""
STOPPING = (signal.SIGINT, signal.SIGTERM)


def enter_worker(worker: int) -> None:
    """For `DataLoader(worker_init_fn=...)`. Signals may reach the whole process group; only the parent answers them.

    torch looks for the parent it had when its loop began: a parent that is killed while its workers still import is
    never missed there.
    """
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    sys.excepthook = _report
    threading.Thread(target=_end_with_parent, daemon=True).start()


@contextlib.contextmanager
def starting_processes() -> Iterator[None]:
    """Around the start of processes that `enter_worker`: they are deaf to what stops a verb from their first moment.

    A terminal or `kill` may send it to all of them, and one that still imports would die of it. A process inherits what
    is blocked; what comes meanwhile waits for this one until all are started.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # its start would unblock them again
    with _postponed():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _postponed() -> Iterator[None]:
    """What stops a verb is heeded behind this. Only this thread blocks signals; any other one may be given them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    heeded = [number for number in STOPPING if signal.getsignal(number) is not None]
    former = {number: signal.signal(number, lambda number, frame: came.append(number)) for number in heeded}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def as_it_is(item: T) -> T:
    """For `DataLoader(collate_fn=...)`: batches are made by the dataset."""
    return item


def raise_errors(items: Iterable[T | ReinforceError]) -> Generator[T]:
    """Starts the workers, who yield their errors: one that is raised there arrives as another, of many lines.

    The workers end with it, and with its `close`: not when a traceback that knows them is forgotten.
    """
    started: Iterator[T | ReinforceError] = iter(())
    with naming_dead_workers():
        try:
            with starting_processes() if getattr(items, "num_workers", 0) else contextlib.nullcontext():
                started = iter(items)
            for item in _received(started):
                if isinstance(item, ReinforceError):
                    raise item
                yield item
        finally:
            _end_workers(started)


def _received(started: Iterator[T]) -> Iterator[T]:
    """What workers send. One that is killed while it hands a tensor over breaks the connection before torch knows."""
    try:
        yield from started
    except (ConnectionError, EOFError) as error:
        ends = [worker.sentinel for worker in getattr(started, "_workers", ())]
        if not ends or not connection.wait(ends, SECONDS_TO_DIE):
            raise
        _stop_watching()
        raise WorkerDiedError(LOST) from error


def _end_workers(started: object) -> None:
    """torch waits some seconds for each, and then asks it to end, to which those that still import are deaf."""
    with _unwatched():
        getattr(started, "_shutdown_workers", lambda: None)()
        for worker in getattr(started, "_workers", ()):
            worker.kill()
            worker.join()


@contextlib.contextmanager
def _unwatched() -> Iterator[None]:
    """How a worker ends that has to end says nothing: torch's handler would raise, in the place of what ends it."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGCHLD"):
        yield
        return
    watching = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, watching or signal.SIG_DFL)


@contextlib.contextmanager
def naming_dead_workers() -> Iterator[None]:
    """Raises WorkerDiedError where torch's handler of SIGCHLD, which runs wherever the parent just is, misses one.

    Where it just was may have taken the handler's error for one of its own, and raised another.
    """
    if UNREAD not in sys.warnoptions:
        sys.warnoptions.append(UNREAD)
    try:
        yield
    except Exception as error:
        if not any(_tells_of_a_death(link) for link in _chain(error)):
            raise
        _stop_watching()
        raise WorkerDiedError(LOST) from error


def portable(error: Exception) -> Exception:
    """As it can be sent to another process: with its traceback as a note, and as another where it cannot be pickled."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _tells_of_a_death(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _stop_watching() -> None:
    """torch's handler would raise once more for every other worker that ends now, in the middle of cleaning up."""
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """multiprocessing's thread that hands tensors over reports here; that the parent stopped taking them is no news."""
    if not issubclass(kind, (ConnectionError, EOFError)):
        sys.__excepthook__(kind, error, trace)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
