"""The join of a store's targets and the pixels that they belong to: what distilling, auditing and your loop iterate.

    B = batch, S = size_px, C = channels (classes, or dimensions of features), V = views, U = rows a unit

    dataset = open_dataset("cc3m.zarr")
    for batch in dataset.batches(epoch=0, batch_size=256):
        ...                                 # batch.images (B, S, S, 3) uint8, batch.targets (B, C) float32

Every encoded image is hashed when it is read and must be the one that the teacher saw.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from reinforce import catalog
from reinforce.data import ImageSource, UnitImages, check_keys_match, find_shards, open_source
from reinforce.data.sources import remote_source
from reinforce.ensemble import EnsembleReader, check_ensemble
from reinforce.errors import MissingDataError, StoreError, UsageError
from reinforce.store import DENSE_LOGITS, STATE_OK, Store, TargetReader
from reinforce.store.schema import check_described
from reinforce.views import DriftReport, Fingerprint, UnitReplayer, policy_from_json
from reinforce.views import check as check_fingerprint
from reinforce.views import compare as compare_fingerprint
from reinforce.views.replay import draw_params

K = TypeVar("K")
T = TypeVar("T")

WINDOW_UNITS = 8
HELD_OUT_SHARE = 20
HELD_OUT_ROWS = 4096
REPLAYER_BYTES = 8 << 20
BATCHES_AHEAD = 8
"""Targets of so many later batches are read while this one is used."""


@dataclass(frozen=True, slots=True)
class Batch:
    images: NDArray[np.uint8]
    """(B, S, S, 3), the replayed views."""
    targets: NDArray[np.float32]
    """(B, C), the decoded targets of just these views, logits or features; (B, h, w, C) for a store of maps."""
    rows: NDArray[np.int64]
    """(B,), row ids in the store."""
    views: NDArray[np.int64]
    """(B,), view indices."""
    valid: NDArray[np.bool_] | None = None
    """(B, S, S), of dense-logits: False where a view shows padding and not the image."""


class ReinforcedDataset:
    """Random access to (view, target) pairs by row and epoch. Picklable: spawn-safe workers reopen the files.

    Epoch e sees view (e + unit) mod V of a sample, so that one chunk per unit is read per epoch.
    """

    def __init__(self, store: Store, source: ImageSource, others: Sequence[Store] = ()) -> None:
        """`others`: further teachers' stores of the same views, whose predictions are averaged with the first's.

        Raises TransferMismatchError where the source lists other samples than the store, UsageError where the stores
        are not of the same views.
        """
        self.store = store
        self.stores = (store, *others)
        """One, or those of an ensemble."""
        self.source = source
        self.policy = policy_from_json(store.policy_json)
        self.shard_starts, self.first_shard = _check_source(store, source)
        self.sha64 = store.sha64()
        self.states = store.states()
        self.targets: TargetReader | EnsembleReader = TargetReader(store)
        if others:
            check_ensemble(self.stores)
            self.states = np.max([one.states() for one in self.stores], axis=0)
            self.targets = EnsembleReader(self.stores)
        self._replayers: OrderedDict[int, UnitReplayer] = OrderedDict()

    @property
    def num_samples(self) -> int:
        """Rows that have a target."""
        return int((self.states == STATE_OK).sum())

    @property
    def num_views(self) -> int:
        return self.store.num_views

    @property
    def num_channels(self) -> int:
        return self.store.num_channels

    @property
    def size_px(self) -> int:
        return self.policy.size_px

    def held_out(self) -> NDArray[np.int64]:
        """Rows kept from training, to choose the best student without labels: whole units where there are 20 or more
        (at most about 4,096 rows), else every twentieth row."""
        num_units, unit_rows = self.store.num_units, self.store.unit_rows
        if num_units < HELD_OUT_SHARE:
            rows = np.flatnonzero(self.states == STATE_OK)
            return rows[HELD_OUT_SHARE - 1 :: HELD_OUT_SHARE] if len(rows) >= HELD_OUT_SHARE else rows[:0]
        count = max(1, min(num_units // HELD_OUT_SHARE, HELD_OUT_ROWS // unit_rows))
        units = (np.arange(count) * num_units + num_units // 2) // count
        return np.concatenate([self._unit_ok_rows(unit) for unit in units.tolist()])

    def epoch_order(self, epoch: int, seed: int = 0, window: int = WINDOW_UNITS) -> NDArray[np.int64]:
        """Every training row once: units in random order, rows shuffled within windows of `window` units.

        A function of (store, epoch, seed, window) alone: neither ranks nor workers change it. Ranks take strided
        subsets of its batches.
        """
        stream = np.random.Philox(key=[seed, 0x6F72646572], counter=[0, epoch, 0, 0])
        order = np.argsort(stream.random_raw(self.store.num_units), kind="stable")
        held_out = self.held_out()
        parts = []
        for start in range(0, len(order), window):
            rows = np.concatenate([self._unit_ok_rows(unit) for unit in order[start : start + window].tolist()])
            rows = rows[~np.isin(rows, held_out)]
            parts.append(rows[np.argsort(stream.random_raw(len(rows)), kind="stable")])
        return np.concatenate(parts)

    def view_index(self, rows: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
        return (epoch + rows // self.store.unit_rows) % self.num_views

    def batches(self, epoch: int, batch_size: int, *, seed: int = 0) -> Iterator[Batch]:
        """The training rows of an epoch in `epoch_order`, the last batch shorter; targets are read ahead in a thread.

        Raises as `load`.
        """
        order = self.epoch_order(epoch, seed)
        views = self.view_index(order, epoch)
        for start in range(0, len(order), batch_size):
            soon = slice(start, start + (1 + BATCHES_AHEAD) * batch_size)
            self.targets.prefetch(order[soon], views[soon])
            yield self.load(order[start : start + batch_size], epoch)

    def load(self, rows: NDArray[np.int64], epoch: int) -> Batch:
        """The views and targets of some rows in this epoch. Raises TransferMismatchError for an image whose bytes
        changed, CorruptStoreError for a damaged object."""
        rows = np.asarray(rows, np.int64)
        views = self.view_index(rows, epoch)
        self._ask_ahead(rows, views)
        images = np.empty((len(rows), self.size_px, self.size_px, 3), np.uint8)
        valid = np.empty(images.shape[:3], np.bool_) if self.store.target == DENSE_LOGITS else None
        for i, (row, view) in enumerate(zip(rows.tolist(), views.tolist(), strict=True)):
            unit, local = divmod(row, self.store.unit_rows)
            images[i] = self.replayer(unit).view(local, self.store.first_view + view)
            if valid is not None:
                valid[i] = self.replayer(unit).valid(local, self.store.first_view + view)
        targets = self.targets.read(rows, views)
        if self.store.map_size:
            targets = targets.reshape(len(rows), *self.store.map_size, self.num_channels)
        return Batch(images, targets, rows, views, valid)

    def replayer(self, unit: int) -> UnitReplayer:
        """Renders the views of one unit's rows from their (hash-checked) encoded images."""
        return _remember(self._replayers, unit, 2 * WINDOW_UNITS, partial(self._open_replayer, unit))

    def images(self, unit: int) -> UnitImages:
        """The unit's encoded images, each checked against the hash in the store when it is read."""
        shard, start, stop = self.store.units[unit]
        keys = tuple(self.store.keys(start, stop))
        first_row = start - int(self.shard_starts[shard])
        return UnitImages(self.source, self.first_shard + shard, first_row, keys, self.sha64[start:stop])

    def check_replay(self, num: int = 16, *, exact: bool = False, accept_drift: bool = False) -> DriftReport:
        """Replay some of the probe views of each store here; returns the report of the one that differs most.

        Raises ReplayDriftError naming the stage that differs by more than two levels (`exact`: at all), unless drift is
        accepted and only reported.
        """
        reports = [self._check_replay(store, num, exact=exact, accept_drift=accept_drift) for store in self.stores]
        return max(reports, key=lambda report: len(report.differences))

    def _check_replay(self, store: Store, num: int, *, exact: bool, accept_drift: bool) -> DriftReport:
        probes = store.probes()
        if probes is None:
            raise StoreError(f"{store.name} has no probe views: build it again")
        fingerprint = Fingerprint.from_json(*probes)
        if accept_drift:
            return compare_fingerprint(fingerprint, self.replayer, num)
        return check_fingerprint(fingerprint, self.replayer, num, exact)

    def _open_replayer(self, unit: int) -> UnitReplayer:
        images = self.images(unit)
        return UnitReplayer(self.policy, images.keys, images.read, REPLAYER_BYTES)

    def _ask_ahead(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> None:
        """From a source that is slow to answer, ask for a batch's images at once, and for what they are mixed with."""
        remote = remote_source(self.source)
        if remote is None:
            return
        places = []
        for row, view in zip(rows.tolist(), views.tolist(), strict=True):
            unit, local = divmod(row, self.store.unit_rows)
            shard, start, _ = self.store.units[unit]
            keys, size = self.replayer(unit).keys, (self.size_px, self.size_px)
            drawn = draw_params(self.policy, keys[local], self.store.first_view + view, size, len(keys), local)
            first, mix = start - int(self.shard_starts[shard]), drawn.mix  # whatever the image's size
            rows_wanted = [first + local, *([] if mix is None else [first + mix[1]])]
            places += [(self.first_shard + shard, row) for row in rows_wanted]
        remote.prefetch(places)

    def _unit_ok_rows(self, unit: int) -> NDArray[np.int64]:
        start = unit * self.store.unit_rows
        return start + np.flatnonzero(self.states[start : start + self.store.unit_rows] == STATE_OK)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_replayers": OrderedDict()}


def open_dataset(cache: str | Path | Sequence[str | Path], transfer: str | None = None) -> ReinforcedDataset:
    """Open a finished store with the transfer set that it was built from.

    Args:
        cache: the store, in a folder or at a URL, or several stores of logits of the same views: an ensemble, whose
            predictions are averaged.
        transfer: where the transfer set lies; by default what the catalog knows for the store's digest or name.

    Raises:
        StoreError: the store is missing, unfinished or damaged.
        MissingDataError: nobody knows where the transfer set lies.
        TransferMismatchError: it lists other samples than the store.
        UsageError: several stores are not of the same views and classes.
    """
    return join([Store.open(one) for one in ([cache] if isinstance(cache, (str, Path)) else cache)], transfer)


def join(stores: Sequence[Store], transfer: str | None = None) -> ReinforcedDataset:
    """Open stores with their transfer set. Raises as `open_dataset`."""
    for store in stores:
        check_described(store.plan)
    first, *others = stores
    return ReinforcedDataset(first, locate_source(first, transfer), others)


def locate_source(store: Store, transfer: str | None = None) -> ImageSource:
    """The images that a store was built from: at `transfer`, or where the catalog knows them to lie.

    Raises MissingDataError where nobody knows. Whether they are the same is for `ReinforcedDataset` to say.
    """
    return open_source(transfer_location(store, transfer))


def transfer_location(store: Store, transfer: str | None = None) -> str:
    """Where the images lie that a store was built from. Raises MissingDataError where nobody knows."""
    if transfer is not None:
        return str(catalog.resolve_data(transfer).path)
    record = store.plan["transfer"]
    for digest in (record["digest"], _whole_digest(store)):
        location = catalog.locate(digest)
        if location is not None and catalog.is_there(location):
            return location
    try:
        return str(catalog.resolve_data(record["name"]).path)
    except UsageError:
        raise MissingDataError(
            f"the store's transfer set '{record['name']}' is not known here: type --transfer PATH, "
            f'or add it to reinforce.toml: [data] {record["name"]} = "/path"'
        ) from None


def _whole_digest(store: Store) -> str:
    """Of the whole transfer set, where the store is of some of its shards."""
    plan = store.plan
    digest: str = plan["part_of"]["transfer_digest"] if store.schema.is_part else plan["transfer"]["digest"]
    return digest


def _check_source(store: Store, source: ImageSource) -> tuple[NDArray[np.int64], int]:
    """Position of each shard's first sample, and which of the source's shards is the store's first.

    Compares keys and their order, not yet bytes.
    """
    transfer = store.plan["transfer"]
    starts = np.cumsum([0, *(shard["samples"] for shard in transfer["shards"])])
    keys = [store.keys(start, stop) for start, stop in pairwise(starts.tolist())]
    has_all = _whole_digest(store) == transfer["digest"]
    first_shard = 0 if has_all else find_shards(source, keys)
    check_keys_match(source, keys, is_whole=has_all and store.plan.get("limit") is None, first_shard=first_shard)
    return starts, first_shard


def _remember(cache: OrderedDict[K, T], key: K, limit: int, make: Callable[[], T]) -> T:
    """Least-recently-used memory of `limit` things."""
    if key in cache:
        cache.move_to_end(key)
    else:
        cache[key] = make()
        while len(cache) > limit:
            cache.popitem(last=False)
    return cache[key]
