from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_stores import EveryAxisCodec, build_at

from reinforce.store.codecs import CODECS


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Power cuts are not tested here, and hundreds of small builds would mostly wait for the disk."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)


@pytest.fixture
def every_axis(monkeypatch: pytest.MonkeyPatch) -> type[EveryAxisCodec]:
    """The test's own codec, known to readers while the test runs."""
    monkeypatch.setitem(CODECS, EveryAxisCodec.name, EveryAxisCodec)
    return EveryAxisCodec


@pytest.fixture(scope="session")
def finished_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store that nobody changes."""
    root = tmp_path_factory.mktemp("finished") / "tiny.zarr"
    build_at(root)
    return root


@pytest.fixture
def store_copy(finished_store: Path, tmp_path: Path) -> Path:
    """A finished store of the test's own, to damage."""
    root = tmp_path / "copy.zarr"
    shutil.copytree(finished_store, root)
    return root
