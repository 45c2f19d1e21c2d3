"""Every error that a user can meet, as one tree.

    ReinforceError                exit 1
    ├── UsageError                exit 2, ValueError: an option or a combination of options is wrong
    │   ├── UnknownNameError      LookupError: no such model, dataset, policy, codec ...; names the nearest
    │   ├── OutputExistsError     FileExistsError: nothing is overwritten without --overwrite
    │   └── MissingExtraError     ImportError: an optional dependency is not installed
    ├── DataError                 a dataset or transfer set cannot be used
    │   ├── MissingDataError      FileNotFoundError: it is not there
    │   ├── EmbeddingError        vectors cannot be searched: NaN, not of unit length, of other images
    │   ├── UndecodableImageError ValueError: one image; a build skips and lists it
    │   └── TransferMismatchError its bytes are not those that a store was built from
    ├── ModelError                a model directory or checkpoint cannot be used
    ├── StoreError                a store cannot be used
    │   ├── MissingStoreError     FileNotFoundError: it is not there
    │   ├── UnfinishedStoreError  its build has not ended
    │   ├── CorruptStoreError     bytes differ from the manifest
    │   └── StoreAccessError      the disk is full, permission is denied: what is there stays as it is
    ├── RemoteAccessError         an object store cannot be reached, or refuses; never says which credentials
    ├── UnfinishedSearchError     other parts of a divided search are not done yet
    ├── BuildError                a build, or a search on a cluster, had to stop; what is committed stays
    │   ├── NonFiniteTargetError  the teacher gave NaN or infinity for a named sample
    │   └── EnvironmentMismatchError  resuming here would not give the plan's bytes
    ├── WorkerDiedError           a decoding process was killed; says how to go on
    ├── StoppedError              exit 130: Ctrl-C or SIGTERM; says how to go on
    └── ReplayDriftError          this machine replays other pixels than those the teacher saw

Messages are one line: what is wrong and what to type instead. Only the command line turns them into exit codes.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from typing import Any

NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
"""Numbers of an OSError: the disk, or what this user may have of it, is full."""


class ReinforceError(Exception):
    """Base of all errors raised on purpose."""

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """From a process to another as it is, whatever its class is made from."""
        return _as_it_was, (type(self), self.args), self.__dict__


class UsageError(ReinforceError, ValueError):
    exit_code = 2


class UnknownNameError(UsageError, LookupError):
    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        """`kind` is what the name should have been ("teacher", "codec"); `known` are the names to choose from."""
        self.name = name
        near = suggestion(name, known)
        joint = " " if near.endswith("?") else ": "
        super().__init__(f"unknown {kind} '{name}'{near}{joint + hint if hint else ''}")


class OutputExistsError(UsageError, FileExistsError):
    def __init__(self, path: object, hint: str = "type --overwrite to replace it or --out to write elsewhere") -> None:
        super().__init__(f"{path} exists: {hint}")


class MissingExtraError(UsageError, ImportError):
    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}: pip install 'reinforce-vision[{extra}]'")


class DataError(ReinforceError):
    pass


class MissingDataError(DataError, FileNotFoundError):
    pass


class EmbeddingError(DataError):
    pass


class UndecodableImageError(DataError, ValueError):
    pass


class TransferMismatchError(DataError):
    pass


class ModelError(ReinforceError):
    pass


class StoreError(ReinforceError):
    pass


class MissingStoreError(StoreError, FileNotFoundError):
    pass


class UnfinishedStoreError(StoreError):
    pass


class CorruptStoreError(StoreError):
    pass


class StoreAccessError(StoreError):
    pass


class RemoteAccessError(ReinforceError):
    pass


class UnfinishedSearchError(ReinforceError):
    pass


class BuildError(ReinforceError):
    pass


class NonFiniteTargetError(BuildError):
    @classmethod
    def of(cls, key: str, view: int) -> NonFiniteTargetError:
        return cls(
            f"the teacher gave NaN or infinity for '{key}', view {view}: type --dtype float32, or remove the image"
        )


class EnvironmentMismatchError(BuildError):
    pass


class WorkerDiedError(ReinforceError):
    pass


class StoppedError(ReinforceError):
    exit_code = 130


class ReplayDriftError(ReinforceError):
    pass


def _as_it_was(kind: type[ReinforceError], args: tuple[Any, ...]) -> ReinforceError:
    builtin: Any = kind
    while builtin.__module__ != "builtins":
        builtin = builtin.__base__  # of several bases, that of the largest layout: no other may make one
    error: ReinforceError = builtin.__new__(kind, *args)
    error.args = args
    return error


def suggestion(name: str, known: Iterable[str]) -> str:
    """ ", did you mean 'x'?", or the known names if there are few, or nothing."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    if near:
        return f", did you mean '{near[0]}'?"
    return f"; known: {', '.join(choices)}" if 0 < len(choices) <= 12 else ""
