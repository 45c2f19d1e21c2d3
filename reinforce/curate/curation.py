"""One curation: what is read, in which order it is decided, and what is written.

N = items, E = encoders, D = dimensions of all encoders together
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce import catalog
from reinforce.curate.approximate import probes_of
from reinforce.curate.approximate_searches import ApproximateSearches
from reinforce.curate.cleaning import Cleaning, Filter
from reinforce.curate.curate import CurateConfig
from reinforce.curate.curated import DECISIONS, DUPLICATES, LEAKS, SEARCHES, Record
from reinforce.curate.decisions import Decision, read_decisions, write_decisions
from reinforce.curate.embeddings import Items, Vectors, cosines
from reinforce.curate.filters import CropFilter, DuplicateFilter, LeakFilter
from reinforce.curate.originals import Originals
from reinforce.curate.queries import QueryImages, open_queries
from reinforce.curate.query_set import Queries, class_queries, image_queries, queries_digest
from reinforce.curate.request import begin, check_way, finish, give_up, sweep, working
from reinforce.curate.retrieval import BalancedRetrieval, BestRetrieval, RandomRetrieval, Retrieval
from reinforce.curate.searches import Searches
from reinforce.curate.select import Selection
from reinforce.curate.stored import EmbeddingStore, StoredEmbeddings
from reinforce.curate.summary import summary_of
from reinforce.curate.targets import open_targets, target_identity
from reinforce.curate.writing import Contents, curated_items, is_written, members_of, query_items, write_set
from reinforce.data import check_outside
from reinforce.errors import UsageError
from reinforce.job import Share
from reinforce.locking import FolderHold
from reinforce.progress import Progress
from reinforce.teacher import choose_device

MAP_SAMPLES = 600
"""Of each kind, for the map."""
CHUNK = 4096
"""Items whose vectors are read together."""


class Curation:
    """A request whose gallery is open and whose queries have vectors."""

    def __init__(self, config: CurateConfig) -> None:
        """Raises all that can be wrong with a request before anything is written."""
        self.config, self.folder = config, Path(config.out)
        self.gallery = EmbeddingStore(config.gallery)
        if config.query is not None:
            catalog.resolve_data(config.query)
        check_way(self.folder, overwrite=config.overwrite, resume=config.resume or config.shard is not None)
        self.device = str(choose_device(config.device))
        self.probes = None if config.index is None else probes_of(self.gallery.widths, config.index, config.probes)
        self.decisions = self._decisions()
        self.originals = Originals(self.gallery, config.transfer)
        for place in (self.originals.place, *([str(config.query)] if config.has_query_images else [])):
            check_outside(self.folder, str(catalog.resolve_data(place).path))
        self.images = self._open_images()
        self.queries: Queries | None = None
        if config.strategy == "text":
            assert config.query is not None
            self.queries = class_queries(config.query, config.task, self.gallery, config.encoder, config.templates,
                                         self.device)  # fmt: skip
        elif config.strategy != "random":
            assert self.images is not None
            self.images, self.queries = image_queries(self.images, self.gallery, config.encoder, self.device)

    @property
    def num_queries(self) -> int:
        return 0 if self.queries is None else len(self.queries.names)

    def run(self) -> None:
        """Retrieve, clean, write. Raises UsageError where there are too few items."""
        is_new = begin(self.folder, self._request(), overwrite=self.config.overwrite)
        with working(self.folder):
            self._make(is_new)
        sweep(self.folder)

    def _make(self, is_new: bool) -> None:
        try:
            filters: list[Filter] = [own for own in (self.crops, self.duplicates, self.leaks) if own is not None]
            selection = Cleaning(self._retrieval(), filters).select(self.config.size)
        except UsageError:
            if is_new:
                give_up(self.folder)
            raise
        with FolderHold(self.folder, waits=True):  # parts of a search may end at once
            self._write(selection)
            finish(self.folder)

    def _write(self, selection: Selection) -> None:
        contents = self._contents(selection)
        if self.leaks is not None:
            write_decisions(self.folder / DECISIONS, self.leaks.found.values(), self.decisions)
        if is_written(self.folder, contents):
            return
        members = members_of(selection, contents.items, self.originals, contents.queries, self.images)
        with Progress("curate", len(members), quiet=self.config.quiet) as progress:
            write_set(self.folder, contents, members, progress.update)

    @cached_property
    def approximate(self) -> ApproximateSearches | None:
        config = self.config
        if config.index is None:
            return None
        return ApproximateSearches(self.folder / SEARCHES, self.gallery, config.index, self.probes, seed=config.seed,
                                   device=self.device, quiet=config.quiet)  # fmt: skip

    @cached_property
    def crops(self) -> CropFilter | None:
        return None if self.config.keep_duplicates else CropFilter(self.gallery.siblings)

    @cached_property
    def duplicates(self) -> DuplicateFilter | None:
        if self.config.keep_duplicates:
            return None
        return DuplicateFilter(self._whole_vectors, self.gallery.widths, self.config.max_similarity, self.device)

    @cached_property
    def leaks(self) -> LeakFilter | None:
        config = self.config
        if config.decontaminate is None:
            return None
        targets = open_targets(config.decontaminate, self.gallery, config.encoder, self.folder, config)
        return LeakFilter(targets, self._whole_vectors, self.originals.key, self.gallery.widths,
                          config.max_target_cosine, self.decisions, self.device)  # fmt: skip

    def _decisions(self) -> dict[str, Decision]:
        path = self.config.decisions_path
        if self.config.decisions is None and not path.exists():
            return {}
        return read_decisions(path, known=set(self.gallery.keys))

    def _open_images(self) -> QueryImages | None:
        config = self.config
        if not config.has_query_images:
            return None
        assert config.query is not None
        return open_queries(config.query, task=config.task, shots=config.shots, num_labelled=config.num_labelled,
                            limit=config.limit, seed=config.seed)  # fmt: skip

    def _retrieval(self) -> Retrieval:
        config, searched = self.config, self.gallery.searched
        if self.queries is None:
            return RandomRetrieval(searched, config.seed)
        searches = Searches(folder=self.folder / SEARCHES, gallery=self.gallery, share=Share.parse(config.shard),
                            device=self.device, on_cluster=config.engine == "ray", quiet=config.quiet)  # fmt: skip
        if config.strategy == "best-matches":
            return BestRetrieval(self.queries.vectors, searched, searches.best)
        nearest = searches.nearest if self.approximate is None else self.approximate.nearest
        return BalancedRetrieval(self.queries.vectors, self.queries.names, searched, nearest, config.seed)

    def _whole_vectors(self, items: Items) -> Vectors:
        """Of the items' original images."""
        return in_order(self.gallery.wholes, self.gallery.whole(items))

    def _contents(self, selection: Selection) -> Contents:
        names = () if self.queries is None else self.queries.names
        items = curated_items(selection, self._cosines(selection), names, self.originals)
        queries = [] if self.images is None else query_items(self.images, items)
        records: dict[str, Sequence[Record]] = {
            DUPLICATES: [] if self.duplicates is None else self.duplicates.records(self.originals.key),
            LEAKS: [] if self.leaks is None else list(self.leaks.found.values()),
        }
        approximate = None if self.approximate is None else self.approximate.record()
        summary = summary_of(self.config, self.originals, self.images, selection, self.num_queries or len(queries),
                             approximate, self.duplicates, self.leaks)  # fmt: skip
        return Contents(items, queries, records, self._samples(selection), summary)

    def _cosines(self, selection: Selection) -> NDArray[np.float64]:
        """(N, E) with the query of each item; (N, 0) where items were drawn."""
        if self.queries is None:
            return np.empty((len(selection), 0))
        found = in_order(self.gallery.searched, selection.items)
        queries = self.queries.vectors[selection.queries]
        widths = self.gallery.widths
        return np.concatenate([cosines(found[start : start + CHUNK], queries[start : start + CHUNK], widths)
                               for start in range(0, len(found), CHUNK)])  # fmt: skip

    def _samples(self, selection: Selection) -> dict[str, NDArray[np.float16]]:
        """Vectors for the map, spread evenly."""
        everything = self.gallery.embedded_samples * self.gallery.store.num_views
        kinds = {"curated": (self.gallery.searched, selection.items), "gallery": (self.gallery.wholes, everything)}
        samples = {name: in_order(own, spread(items)) for name, (own, items) in kinds.items()}
        queries = np.empty((0, sum(self.gallery.widths)), np.float16) if self.queries is None else self.queries.vectors
        return {"query": queries[spread(np.arange(len(queries)))], **samples}

    def _request(self) -> dict[str, Any]:
        config = self.config
        return {
            "format": 1,
            "gallery": self.gallery.store.manifest.digest,
            "size": config.size,
            "strategy": config.strategy,
            "seed": config.seed,
            "queries": queries_digest(self.queries),
            "query_images": [] if self.images is None else list(self.images.keys),
            "max_similarity": None if config.keep_duplicates else config.max_similarity,
            "decontaminate": None if config.decontaminate is None else target_identity(config.decontaminate),
            "max_target_cosine": None if config.decontaminate is None else config.max_target_cosine,
            "index": config.index,
            "probes": self.probes,
        }


def in_order(embeddings: StoredEmbeddings, items: Items) -> Vectors:
    """(N, D) of any items, read in the gallery's order."""
    order = np.argsort(items, kind="stable")
    vectors = np.empty((len(items), sum(embeddings.widths)), np.float16)
    vectors[order] = embeddings.vectors(items[order])
    return vectors


def spread(items: Items) -> Items:
    """At most MAP_SAMPLES of them, evenly."""
    if len(items) <= MAP_SAMPLES:
        return items
    return items[np.linspace(0, len(items) - 1, MAP_SAMPLES).round().astype(np.int64)]
