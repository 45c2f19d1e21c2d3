"""What a span of a gallery added to one tile of queries, as bytes: three plain arrays behind one another.

    R = rows (queries of the tile), n = entries of all rows, row by row

    counts (R,) int32, ids (n,) int32 or int64, scores (n,) float64; each as numpy writes an array to a .npy file.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from reinforce.curate.top_k import TopK
from reinforce.errors import CorruptStoreError

_KINDS = (("i4",), ("i4", "i8"), ("f8",))


def encode_part(found: TopK, ids: range) -> bytes:
    """The entries of `found` with ids in a range."""
    counts_R, ids_n, scores_n = found.entries(ids.start, ids.stop)
    file = io.BytesIO()
    for array in (counts_R.astype("<i4"), ids_n.astype(ids_n.dtype.newbyteorder("<")), scores_n.astype("<f8")):
        np.save(file, array, allow_pickle=False)
    return file.getvalue()


@dataclass(frozen=True)
class Part:
    """Entries, row by row."""

    counts_R: NDArray[np.signedinteger]
    ids_n: NDArray[np.signedinteger]
    scores_n: NDArray[np.float64]


def decode_part(data: bytes, num_rows: int, ids: range, name: str) -> Part:
    """Raises CorruptStoreError, naming `name`, for what no search of `ids` writes."""
    part = Part(*_arrays(data, name))
    counts_R, ids_n, scores_n = part.counts_R, part.ids_n, part.scores_n
    if len(counts_R) != num_rows or counts_R.min() < 0 or not counts_R.sum() == len(ids_n) == len(scores_n):
        raise CorruptStoreError(f"{name}: its arrays do not fit each other")
    if len(ids_n) and not (ids.start <= ids_n.min() and ids_n.max() < ids.stop and np.isfinite(scores_n).all()):
        raise CorruptStoreError(f"{name}: an entry is outside its span, or its score is no number")
    return part


def add_part(found: TopK, part: Part) -> None:
    """Show `found` the entries of a part."""
    rows_n = np.repeat(np.arange(len(part.counts_R)), part.counts_R)
    found.add(*(torch.from_numpy(array).to(found.device) for array in (rows_n, part.ids_n, part.scores_n)))


def _arrays(data: bytes, name: str) -> list[NDArray[Any]]:
    file, arrays = io.BytesIO(data), []
    for kinds in _KINDS:
        try:
            array = np.load(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise CorruptStoreError(f"{name} is not what a search writes") from error
        if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype.str[1:] not in kinds:
            raise CorruptStoreError(f"{name} holds other arrays than a search writes")
        arrays.append(array.astype(array.dtype.newbyteorder("="), copy=False))
    if file.read(1):
        raise CorruptStoreError(f"{name} has bytes behind its arrays")
    return arrays
