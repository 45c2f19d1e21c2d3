"""What a builder says when one of its decoding processes is killed while it is somewhere else; errors on their way."""

from __future__ import annotations

import pickle

import pytest

from reinforce.errors import (
    BuildError,
    MissingExtraError,
    NonFiniteTargetError,
    OutputExistsError,
    ReinforceError,
    UnknownNameError,
    WorkerDiedError,
)
from reinforce.worker_process import naming_dead_workers, portable

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
