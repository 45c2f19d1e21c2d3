"""Which images two stores do not share: by key and hash, in memory of a few dozen bytes a sample beside their keys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from reinforce.store.canonical import one_line
from reinforce.store.part import StorePart
from reinforce.store.unfinished import KeyColumns

EXAMPLES = 3


@dataclass(frozen=True, kw_only=True)
class SampleDifference:
    """From a to b."""

    added: int
    removed: int
    changed: int
    """The same key with other bytes."""
    is_reordered: bool
    """Images of both come in another order."""
    examples: dict[str, list[str]]
    """Up to three keys each of those that were added, removed and changed."""

    def __str__(self) -> str:
        counts = {"added": self.added, "removed": self.removed, "changed": self.changed}
        parts = [self._words(what, count) for what, count in counts.items() if count]
        parts += ["in another order"] if self.is_reordered else []
        return "; ".join(parts) or "the same, cut into other shards"

    def _words(self, what: str, count: int) -> str:
        keys = ", ".join(one_line(key) for key in self.examples[what])
        return f"{count} {what}: {keys}{', ...' if count > EXAMPLES else ''}"


def compare_samples(a: StorePart, b: StorePart) -> SampleDifference | None:
    """None where the plans name the same transfer set. Raises CorruptStoreError."""
    if a.plan["transfer"]["digest"] == b.plan["transfer"]["digest"]:
        return None
    keys_a, keys_b = a.begun.keys(), b.begun.keys()
    # Of keys their 64-bit hashes: among millions two that are alike are not to be expected.
    _, in_a, in_b = np.intersect1d(_hashes(keys_a), _hashes(keys_b), return_indices=True)
    changed = in_a[a.begun.sha64()[in_a] != b.begun.sha64()[in_b]]
    removed, added = _others(len(keys_a), in_a), _others(len(keys_b), in_b)
    examples = {"added": _named(keys_b, added), "removed": _named(keys_a, removed), "changed": _named(keys_a, changed)}
    return SampleDifference(
        added=len(added),
        removed=len(removed),
        changed=len(changed),
        is_reordered=bool((np.diff(in_b[np.argsort(in_a)]) < 0).any()),
        examples=examples,
    )


def _hashes(keys: KeyColumns) -> NDArray[np.uint64]:
    from reinforce.data import hash64

    return np.fromiter((hash64(keys.encoded(i)) for i in range(len(keys))), np.uint64, len(keys))


def _others(count: int, some: NDArray[np.int64]) -> NDArray[np.int64]:
    is_other = np.ones(count, np.bool_)
    is_other[some] = False
    return np.flatnonzero(is_other)


def _named(keys: KeyColumns, positions: NDArray[np.int64]) -> list[str]:
    return [keys[i] for i in np.sort(positions)[:EXAMPLES].tolist()]
