"""What a builder says when one of its decoding processes is killed while it is somewhere else; errors on their way."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from torch.utils.data import DataLoader

from reinforce.errors import (
    BuildError,
    MissingExtraError,
    NonFiniteTargetError,
    OutputExistsError,
    ReinforceError,
    UnknownNameError,
    WorkerDiedError,
)
from reinforce.worker_process import _end_workers, as_it_is, enter_worker, naming_dead_workers, portable, raise_errors

DEATH = "DataLoader worker (pid 7) is killed by signal: Killed. "


def raised_as_it_is() -> None:
    raise RuntimeError(DEATH)


def taken_for_damage() -> None:
    try:
        raised_as_it_is()
    except RuntimeError as error:
        raise ValueError("a zstd frame is damaged") from error


def taken_for_damage_twice() -> None:
    try:
        taken_for_damage()
    except ValueError:
        raise BuildError("unit 3 cannot be kept")  # noqa: B904


@pytest.mark.parametrize(
    "way", [raised_as_it_is, taken_for_damage, taken_for_damage_twice], ids=lambda way: way.__name__
)
def test_a_death_is_named_whatever_it_was_taken_for(way) -> None:
    with pytest.raises(WorkerDiedError, match="--resume"), naming_dead_workers():
        way()


@pytest.mark.parametrize(
    "error", [RuntimeError("out of memory"), ValueError("a zstd frame is damaged"), BuildError("x")]
)
def test_other_errors_pass(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), naming_dead_workers():
        raise error


def test_an_interrupt_passes() -> None:
    with pytest.raises(KeyboardInterrupt), naming_dead_workers():
        raise KeyboardInterrupt


class Torn:
    """What comes from a process that is killed, or not, while it hands something over."""

    def __init__(self, error: Exception, *, is_killed: bool) -> None:
        self.error, self.is_killed = error, is_killed
        self._workers = [multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))]
        self._workers[0].start()

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if self.is_killed:
            self._workers[0].kill()
        raise self.error


@pytest.mark.parametrize(
    "error", [ConnectionResetError(104, "reset"), ConnectionRefusedError(111, "refused"), EOFError()]
)
class TestHandingOver:
    def test_a_connection_that_breaks_with_its_process_is_a_death(self, error: Exception) -> None:
        with pytest.raises(WorkerDiedError, match="--resume"):
            list(raise_errors(Torn(error, is_killed=True)))

    def test_others_pass(self, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("reinforce.worker_process.SECONDS_TO_DIE", 0.05)
        with pytest.raises(type(error)):
            list(raise_errors(Torn(error, is_killed=False)))


def every_class(base: type[Exception]) -> list[type[Exception]]:
    return [base, *(found for child in base.__subclasses__() for found in every_class(child))]


@pytest.mark.parametrize(
    "error",
    [
        UnknownNameError("codec", "int7", ["int8"]),
        OutputExistsError("out.zarr"),
        MissingExtraError("ray", "ray", "--engine ray"),
        NonFiniteTargetError.of("a.png", 3),
        *(kind("one line") for kind in every_class(ReinforceError) if kind.__init__ is ReinforceError.__init__),
        FileNotFoundError(2, "no such file", "a.png"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_reaches_another_process_as_it_is(error: Exception) -> None:
    sent = pickle.loads(pickle.dumps(portable(error)))
    assert (type(sent), str(sent), sent.args) == (type(error), str(error), error.args)
    assert getattr(sent, "exit_code", 1) == getattr(error, "exit_code", 1)


def test_an_error_that_cannot_be_sent_says_what_it_was() -> None:
    class OfNoModuleError(Exception):
        pass

    sent = pickle.loads(pickle.dumps(portable(OfNoModuleError("one line"))))
    assert str(sent) == "OfNoModuleError: one line"


class StoppedAtStart(DataLoader[int]):
    """Its process gets Ctrl-C when all workers run but nobody has their iterator yet."""

    def __iter__(self) -> Iterator[Any]:
        started = super().__iter__()
        os.kill(os.getpid(), signal.SIGINT)
        return started


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="its signals are others")
@pytest.mark.parametrize("has_thread", [False, True], ids=["alone", "beside-a-thread"])
def test_workers_that_were_starting_end_with_an_interrupt(has_thread: bool) -> None:
    """A thread of the same process has not blocked what the main thread has, so that it gets the signal."""
    loader = StoppedAtStart([1, 2], batch_size=None, num_workers=2, multiprocessing_context="spawn",
                            collate_fn=as_it_is, worker_init_fn=enter_worker)  # fmt: skip
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    if has_thread:
        thread.start()
    try:
        with pytest.raises(KeyboardInterrupt) as raised:
            list(raise_errors(loader))
        assert not multiprocessing.active_children(), raised.traceback
    finally:
        release.set()


class EndsBadly:
    """A loader one of whose workers is given up on by C++ while it is told to end."""

    _workers = ()

    def _shutdown_workers(self) -> None:
        os.kill(os.getpid(), signal.SIGCHLD)


def test_how_workers_end_that_must_end_does_not_hide_why() -> None:
    def watching(*_: object) -> None:
        raise RuntimeError(DEATH)

    before = signal.signal(signal.SIGCHLD, watching)
    try:
        _end_workers(EndsBadly())
        assert signal.getsignal(signal.SIGCHLD) is watching
    finally:
        signal.signal(signal.SIGCHLD, before)
