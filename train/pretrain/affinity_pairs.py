"""A store of a pair's image features and one of its text features, joined over the same transfer set.

B pairs, S side of a view in px, L tokens a caption, F dimensions of the teacher's joint space.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from numpy.typing import NDArray
from reinforce.data import CaptionedSource
from reinforce.data.captions import captions_sha256
from reinforce.dataset import ReinforcedDataset
from reinforce.errors import CorruptStoreError, TransferMismatchError, UsageError
from reinforce.models.open_clip_text import Tokenizer
from reinforce.store import GLOBAL_FEATURES, STATE_OK, TEXT_FEATURES, Store, TargetReader
from reinforce.store.canonical import Fields
from reinforce.store.schema import check_described
from torch import Tensor

from train.batches import Batch, Rows
from train.cached import HeldOutViews
from train.world import is_main_process


@dataclasses.dataclass(kw_only=True)
class AffinityBatch(Batch):
    """`inputs` uint8 (B, S, S, 3), `targets` the teacher's image features (B, F) of just these views."""

    tokens: Tensor
    """(B, L) int64, of each image's first caption."""
    teacher_texts: Tensor
    """(B, F), the teacher's features of these captions."""


class PairedStores:
    """Rows of the image store that have a target in both. Picklable, as the dataset is."""

    def __init__(self, dataset: ReinforcedDataset, texts: Store, tokenizer: Tokenizer) -> None:
        """Of torchrun's processes the main one alone reads all captions; the others wait for it in `entered_world`.

        Raises UsageError where the stores are not of one pair and one transfer set, TransferMismatchError where the
        captions are not those that the text store was built from, CorruptStoreError where that does not say so.
        """
        _check_pair(dataset.store, texts)
        self.logit_scale = _logit_scale(texts)
        self.dataset, self.texts, self.tokenizer = dataset, texts, tokenizer
        self.captions = CaptionedSource(dataset.source)
        if is_main_process():
            _check_captions(self.captions, texts)
        self.reader = TargetReader(texts)
        self.starts, self.text_starts = (_starts(store) for store in (dataset.store, texts))
        ok = np.flatnonzero(dataset.states == STATE_OK)
        self.is_paired = np.zeros(len(dataset.states), np.bool_)
        self.is_paired[ok] = texts.states()[self.text_rows(ok)] == STATE_OK

    def paired(self, rows: Rows) -> Rows:
        """Those of `rows` that have a caption with a feature, too."""
        return rows[self.is_paired[rows]]

    def samples(self, rows: Rows) -> Rows:
        """Positions in the listing of rows of the image store."""
        unit, local = np.divmod(rows, self.dataset.store.unit_rows)
        return self.starts[unit] + local

    def text_rows(self, rows: Rows) -> Rows:
        """Rows of the text store, which cuts its units elsewhere, of rows of the image store."""
        samples = self.samples(rows)
        unit = np.searchsorted(self.text_starts, samples, side="right") - 1
        return unit * self.texts.unit_rows + samples - self.text_starts[unit]

    def tokens(self, rows: Rows) -> Tensor:
        """(B, L) of the first captions."""
        shards = np.array([unit[0] for unit in self.dataset.store.units])[rows // self.dataset.store.unit_rows]
        places = self.samples(rows) - self.dataset.shard_starts[shards]
        pairs = zip(shards.tolist(), places.tolist(), strict=True)
        return self.tokenizer([self.captions.captions(shard, place)[0] for shard, place in pairs])


class TrainingAffinities:
    """Training rows; epoch e shows the view that the dataset assigns to e."""

    def __init__(self, stores: PairedStores, *, seed: int) -> None:
        self.stores, self.seed = stores, seed

    def epoch_order(self, epoch: int) -> Rows:
        return self.stores.paired(self.stores.dataset.epoch_order(epoch, self.seed))

    def load(self, rows: Rows, epoch: int) -> AffinityBatch:
        stores, batch = self.stores, self.stores.dataset.load(rows, epoch)
        texts = stores.reader.read(stores.text_rows(rows), np.zeros(len(rows), np.int64))
        return AffinityBatch(torch.from_numpy(batch.images), torch.from_numpy(batch.targets),
                             tokens=stores.tokens(rows), teacher_texts=torch.from_numpy(texts))  # fmt: skip


class HeldOutAffinities:
    """Rows kept from training, as plain pairs: what counts is what the student finds."""

    def __init__(self, stores: PairedStores) -> None:
        self.stores = stores
        self.rows = stores.paired(HeldOutViews(stores.dataset).rows)

    def epoch_order(self, epoch: int) -> Rows:
        return self.rows

    def load(self, rows: Rows, epoch: int) -> Batch:
        """`targets` are tokens (B, L)."""
        return Batch(torch.from_numpy(self.stores.dataset.load(rows, 0).images), self.stores.tokens(rows))


def _starts(store: Store) -> NDArray[np.int64]:
    return np.array([start for _, start, _ in store.units], np.int64)


def _check_pair(images: Store, texts: Store) -> None:
    for option, store, target in (("--cache", images, GLOBAL_FEATURES), ("--text-cache", texts, TEXT_FEATURES)):
        if store.target != target:
            raise UsageError(f"{option} {store.name} holds {store.target}: type a store that reinforce build "
                             f"--target {target} wrote")  # fmt: skip
        check_described(store.plan)
    if images.plan["teacher"]["weights_sha256"] != texts.plan["teacher"]["weights_sha256"]:
        raise UsageError(f"{texts.name} is of {texts.plan['teacher']['name']}, {images.name} of another teacher, "
                         f"{images.plan['teacher']['name']}: build both from one pair")  # fmt: skip
    if images.num_channels != texts.num_channels:
        raise UsageError(f"{images.name} holds features of {images.num_channels} dimensions, {texts.name} of "
                         f"{texts.num_channels}: the teacher's images and texts share no space")  # fmt: skip
    if images.plan["transfer"]["digest"] != texts.plan["transfer"]["digest"]:
        raise UsageError(f"{texts.name} is of another transfer set than {images.name}: build both from one set")


def _logit_scale(texts: Store) -> float:
    """What multiplies the pair's cosines."""
    teacher = Fields(texts.plan, texts.name).inner("teacher")
    scale = teacher.number("logit_scale")
    if not 0 < scale < math.inf:
        raise CorruptStoreError(f"{teacher.name}: 'logit_scale' is {scale}, and scales are above 0")
    return scale


def _check_captions(captions: CaptionedSource, texts: Store) -> None:
    expected = Fields(texts.plan, texts.name).digest("captions")
    if captions_sha256(captions, texts.num_samples) != expected:
        raise TransferMismatchError(f"the captions of {captions.name} are not those that {texts.name} was built from: "
                                    "restore them, or build the store again")  # fmt: skip
