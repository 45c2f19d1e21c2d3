"""What the teacher says, over a sample of rows: one view of one unit is in memory at a time.

B = rows, C = classes, U = rows of a unit, N = rows looked at. In a store of maps the rows are the maps' cells, and a
plane is (U * cells, C).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from reinforce.store import STATE_OK, Store

MAX_ROWS, MAX_CELLS = 4096, 1 << 15
"""Rows, or cells of maps, that the histograms are made from."""
NUM_SAMPLES, NUM_VIEWS = 24, 4
"""Samples in the gallery and views of each; their units and views are those that are read at all."""
_BLOCK_VALUES = 1 << 20
_GOLDEN = (5**0.5 - 1) / 2


def probabilities(logits_BC: NDArray[np.float32]) -> NDArray[np.float64]:
    """(B, C) softmax at temperature 1."""
    exp_BC = np.exp(logits_BC.astype(np.float64) - logits_BC.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = exp_BC / exp_BC.sum(axis=1, keepdims=True)
    return result


def spread(num: int, total: int) -> NDArray[np.int64]:
    """`num` positions (all, where there are fewer) evenly over 0..total-1, each the middle of its part."""
    num = min(num, total)
    return (np.arange(num) * total + total // 2) // max(1, num)


def scattered(num: int, total: int) -> NDArray[np.int64]:
    """`num` positions (all, where there are fewer), one in each even part of 0..total-1 and at another place in each,
    so that cells of maps don't come from the same few columns. A function of its arguments alone.
    """
    num = min(num, total)
    ends = np.arange(num + 1) * total // max(1, num)
    place = (np.arange(num) + 0.5) * _GOLDEN % 1
    return ends[:-1] + (place * np.diff(ends)).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which rows of a store the page looks at; a function of the store alone."""

    shown: dict[int, NDArray[np.int64]]
    """unit -> rows inside it that the gallery shows."""
    counted: dict[int, NDArray[np.int64]]
    """unit -> rows of a plane of it that the histograms count."""
    views: list[int]
    """View indices that are read of each of these units."""

    @classmethod
    def of(cls, store: Store) -> Choice:
        is_ok = (store.states() == STATE_OK).reshape(store.num_units, store.unit_rows)
        ends = np.cumsum(is_ok.sum(axis=1))
        chosen = spread(NUM_SAMPLES, int(ends[-1]))
        units = np.searchsorted(ends, chosen, side="right")
        views = spread(NUM_VIEWS, store.num_views).tolist()
        num_cells = math.prod(store.item_shape[:-1])
        most = MAX_ROWS if num_cells == 1 else MAX_CELLS
        rows_each = max(1, most // max(1, len(np.unique(units)) * len(views)))
        shown, counted = {}, {}
        for unit in np.unique(units).tolist():
            local = np.flatnonzero(is_ok[unit])
            shown[unit] = local[chosen[units == unit] - (int(ends[unit]) - len(local))]
            row, cell = np.divmod(scattered(rows_each, len(local) * num_cells), num_cells)
            counted[unit] = local[row] * num_cells + cell
        return cls(shown=shown, counted=counted, views=views)

    @property
    def num_shown(self) -> int:
        return sum(len(rows) for rows in self.shown.values())

    def planes(self) -> Iterator[tuple[int, int]]:
        """(unit, view) of everything to read, unit by unit."""
        for unit in self.shown:
            for view in self.views:
                yield unit, view


@dataclass(kw_only=True)
class TargetSums:
    """Sums over N rows at temperature 1. Entropy is in nats, confidence the largest probability of a row."""

    expected_rows: NDArray[np.float64]
    """(C,) sum of the rows' probabilities: how many rows of each class the teacher expects."""
    top1_rows: NDArray[np.int64]
    """(C,) rows of which the class is the most likely one."""
    entropies: list[NDArray[np.float64]] = field(default_factory=list)
    confidences: list[NDArray[np.float64]] = field(default_factory=list)

    @classmethod
    def empty(cls, num_classes: int) -> TargetSums:
        return cls(expected_rows=np.zeros(num_classes), top1_rows=np.zeros(num_classes, np.int64))

    def add(self, logits_BC: NDArray[np.float32]) -> None:
        num_classes = logits_BC.shape[1]
        block = max(1, _BLOCK_VALUES // num_classes)
        for start in range(0, len(logits_BC), block):
            p_BC = probabilities(logits_BC[start : start + block])
            self.expected_rows += p_BC.sum(axis=0)
            self.top1_rows += np.bincount(p_BC.argmax(axis=1), minlength=num_classes)
            logs_BC = np.log(p_BC, out=np.zeros_like(p_BC), where=p_BC > 0)
            self.entropies.append(-(p_BC * logs_BC).sum(axis=1))
            self.confidences.append(p_BC.max(axis=1))

    @property
    def num_rows(self) -> int:
        return int(self.top1_rows.sum())

    @property
    def entropy(self) -> NDArray[np.float64]:
        return np.concatenate([np.zeros(0), *self.entropies])

    @property
    def confidence(self) -> NDArray[np.float64]:
        return np.concatenate([np.zeros(0), *self.confidences])


@dataclass(frozen=True, kw_only=True)
class ClassShare:
    index: int
    name: str
    expected: float
    """Mean probability, 0..1."""
    most_likely: float
    """Share of the rows of which it is the most likely class, 0..1."""


def class_shares(sums: TargetSums, names: tuple[str, ...]) -> list[ClassShare]:
    """Every class, most expected first; ties in the classes' order."""
    order = np.argsort(-sums.expected_rows, kind="stable").tolist()
    rows = max(1, sums.num_rows)
    return [
        ClassShare(
            index=c,
            name=names[c],
            expected=float(sums.expected_rows[c]) / rows,
            most_likely=int(sums.top1_rows[c]) / rows,
        )
        for c in order
    ]


def max_entropy(num_classes: int) -> float:
    """Nats of a row that says nothing."""
    return math.log(num_classes)
