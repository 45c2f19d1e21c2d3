"""How long `--help` takes: process time of a new interpreter, beside one that imports click alone, and torch.

    python tools/bench_help.py            # a table: both commands, and the verb that takes longest
    python tools/bench_help.py --json     # {"figures": [...]}
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys

from figures import Figure, table, to_json

import reinforce.cli
import train.cli

GOAL_SECONDS = 0.3
REPEATS = 5
GROUPS = {"reinforce": reinforce.cli.VERBS, "train": train.cli.VERBS}


def process_seconds(code: str, *argv: str) -> float:
    """Median user and system time of `python -c code argv`; the first run, which compiles modules, doesn't count."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    times = []
    for _ in range(1 + REPEATS):
        before = os.times()
        subprocess.run([sys.executable, "-c", code, *argv], check=True, stdout=subprocess.DEVNULL, env=environment)
        after = os.times()
        times.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return statistics.median(times[1:])


def help_seconds(program: str, *argv: str) -> float:
    return process_seconds(f"from {program}.cli import main; main()", *argv, "--help")


def figures() -> list[Figure]:
    click_alone, torch = process_seconds("import click"), process_seconds("import torch")
    found = []
    for program, verbs in GROUPS.items():
        times = {verb: help_seconds(program, verb) for verb in verbs}
        slowest = max(times, key=lambda verb: times[verb])
        for name, seconds in ((f"{program} --help", help_seconds(program)),
                              (f"{program} {slowest} --help, the slowest verb", times[slowest])):  # fmt: skip
            found.append(Figure(name=f"{name}, s", value=seconds, limit=click_alone, peer=torch, goal=GOAL_SECONDS,
                                lower_is_better=True))  # fmt: skip
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    found = figures()
    print(to_json(found) if parser.parse_args().json else table(found, limit="import click", peer="import torch"))
