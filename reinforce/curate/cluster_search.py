"""A divided search on a Ray cluster: actors search its spans and publish what they find, as other processes do."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

from reinforce.curate.embeddings import Vectors
from reinforce.curate.search_job import REQUEST, SearchJob, SearchRequest, Strategy, amount_of, bind, cut_spans
from reinforce.curate.stored import EmbeddingStore
from reinforce.engine.ray_engine import compute_on_ray
from reinforce.engine.unit_task import UnitTask, Workload
from reinforce.engine.work import WorkBook
from reinforce.job import Ledger, Owner, Share
from reinforce.progress import Progress
from reinforce.store import Objects

THREADS = 4
"""Of an actor without a GPU. All that it keeps and reads serves all of them."""


@dataclass(frozen=True, kw_only=True)
class SearchTask(UnitTask):
    """Spans of a stored gallery."""

    verb = "search"
    request = REQUEST

    strategy: Strategy
    queries_QD: Vectors
    count: int
    gallery: str
    """Where its store lies."""
    device: str

    def workload(self) -> Workload:
        gallery = EmbeddingStore(self.gallery).searched
        return Workload(num_units=len(cut_spans(gallery.num_units)), device=self.device, threads=THREADS, workers=0,
                        amount=partial(amount_of, gallery))  # fmt: skip

    def open_builder(self) -> SearchJob:
        """Raises as opening the store does, and UsageError where it is another one than the driver's."""
        gallery = EmbeddingStore(self.gallery)
        request = SearchRequest(strategy=self.strategy, queries_QD=self.queries_QD, gallery=gallery.searched,
                                count=self.count, gallery_digest=gallery.store.manifest.digest)  # fmt: skip
        return SearchJob(self.objects, request, self.device, self.owner)


def search_on_cluster(objects: Objects, request: SearchRequest, gallery: str, share: Share, device: str,
                      progress: Progress) -> None:  # fmt: skip
    """Have the spans of a share that are not done searched on the cluster that this process is connected to. `gallery`:
    where the store of the request's lies.

    Raises as `bind` and `compute_on_ray`; what is found stays.
    """
    bind(objects, request)
    task = SearchTask(objects=objects, owner=Owner.here(), strategy=request.strategy, queries_QD=request.queries_QD,
                      count=request.count, gallery=gallery, device=device.partition(":")[0])  # fmt: skip
    ledger = Ledger(objects, len(cut_spans(request.gallery.num_units)), task.owner)
    done = set(ledger.done())
    progress.update(amount_of(request.gallery, done))
    try:
        todo = [span for span in share.units(ledger.num_units) if span not in done]
        compute_on_ray(task, todo, WorkBook(progress, device, time.time()))
    finally:
        ledger.release()
