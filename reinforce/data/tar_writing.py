"""Writing WebDataset tars whose bytes are a function of their members' names and data: no owner, no time, mode 644."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from typing import BinaryIO


def write_tar(file: BinaryIO, members: Iterable[tuple[str, bytes]]) -> None:
    """Write (name, data) pairs in their order. Short ASCII names are plain USTAR, others have a PAX header."""
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
