"""Several teachers as one: targets that are averaged over stores of the same views.

K = stores, B = batch, C = classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reinforce.errors import UsageError
from reinforce.store import DENSE_LOGITS, LOGITS, Store, TargetReader, differing_members
from reinforce.store.marker import ObjectDigest
from reinforce.store.targets import BUDGET_BYTES


def average_logits(logits_KBC: Sequence[NDArray[np.float32]], temperature: float) -> NDArray[np.float32]:
    """z = T log((1/K) sum_k softmax(z_k / T)): logits whose softmax at T is the mean of the teachers' probabilities.

    The arithmetic mean of predictions, as of any ensemble (Hinton, Vinyals and Dean 2015, arXiv:1503.02531, section 1).
    KL is jointly convex, so that the KL of what is stored is at most the mean of what the stores certify at T. Of maps
    it is taken cell by cell, before they are upsampled.
    """
    log_probs = np.stack([_log_softmax(logits / np.float32(temperature)) for logits in logits_KBC])
    largest = log_probs.max(axis=0)
    mean = np.exp(log_probs - largest).mean(axis=0)
    return np.asarray(temperature * (largest + np.log(mean)), np.float32)


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)), np.float32)


class EnsembleReader:
    """`TargetReader` of several stores: the mean of their predictions, within one memory budget. Picklable."""

    def __init__(self, stores: Sequence[Store]) -> None:
        """The stores must be those of an ensemble (`check_ensemble`)."""
        self.temperature = stores[0].temperature
        self.readers = [TargetReader(store, budget_bytes=BUDGET_BYTES // len(stores)) for store in stores]

    def read(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> NDArray[np.float32]:
        """(B, *item_shape) averaged logits. Raises as `TargetReader.read`."""
        assert self.temperature is not None  # of logits
        return average_logits([reader.read(rows, views) for reader in self.readers], self.temperature)

    def prefetch(self, rows: NDArray[np.int64], views: NDArray[np.int64]) -> None:
        for reader in self.readers:
            reader.prefetch(rows, views)


def check_ensemble(stores: Sequence[Store]) -> None:
    """Raises UsageError where the stores are not of logits of the same classes over the same views (and names what
    differs), or where two are one and the same."""
    first = stores[0]
    if first.target not in (LOGITS, DENSE_LOGITS):
        raise UsageError(f"{first.name} holds {first.target}, which are not averaged: type a single --cache")
    for store in stores[1:]:
        for shared, advice in ((_answers, "adapt their teachers with the same data and task"),
                               (_views, f"type reinforce build --like {first.name}")):  # fmt: skip
            if names := differing_members(shared(first), shared(store)):
                raise UsageError(f"{first.name} and {store.name} cannot be averaged, since they have another "
                                 f"{', '.join(names)}: {advice}")  # fmt: skip
    for store, other in combinations(stores, 2):
        if _targets(store) == _targets(other):
            raise UsageError(f"{store.name} and {other.name} are one store, by every target's hash: type --cache once "
                             "for it")  # fmt: skip


def _targets(store: Store) -> dict[str, ObjectDigest]:
    """Licences may have been stated in a copy."""
    return {path: digest for path, digest in store.manifest.objects.items() if path.startswith("targets/")}


def _answers(store: Store) -> dict[str, Any]:
    """What is said of a view."""
    return {"target": store.target, "map": store.map_size, "class_names": store.class_names}


def _views(store: Store) -> dict[str, Any]:
    """Of which pixels (views are mixed within units), and at which temperature it is promised."""
    return {
        "transfer set": store.plan["transfer"]["digest"],
        "policy": store.policy_json,
        "number of views": store.num_views,
        "first view": store.first_view,
        "cut into units": store.units,
        "unit_rows": store.unit_rows,
        "temperature": store.temperature,
    }
