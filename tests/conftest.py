"""Options of the whole suite: `--long` also runs what takes minutes; its outcome is recorded in docs/benchmarks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reinforce import catalog

if TYPE_CHECKING:
    from azure_server import Container
    from faulty_proxy import FaultyProxy
    from s3_server import Bucket


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests register goes into a catalog of their own, which begins with what the user's knows."""
    home, own = catalog.home(), tmp_path_factory.mktemp("home")
    if (home / "catalog.toml").is_file():
        shutil.copy(home / "catalog.toml", own)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REINFORCE_HOME", str(own))
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests marked long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    left_out = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


@pytest.fixture(scope="session")
def proxy() -> Iterator[FaultyProxy]:
    """In front of a real S3 server on loopback; the environment leads there while it runs."""
    from s3_server import s3_server

    with s3_server() as proxy:
        yield proxy


@pytest.fixture
def bucket(proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty one, with a home and a working folder of the test's own."""
    from s3_server import Bucket

    monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield Bucket(proxy)
    proxy.faults.clear()
    proxy.choose = lambda: ""


@pytest.fixture(scope="session")
def azure_proxy() -> Iterator[FaultyProxy]:
    """In front of a real Azure server on loopback; the environment leads there while it runs."""
    from azure_server import azure_server

    with azure_server() as proxy:
        yield proxy


@pytest.fixture
def container(azure_proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Container]:
    """An empty one, with a home and a working folder of the test's own."""
    from azure_server import Container

    monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield Container(azure_proxy)
    azure_proxy.faults.clear()
    azure_proxy.choose = lambda: ""
