"""The searches of one curation, each in a folder of its own, where a killed one goes on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reinforce.curate.embeddings import Vectors
from reinforce.curate.search import Matches, Neighbours
from reinforce.curate.search_job import SearchRequest, Strategy, run_search
from reinforce.curate.stored import EmbeddingStore
from reinforce.errors import UnfinishedSearchError
from reinforce.job import Share
from reinforce.progress import Progress
from reinforce.store import LocalObjects


@dataclass(frozen=True, kw_only=True)
class Searches:
    """Raise UnfinishedSearchError where others' parts of a divided search are not done."""

    folder: Path
    gallery: EmbeddingStore
    share: Share
    device: str
    on_cluster: bool
    """Spans are searched by the Ray cluster that this process is connected to."""
    quiet: bool

    def nearest(self, queries_QD: Vectors, k: int) -> Neighbours:
        """The k nearest items of every query."""
        found = self._run("query-balanced", queries_QD, k)
        assert isinstance(found, Neighbours)
        return found

    def best(self, queries_QD: Vectors, count: int) -> Matches:
        """The items nearest to any query."""
        found = self._run("best-matches", queries_QD, count)
        assert isinstance(found, Matches)
        return found

    def _run(self, strategy: Strategy, queries_QD: Vectors, count: int) -> Neighbours | Matches:
        objects = LocalObjects(self.folder / f"{strategy}-{count}")
        searched = self.gallery.searched
        request = SearchRequest(strategy=strategy, queries_QD=queries_QD, gallery=searched, count=count,
                                gallery_digest=self.gallery.store.manifest.digest)  # fmt: skip
        with Progress("search", searched.num_embedded, unit="items", quiet=self.quiet) as progress:
            if self.on_cluster:
                from reinforce.curate.cluster_search import search_on_cluster

                search_on_cluster(objects, request, self.gallery.location, self.share, self.device, progress)
            told = None if self.on_cluster else progress.update
            found = run_search(objects, request, self.share, device=self.device, progress=told)
        if found is None:
            raise UnfinishedSearchError("other processes search parts of the gallery: type the same command with "
                                        "--resume when they are done")  # fmt: skip
        return found
