"""The approximate searches of one curation: an index built when it is first asked, and what it found; both are kept on
disk."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from reinforce.curate.approximate import ApproximateIndex, ApproximateNeighbours
from reinforce.curate.embeddings import Vectors
from reinforce.curate.search import Neighbours
from reinforce.curate.stored import EmbeddingStore
from reinforce.progress import Progress
from reinforce.whole_file import write_whole

INDEX = "approximate.index"
"""Of one folder: a set is gone on with only by the same index of the same gallery."""


class ApproximateSearches:
    """What was found for a depth is read again, so that a set is the same however often it is gone on with."""

    def __init__(self, folder: Path, gallery: EmbeddingStore, index: str, probes: int | None, *, seed: int, device: str,
                 quiet: bool) -> None:  # fmt: skip
        self.folder, self.gallery, self.words, self.probes = folder, gallery, index, probes
        self.seed, self.device, self.quiet = seed, device, quiet
        self._index: ApproximateIndex | None = None
        self._last: ApproximateNeighbours | None = None

    def nearest(self, queries_QD: Vectors, k: int) -> Neighbours:
        """The k nearest items of every query, of which some lack."""
        path = self.folder / f"approximate-{k}.npz"
        self._last = _read(path)
        if self._last is None:
            self._last = found = self._opened_index().nearest(queries_QD, k, device=self.device)
            arrays = {"items": found.neighbours.items_Qk, "scores": found.neighbours.scores_Qk,
                      "recall": found.recall, "sampled_queries": found.sampled_queries}  # fmt: skip
            write_whole(path, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
        return self._last.neighbours

    def record(self) -> dict[str, Any]:
        """What a set's summary says of the last search, from which its items are."""
        assert self._last is not None
        return {"index": self.words, "probes": self.probes, "recall": round(self._last.recall, 6),
                "sampled_queries": self._last.sampled_queries}  # fmt: skip

    def _opened_index(self) -> ApproximateIndex:
        if self._index is None:
            searched = self.gallery.searched
            with Progress("index", searched.num_embedded, unit="items", quiet=self.quiet) as progress:
                self._index = ApproximateIndex(searched, self.words, self.probes, seed=self.seed,
                                               kept=self.folder / INDEX, progress=progress.update)  # fmt: skip
        return self._index


def _read(path: Path) -> ApproximateNeighbours | None:
    """None where there is none, or a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            neighbours = Neighbours(arrays["items"], arrays["scores"])
            return ApproximateNeighbours(neighbours, float(arrays["recall"]), int(arrays["sampled_queries"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
