"""What a builder says when one of its decoding processes is killed while it is somewhere else."""

from __future__ import annotations

import pytest

from reinforce.errors import BuildError, WorkerDiedError
from reinforce.worker_process import naming_dead_workers

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
