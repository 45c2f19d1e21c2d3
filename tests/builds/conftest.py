"""Fixtures of the tests of builds; what they are made of is in tiny_builds.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_builds import make_images, make_segmenter, make_teacher


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """A plan fixes the number of threads: these processes and those that they start must begin with the same."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", params=[make_teacher, make_segmenter], ids=["rows", "maps"])
def teacher(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of either kind: what a build promises holds for both."""
    make: Callable[[Path], Path] = request.param
    return make(tmp_path_factory.mktemp("models") / "tiny-teacher")


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("transfer") / "shapes")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"
