"""Finding the processes that a test's command has started; another process that holds a folder."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HOLDING = """
import sys
from pathlib import Path
from reinforce.locking import FolderHold
with FolderHold(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def session_members(session: int, words: str = "") -> list[int]:
    """Living processes of a session whose command line has these words. Linux."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, member_of, *_ = stat.read_text().rsplit(")", 1)[1].split()
            line = (stat.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(member_of) == session and state not in "ZX" and words in line:
            found.append(int(stat.parent.name))
    return found


@contextlib.contextmanager
def held_elsewhere(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """While another process holds the folder; it is killed at the end, or lets go when its stdin is closed."""
    with subprocess.Popen([sys.executable, "-c", HOLDING, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()
