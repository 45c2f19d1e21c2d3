"""The allocator of a program that runs networks: freed blocks stay, unless the environment says otherwise."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

GLIBC = platform.libc_ver()[0] == "glibc"
FAULTS = """
import resource, sys
from reinforce.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    block = bytearray(100 << 20)
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def run(code: str, *args: str, **environment: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *args], check=True, text=True, stdout=subprocess.PIPE,
                          env={"PYTHONPATH": ":".join(sys.path), **environment})  # fmt: skip
    return done.stdout.strip()


@pytest.mark.skipif(not GLIBC, reason="of glibc")
class TestKeptMemory:
    def test_pages_of_freed_blocks_are_not_asked_for_again(self):
        assert int(run(FAULTS, "kept")) < int(run(FAULTS, "plain")) / 4

    @pytest.mark.parametrize("variable", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
    def test_the_environment_has_the_last_word(self, variable):
        value = "1000000" if variable.startswith("MALLOC") else "glibc.malloc.arena_max=4"
        code = "from reinforce.allocator import keep_freed_memory; print(keep_freed_memory())"
        assert run(code, **{variable: value}) == "False"
        assert run(code) == "True"
