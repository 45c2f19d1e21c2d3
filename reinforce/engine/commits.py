"""Encoding and writing a unit while the teacher answers the views of the next one.

On a device of its own a teacher would wait for seconds at the end of every unit. On a CPU both want the same cores.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

from reinforce.teacher import fix_arithmetic

OthersFollow = Callable[[Collection[int]], bool]
"""Whether, beside these units, there are others whose batches will come, or an end: then a commit need not be waited
for, since it is asked for again."""


def always(units: Collection[int]) -> bool:
    """Of a feed that ends by itself."""
    return True


def never(units: Collection[int]) -> bool:
    """Of a teacher that shares its cores with encoding."""
    return False


@dataclass(frozen=True)
class Committed:
    unit: int
    num_bytes: int


class Commits:
    """At most one at a time, in a thread. Leaving waits for it: what is begun is committed."""

    def __init__(self, threads: int) -> None:
        """`threads` of arithmetic: the plan's, as in the thread that calls."""
        self._executor = ThreadPoolExecutor(1, "commits", fix_arithmetic, (threads,))
        self._begun: Future[Committed] | None = None

    def __enter__(self) -> Commits:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._executor.shutdown()

    def begin(self, commit: Callable[[], Committed]) -> None:
        """After `rest`: there is one place."""
        assert self._begun is None
        self._begun = self._executor.submit(commit)

    def done(self) -> list[Committed]:
        """What is finished by now. Raises what committing it did."""
        return self.rest() if self._begun is not None and self._begun.done() else []

    def rest(self) -> list[Committed]:
        """Wait for what is begun. Raises what committing it did."""
        begun, self._begun = self._begun, None
        return [] if begun is None else [begun.result()]
