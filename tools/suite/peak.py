"""Run a command in this process and say its peak memory in bytes on the last line of stderr.

    python -m suite.peak reinforce inspect cc3m.zarr

Not `wait4`'s figure: that counts the memory of the process that started the command, too.
"""

from __future__ import annotations

import importlib
import resource
import sys
from pathlib import Path

LABEL = "peak bytes: "


def peak_bytes() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


def main() -> None:
    package, *sys.argv[1:] = sys.argv[1:]
    command = importlib.import_module(f"{package}.cli")
    try:
        command.main()
    finally:
        print(f"{LABEL}{peak_bytes()}", file=sys.stderr)


if __name__ == "__main__":
    main()
