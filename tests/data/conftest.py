from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from PIL import Image

Files = Mapping[str, bytes]


def encode(color: int = 0, size: tuple[int, int] = (5, 3), format_name: str = "PNG", mode: str = "L") -> bytes:
    """A plain image; another `color` gives other bytes."""
    buffer = io.BytesIO()
    Image.new(mode, size, color).save(buffer, format_name)
    return buffer.getvalue()


def write_tree(root: Path, files: Files) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def tar_bytes(files: Files, format_code: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format_code) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[Files], str]:
    """Writes files below a fresh folder and returns it as a location."""
    return lambda files: str(write_tree(tmp_path / "set", files))


@pytest.fixture(scope="session")
def image() -> Callable[..., bytes]:
    return encode


@pytest.fixture(scope="session")
def tar() -> Callable[..., bytes]:
    return tar_bytes
