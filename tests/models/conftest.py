from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Equal sums need equal threads, and other tests share the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalog of its own and a working folder without reinforce.toml."""
    home = tmp_path / "home"
    monkeypatch.setenv("REINFORCE_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    return home
