"""Claimed units as teacher batches: the decoding side of a build, in this process or in spawned ones.

    B = views a batch, S = size_px, V = views an image

A unit's (view, row) pairs are rendered in the order of `unit_pairs` and cut into batches that never cross the unit. An
undecodable image keeps its places, as zeros, so that nothing shifts.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from reinforce.data import ImageSource, Listing, UnitImages
from reinforce.errors import ReinforceError, UndecodableImageError
from reinforce.job import Ledger
from reinforce.unit_captions import UnitCaptions, Words
from reinforce.units import unit_pairs
from reinforce.views import Policy, UnitReplayer
from reinforce.worker_process import as_it_is, enter_worker, raise_errors


@dataclass(frozen=True)
class ViewBatch:
    unit: int
    views: NDArray[np.int64]
    """(B,), of the policy"""
    rows: NDArray[np.int64]
    """(B,), within the unit."""
    images: torch.Tensor
    """(B, S, S, 3) uint8; (B, L) int64 tokens of captions."""
    is_last: bool
    skipped: dict[int, str] = field(default_factory=dict)
    """Rows met in this batch whose image cannot be decoded, with the reason."""


@dataclass(frozen=True)
class UnitRenderer:
    """Renders the views of any unit of a plan. Picklable."""

    source: ImageSource
    listing: Listing
    policy: Policy
    units: Sequence[Sequence[int]]
    """[shard, start, stop] of each unit, in positions of the listing."""
    views: range
    """Those of the policy that are rendered."""
    batch_size: int
    """Views a batch."""
    block_rows: int
    budget_bytes: int
    words: Words | None = None
    """Of a store of text features: what is shown instead of images."""

    def images(self, unit: int) -> UnitImages:
        return UnitImages.of(self.source, self.listing, *self.units[unit])

    def replayer(self, unit: int) -> UnitReplayer | UnitCaptions:
        images = self.images(unit)
        if self.words is not None:
            return UnitCaptions(self.words, images)
        return UnitReplayer(self.policy, images.keys, images.read, self.budget_bytes)

    def batches(self, unit: int) -> Iterator[ViewBatch]:
        images_of_unit, replayer = self.images(unit), self.replayer(unit)
        block = -1
        views, rows = unit_pairs(len(replayer.keys), len(self.views), self.block_rows)
        views += self.views.start
        for start in range(0, len(rows), self.batch_size):
            own = slice(start, start + self.batch_size)
            images, skipped = self._blank(len(rows[own])), {}
            for i, (view, row) in enumerate(zip(views[own].tolist(), rows[own].tolist(), strict=True)):
                if row // self.block_rows != block:
                    block = row // self.block_rows
                    replayer.hold(range(block * self.block_rows, (block + 1) * self.block_rows))
                    images_of_unit.prefetch(range(block * self.block_rows, (block + 2) * self.block_rows))
                try:
                    images[i] = replayer.view(row, view)
                except UndecodableImageError as error:
                    skipped[row] = str(error)
            is_last = own.stop >= len(rows)
            yield ViewBatch(unit, views[own], rows[own], torch.from_numpy(images), is_last, skipped)

    def _blank(self, count: int) -> NDArray[Any]:
        if self.words is not None:
            return self.words.blank(count)
        return np.zeros((count, self.policy.size_px, self.policy.size_px, 3), np.uint8)


class UnitQueue(Protocol):
    """Where decoding processes take units from. Picklable."""

    def units(self, worker: int, num_workers: int) -> Iterator[int]:
        """Those that are for this worker alone, to be rendered one after the other."""


class SupportsGet(Protocol):
    def get(self) -> int | None: ...


class ClaimedUnits:
    """Every unit whose claim is won; each worker starts at another place and all try all."""

    def __init__(self, ledger: Ledger, units: Sequence[int]) -> None:
        self.ledger, self.todo = ledger, list(units)

    def units(self, worker: int, num_workers: int) -> Iterator[int]:
        others = [unit for i, unit in enumerate(self.todo) if i % num_workers != worker]
        return filter(self.ledger.claim, self.todo[worker::num_workers] + others)


class AssignedUnits:
    """Units that somebody else claims and puts into a queue, one after the other."""

    def __init__(self, queue: SupportsGet) -> None:
        """`queue` is of `multiprocessing` where several processes take from it; None ends each of them."""
        self.queue = queue

    def units(self, worker: int, num_workers: int) -> Iterator[int]:
        return iter(self.queue.get, None)


class ViewFeed(IterableDataset[ViewBatch | ReinforceError]):
    """The batches of every unit that a queue gives."""

    def __init__(self, renderer: UnitRenderer, queue: UnitQueue) -> None:
        self.renderer, self.queue = renderer, queue

    def __iter__(self) -> Iterator[ViewBatch | ReinforceError]:
        info = get_worker_info()
        worker, num_workers = (info.id, info.num_workers) if info else (0, 1)
        try:
            for unit in self.queue.units(worker, num_workers):
                yield from self.renderer.batches(unit)
        except ReinforceError as error:
            yield error  # raised inside a worker it would reach the builder as another, of many lines


def open_feed(feed: ViewFeed, workers: int) -> Generator[ViewBatch]:
    """Iterate a feed in this process (0 workers) or in spawned ones, a few batches ahead.

    A unit's batches come in order, those of several workers as they are ready: one that has no unit yet is not waited
    for.
    """
    if workers == 0:
        return raise_errors(feed)
    loader = DataLoader(
        feed,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="spawn",
        collate_fn=as_it_is,
        worker_init_fn=enter_worker,
        prefetch_factor=4,
        in_order=False,
    )
    return raise_errors(loader)
