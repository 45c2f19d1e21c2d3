"""What a span found, as bytes: read back exactly, and refused where no search wrote it."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from reinforce.curate.search_parts import add_part, decode_part, encode_part
from reinforce.curate.top_k import TopK
from reinforce.errors import CorruptStoreError


def top(rows: int = 2) -> TopK:
    return TopK(rows, 3, 100, lambda ids: ids, torch.device("cpu"))


def arrays(*values: np.ndarray) -> bytes:
    file = io.BytesIO()
    for value in values:
        np.save(file, value)
    return file.getvalue()


def test_entries_of_a_range_come_back() -> None:
    found, again = top(), top()
    found.add(torch.tensor([0, 0, 1]), torch.tensor([5, 20, 7]), torch.tensor([0.5, 0.25, -1.0], dtype=torch.float64))
    add_part(again, decode_part(encode_part(found, range(5, 20)), 2, range(5, 20), "part"))
    counts, ids, scores = again.entries(0, 100)
    assert (counts.tolist(), ids.tolist(), scores.tolist()) == ([1, 1], [5, 7], [0.5, -1.0])


COUNTS, IDS, SCORES = np.array([1, 1], np.int32), np.array([5, 7], np.int32), np.array([0.5, -1.0])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY",
        arrays(COUNTS, IDS),
        arrays(COUNTS, IDS, SCORES) + b"x",
        arrays(COUNTS[:1], IDS, SCORES),
        arrays(COUNTS + 1, IDS, SCORES),
        arrays(np.array([3, -1], np.int32), IDS, SCORES),
        arrays(COUNTS, IDS + 90, SCORES),
        arrays(COUNTS, IDS - 5, SCORES),
        arrays(COUNTS, IDS, SCORES * np.nan),
        arrays(COUNTS, IDS, SCORES.astype(np.float32)),
        arrays(COUNTS, IDS[:, None], SCORES),
        arrays(COUNTS, IDS, np.array([None, None])),
    ],
)  # fmt: skip
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptStoreError, match="part"):
        decode_part(data, 2, range(1, 90), "part")
