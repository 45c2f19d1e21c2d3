"""Objects of a process that ends at a chosen change of theirs: every moment at which a kill leaves another store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from reinforce.store.objects import LocalObjects


class KilledError(BaseException):
    """Stands for the end of the process: nothing in the store may catch it."""


class StoppedObjects(LocalObjects):
    """Real files, but the process ends before or after its n-th change."""

    def __init__(self, root: Path, *, changes_left: int, after: bool) -> None:
        super().__init__(root)
        self.changes_left, self.after = changes_left, after

    def _change(self, operation: Callable[..., None], *arguments: Any) -> None:
        if self.changes_left == 0 and not self.after:
            raise KilledError
        operation(*arguments)
        if self.changes_left == 0:
            raise KilledError
        self.changes_left -= 1

    def put_new(self, path: str, data: bytes) -> None:
        self._change(super().put_new, path, data)

    def delete(self, path: str) -> None:
        self._change(super().delete, path)
