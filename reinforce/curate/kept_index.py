"""An index of faiss on disk, in one file that is there whole or not at all.

    SHA-256 of what follows, 32 bytes; the items at its places, as numpy writes an array; the index, as faiss does
"""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import Any, BinaryIO

import click
import numpy as np

from reinforce.curate.embeddings import Items
from reinforce.errors import StoreAccessError
from reinforce.whole_file import write_whole

DIGEST_BYTES = 32


def keep(path: Path, index: Any, items_N: Items) -> None:
    """Says on stderr where the disk does not take it: it can be built again."""
    faiss = _faiss()

    def write(file: BinaryIO) -> None:
        file.write(bytes(DIGEST_BYTES))
        hashed = _HashedWriter(file)
        np.lib.format.write_array(hashed, items_N, allow_pickle=False)
        faiss.write_index(index, faiss.PyCallbackIOWriter(hashed.write))
        file.seek(0)
        file.write(hashed.sha256.digest())

    try:
        write_whole(path, write)
    except (StoreAccessError, RuntimeError) as error:
        click.echo(f"warning: the index is not kept: {' '.join(str(error).split())}", err=True)


def load(path: Path) -> tuple[Any, Items] | None:
    """None where there is none, a damaged one, or one of another faiss, which is said on stderr."""
    faiss = _faiss()
    try:
        with path.open("rb") as file:
            digest = file.read(DIGEST_BYTES)
            if hashlib.file_digest(file, "sha256").digest() != digest:
                return None
            file.seek(DIGEST_BYTES)
            items_N = np.lib.format.read_array(file, allow_pickle=False)
            return faiss.read_index(faiss.PyCallbackIOReader(file.read)), items_N
    except OSError:
        return None
    except RuntimeError:  # of faiss, whose versions know different indexes
        click.echo(f"warning: {path} is an index of another faiss: it is built again", err=True)
        return None


class _HashedWriter:
    def __init__(self, file: BinaryIO) -> None:
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self.file.write(data)


def _faiss() -> Any:
    return importlib.import_module("faiss")  # whose types lack callbacks
