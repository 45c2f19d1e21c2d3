"""The targets of tools/fuzz_store.py, driven by hypothesis: bytes give the same values, or a StoreError of one line."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TOOL = Path(__file__).parents[2] / "tools/fuzz_store.py"
spec = importlib.util.spec_from_file_location("fuzz_store", TOOL)
assert spec is not None
fuzz_store = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fuzz_store)

FAST = {"manifest": 300, "plan": 300, "layout": 300, "chunk": 300, "codec": 300, "store": 150, "unsigned": 300}


@pytest.mark.parametrize("target", fuzz_store.TARGETS)
def test_no_bytes_do_more_than_raise_a_store_error(target, request):
    count = FAST[target] * (30 if request.config.getoption("--long") else 1)

    @settings(deadline=5000, max_examples=count, suppress_health_check=list(HealthCheck), database=None)
    @given(st.binary(max_size=400))
    def drive(data):
        fuzz_store.TARGETS[target](data)

    drive()
