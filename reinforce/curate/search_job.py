"""A search that may be killed, and divided: spans of a gallery in the one job shape.

    search.json              what is searched for; create-only, so a folder never mixes two searches
    claims/...               who searches which span (`job`)
    parts/<sha256>.npy       what a span added to one tile of queries: three plain arrays, one behind the other
    units/<span>.json        a span is done; names its parts, so that bytes which changed are refused

A process keeps one running state of all spans that it has searched or found done, whoever did them; of a span only
what is among the k best of that state is published. What is left out has k better entries in parts of other spans, so
the k best of all parts are the k best of the gallery, whichever process searched what, and when.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import click
import numpy as np
import torch

from reinforce.curate.embeddings import Embeddings, Items, Vectors
from reinforce.curate.search import (
    NOTHING,
    Advance,
    BestMatchSearch,
    Matches,
    NearestSearch,
    Neighbours,
    Search,
    as_items,
)
from reinforce.curate.search_parts import Part, add_part, decode_part, encode_part
from reinforce.curate.top_k import TopK
from reinforce.engine.work import Work
from reinforce.errors import CorruptStoreError, UsageError
from reinforce.job import Ledger, Owner, Share
from reinforce.store import ObjectExistsError, Objects, canonical_json, marker_path
from reinforce.store.canonical import Fields, is_sha256, parse_object, sha256_hex

if TYPE_CHECKING:
    from reinforce.engine.commits import OthersFollow
    from reinforce.engine.feed import UnitQueue

Strategy = Literal["query-balanced", "best-matches"]

REQUEST = "search.json"
FORMAT = 1
WHOLE = Share()
MOST_SPANS = 512
"""A span is what a kill costs; its parts are put to disk."""


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """What is searched for."""

    strategy: Strategy
    """The nearest of every query, or the nearest to any query."""
    queries_QD: Vectors
    gallery: Embeddings
    gallery_digest: str
    """SHA-256, or any other text that no other gallery has."""
    count: int
    """How many of every query, or in all."""
    excluded: Items = field(default_factory=lambda: NOTHING)
    """Items that are not to be found, or a mask of all."""

    def record(self) -> bytes:
        """Equal for equal searches."""
        excluded = as_items(self.excluded)
        return canonical_json({
            "format": FORMAT, "strategy": self.strategy, "count": self.count, "gallery": self.gallery_digest,
            "queries": sha256_hex(np.ascontiguousarray(self.queries_QD, np.float16).tobytes()),
            "num_queries": len(self.queries_QD), "widths": list(self.gallery.widths),
            "items": self.gallery.num_items, "units": self.gallery.num_units,
            "excluded": sha256_hex(excluded.astype("<i8").tobytes()) if len(excluded) else None,
        })  # fmt: skip

    def search(self, device: str) -> Search:
        """A new one, that has found nothing. Raises UsageError, EmbeddingError."""
        kind = NearestSearch if self.strategy == "query-balanced" else BestMatchSearch
        return kind(self.queries_QD, self.gallery, self.count, device)


def run_search(objects: Objects, request: SearchRequest, share: Share = WHOLE, *, device: str = "cpu",
               progress: Advance | None = None) -> Neighbours | Matches | None:  # fmt: skip
    """Search the spans of a share that nobody has searched, and give what was found, or None while others' spans lack.

    Whoever calls it when all spans are done gets the result: equal to the last bit to that of `nearest` or
    `best_matches`. `progress` is told of spans found done, too. What is damaged counts as not done, which is said on
    stderr. Raises UsageError where the folder holds another search, CorruptStoreError where it does not say which.
    """
    job = SearchJob(objects, request, device, Owner.here(), progress or (lambda _: None))
    try:
        job.load_done()
        for span in share.units(len(job.spans)):
            job.search(span)
        job.load_done()
    finally:
        job.ledger.release()
    return job.running.result() if job.is_done else None


def bind(objects: Objects, request: SearchRequest) -> None:
    """Make the folder one of this search. Raises UsageError where it is one of another."""
    record = request.record()
    try:
        objects.put_new(REQUEST, record)
    except ObjectExistsError:
        there = objects.get(REQUEST)
        if there != record:
            theirs, ours = _parse_request(objects, there), parse_object(record, REQUEST)
            names = ", ".join(name for name in ours if theirs.get(name) != ours[name])
            raise UsageError(f"{objects.name} holds a search for something else (its {names}): "
                             "remove it, or name another folder") from None  # fmt: skip


def _parse_request(objects: Objects, data: bytes) -> dict[str, Any]:
    try:
        return parse_object(data, REQUEST)
    except CorruptStoreError as error:
        raise CorruptStoreError(f"{objects.name}/{REQUEST} is damaged: remove the folder {objects.name}, then type the "
                                "same command with --resume") from error  # fmt: skip


class SearchJob:
    """A running search and the folder that it shares with others. See `UnitWorker`."""

    def __init__(self, objects: Objects, request: SearchRequest, device: str, owner: Owner,
                 progress: Advance = lambda _: None) -> None:  # fmt: skip
        """Raises as `bind`, and UsageError and EmbeddingError for what cannot be searched."""
        self.running = request.search(device)
        bind(objects, request)
        self.objects, self.request, self.progress = objects, request, progress
        self.spans = cut_spans(request.gallery.num_units)
        self.ledger = Ledger(objects, len(self.spans), owner)
        self.device = torch.device(device)
        self.known: set[int] = set()

    @property
    def is_done(self) -> bool:
        return len(self.known) == len(self.spans)

    def search(self, span: int) -> None:
        """Search and publish a span, unless it is known already or another process has it."""
        if span not in self.known and self.ledger.claim(span):
            self._publish(span)

    def build(self, queue: UnitQueue, workers: int, others_follow: OthersFollow) -> Iterator[Work]:
        """Search and publish claimed spans, one after the other."""
        for span in queue.units(0, 1):
            started = time.monotonic()
            num_bytes = self._publish(span)
            amount = amount_of(self.request.gallery, [span])
            yield Work(amount=amount, units=(span,), num_bytes=num_bytes, seconds=time.monotonic() - started)

    def _publish(self, span: int) -> int:
        """Bytes written."""
        items = self.running.run(self.spans[span], self.request.excluded, self.progress)
        ids = range(items.start * self.running.ids_per_item, items.stop * self.running.ids_per_item)
        parts, num_bytes = [], 0
        for found in self.running.found:
            data = encode_part(found, ids)
            parts.append(self._put(data))
            num_bytes += len(data)
        marker = {"span": span, "first_item": items.start, "stop_item": items.stop, "parts": parts}
        with contextlib.suppress(ObjectExistsError):  # who took a claim for stale has searched the same
            self.objects.put_new(marker_path(span), canonical_json(marker))
        self.known.add(span)
        return num_bytes

    def load_done(self) -> None:
        """Take over all spans that are done and not known; what is damaged is no longer done."""
        for span in sorted(set(self.ledger.done()) - self.known):
            try:
                ids, digests = self._sound_parts(span)
            except FileNotFoundError:  # another process has found it damaged
                continue
            except CorruptStoreError as error:
                click.echo(f"warning: {error}: its span is searched again", err=True)
                self.ledger.reopen(span)
                continue
            for digest, found in zip(digests, self.running.found, strict=True):
                add_part(found, self._part(digest, found, ids))
            self.known.add(span)
            gallery = self.request.gallery
            self.progress(len(ids) // self.running.ids_per_item * gallery.num_embedded // gallery.num_items)

    def _sound_parts(self, span: int) -> tuple[range, Sequence[str]]:
        """A done span's ids and the hashes of its parts, each of which is read before any is taken over: half a span
        would come twice. Raises CorruptStoreError."""
        path = marker_path(span)
        marker = Fields(parse_object(self.objects.get(path), path), path)
        first = marker.integer("first_item", 0, self.request.gallery.num_items)
        stop = marker.integer("stop_item", first, self.request.gallery.num_items)
        ids = range(first * self.running.ids_per_item, stop * self.running.ids_per_item)
        digests = marker.items("parts")
        if len(digests) != len(self.running.found) or not all(map(is_sha256, digests)):
            raise CorruptStoreError(f"{self.objects.name}: {path} does not name the parts of this search")
        for digest, found in zip(digests, self.running.found, strict=True):
            self._part(digest, found, ids)
        return ids, digests

    def _part(self, digest: str, found: TopK, ids: range) -> Part:
        """Raises CorruptStoreError."""
        return decode_part(self._get(digest), len(found), ids, f"{self.objects.name}: {part_path(digest)}")

    def _put(self, data: bytes) -> str:
        """Publish a part under its own hash: equal ones are one object, and different ones never meet."""
        digest = sha256_hex(data)
        try:
            self.objects.put_new(part_path(digest), data)
        except ObjectExistsError:
            if self.objects.get(part_path(digest)) != data:  # damaged
                self.objects.delete(part_path(digest))
                return self._put(data)
        return digest

    def _get(self, digest: str) -> bytes:
        try:
            data = self.objects.get(part_path(digest))
        except FileNotFoundError:
            data = b""
        if sha256_hex(data) != digest:
            raise CorruptStoreError(f"{self.objects.name}: {part_path(digest)} is missing or damaged")
        return data


def part_path(digest: str) -> str:
    return f"parts/{digest}.npy"


def amount_of(gallery: Embeddings, spans: Iterable[int]) -> int:
    """Vectors in spans, if all units had as many."""
    cut, each = cut_spans(gallery.num_units), gallery.num_embedded
    ends = [(cut[span].start, cut[span].stop) for span in spans]
    return sum(each * stop // gallery.num_units - each * start // gallery.num_units for start, stop in ends)


def cut_spans(num_units: int) -> list[range]:
    """Units in spans: as many to each but the last, and no more spans than MOST_SPANS."""
    size = max(1, -(-num_units // MOST_SPANS))
    return [range(start, min(start + size, num_units)) for start in range(0, num_units, size)]
