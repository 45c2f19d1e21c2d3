"""What a spawned decoding process does first: leave signals to its parent, and end with it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing import connection


def enter_worker(worker: int) -> None:
    """For `DataLoader(worker_init_fn=...)`. Signals may reach the whole process group; only the parent answers them.

    torch looks for the parent it had when its loop began: a parent that is killed while its workers still import is
    never missed there.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
