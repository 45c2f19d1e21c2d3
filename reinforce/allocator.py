"""glibc's allocator, told to keep what is freed: networks free and take the same hundreds of megabytes at every batch.

By default glibc gives large blocks back to the kernel, which must clear their pages when they are taken again. That
took half of a small teacher's time on a CPU (docs/benchmarks/allocator.md).
"""

from __future__ import annotations

import ctypes
import os

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_NEVER = 2**31 - 1
_GROWTH_BYTES = 64 << 20
_USERS_CHOICE = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Take large blocks from the heap, which only grows, in steps of 64 MB; whether that was done.

    Of the whole process: for programs, not for libraries. Nothing happens where the C library is another one, or the
    environment already tells it what to do.
    """
    libc = ctypes.CDLL(None) if os.name == "posix" else None
    if not hasattr(libc, "gnu_get_libc_version") or any(name in os.environ for name in _USERS_CHOICE):
        return False
    settings = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _GROWTH_BYTES))
    return all(libc.mallopt(name, value) == 1 for name, value in settings)  # type: ignore[union-attr]
