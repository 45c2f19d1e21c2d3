"""Query images: the labelled images of a task, or any images, and their unit vectors by a gallery's encoders.

Q = queries, D = dimensions of all encoders together, S = side of a view in px
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click
import numpy as np
from numpy.typing import NDArray

from reinforce import catalog
from reinforce.counting import counted
from reinforce.curate.embeddings import Vectors, check_unit_length
from reinforce.data import (
    ImageSource,
    LabelledSample,
    MaskedSample,
    open_labelled,
    open_masked,
    open_source,
    shortage,
    take,
    take_masked,
)
from reinforce.data.splits import TRAIN
from reinforce.encoders import Encoders
from reinforce.errors import DataError, UndecodableImageError
from reinforce.views import UnitReplayer, named_policy

Position = tuple[int, int, str]
"""Shard, row in it, key."""


@dataclass(frozen=True)
class QueryImages:
    """Where the query images lie; `positions` are those that are taken."""

    name: str
    source: ImageSource
    positions: tuple[Position, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(key for _, _, key in self.positions)

    def read(self, query: int) -> bytes:
        """Encoded image."""
        shard, row, _ = self.positions[query]
        return self.source.read(shard, row)


def open_queries(data: str, *, task: str, shots: int | None, num_labelled: int | None, limit: int | None,
                 seed: int) -> QueryImages:  # fmt: skip
    """The images that `train adapt` and `train finetune` take of the train split for the same numbers and seed; all
    images there are where neither `shots` nor `num_labelled` is given.

    Raises UsageError, MissingDataError and DataError as the readers of datasets do.
    """
    entry = catalog.resolve_data(data)
    location = str(entry.path)
    if shots is None and num_labelled is None:
        source = open_source(location)
        positions = [(number, row, key) for number, shard in enumerate(source.shards)
                     for row, key in enumerate(shard.keys)]  # fmt: skip
        return QueryImages(entry.name, source, tuple(positions[:limit]))
    source, samples = _labelled(location, task, shots, num_labelled, limit, seed)
    return QueryImages(entry.name, source, tuple((sample.shard, sample.row, sample.key) for sample in samples))


def class_names(data: str, task: str) -> tuple[str, ...]:
    """Of a labelled dataset, for text queries."""
    location = str(catalog.resolve_data(data).path)
    return open_masked(location).class_names if task == "segmentation" else open_labelled(location).class_names


def embed_queries(images: QueryImages, encoders: Encoders, size_px: int) -> tuple[QueryImages, Vectors]:
    """The queries that can be decoded and their (Q, D) unit vectors: resized, centre-cropped, encoded (section B.1).

    Says on stderr how many cannot. Raises DataError where none can.
    """
    replayer = UnitReplayer(named_policy("center", size_px=size_px), images.keys, images.read)
    views, kept, problem = _views(replayer, len(images.keys))
    if not kept:
        queries = counted(len(images.keys), "query", "queries")
        raise DataError(f"none of the {queries} of {images.name} can be decoded: {problem}")
    if problem:
        left_out = counted(len(images.keys) - len(kept), "query", "queries")
        click.echo(f"warning: {left_out} left out: {problem}", err=True)
    parts = [encoders.targets(views[start : start + encoders.batch_size])
             for start in range(0, len(views), encoders.batch_size)]  # fmt: skip
    vectors = np.concatenate(parts).astype(np.float16)
    check_unit_length(vectors, encoders.widths, f"queries of {images.name}")
    return QueryImages(images.name, images.source, tuple(images.positions[query] for query in kept)), vectors


def _labelled(location: str, task: str, shots: int | None, num_labelled: int | None, limit: int | None,
              seed: int) -> tuple[ImageSource, Sequence[LabelledSample | MaskedSample]]:  # fmt: skip
    if task == "segmentation":
        masked = open_masked(location)
        masks = masked.split(TRAIN)
        _warn_of(shortage([0] * len(masks), (), num_labelled=num_labelled))
        return masked.source, take_masked(masks, num_labelled=num_labelled, limit=limit, seed=seed)
    data = open_labelled(location)
    samples = data.split(TRAIN)
    labels = (sample.label for sample in samples)
    _warn_of(shortage(labels, data.class_names, shots=shots, num_labelled=num_labelled))
    return data.source, take(samples, shots=shots, num_labelled=num_labelled, limit=limit, seed=seed)


def _warn_of(lack: str) -> None:
    if lack:
        click.echo(f"warning: {lack}: all of them are queries", err=True)


def _views(replayer: UnitReplayer, num: int) -> tuple[NDArray[np.uint8], list[int], str]:
    """(Q, S, S, 3) views of those that can be decoded, which they are, and why the first other one cannot."""
    views, kept, problem = [], [], ""
    for query in range(num):
        try:
            views.append(replayer.view(query, 0))
            kept.append(query)
        except UndecodableImageError as error:
            problem = problem or f"'{replayer.keys[query]}': {error}"
    return np.stack(views) if views else np.empty((0, 0, 0, 3), np.uint8), kept, problem
