"""`--compile`: a network's forward pass as kernels of its own, made when it first runs (torch.compile)."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar, cast

import torch

from reinforce.errors import UsageError

Forward = TypeVar("Forward", bound=Callable[..., object])


def compiled(forward: Forward) -> Forward:
    """A function or module that computes the same up to rounding; each shape of its inputs is compiled by itself.

    Its first call takes tens of seconds or minutes, and belongs into `naming_missing_compilers`.
    """
    return cast(Forward, torch.compile(forward, dynamic=False))


@contextlib.contextmanager
def naming_missing_compilers() -> Iterator[None]:
    """Raises UsageError where this machine cannot compile: on a CPU for want of a C++ compiler or Python's headers."""
    try:
        yield
    except Exception as error:
        exceptions = sys.modules.get("torch._dynamo.exc")  # takes seconds to import
        if exceptions is None or not isinstance(error, exceptions.TorchDynamoException):
            raise
        raise UsageError(f"this machine cannot compile the network ({_reason(error)}): install a C++ compiler and "
                         "Python's headers, or type the command without --compile") from error  # fmt: skip


def _reason(error: Exception) -> str:
    """The first line that says something: torch may begin with where it was raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if not line.endswith("raised:")), type(error).__name__)
