"""The k best of all that were shown, row by row, in bounded memory.

    R = rows (queries), k = how many are kept, C = k and some slack, W = slots of a row while it is cut, n = entries

An entry is an id with an exact score. Entries are only added until a row is full; then it is cut to its k best by
(-score, tie order), whose last sets the bar for what comes. So of each row that a search goes through, few entries are
ever written, and the cost of a cut is shared by as many as the slack.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from reinforce.curate.embeddings import Items

LEAST_SLACK = 32
SLACK_PART = 4
"""The slack is a quarter of k."""
CUT_SLOTS = 1 << 19
"""Slots that are cut at once."""
RANKED_SLOTS = 1 << 18
"""Slots that are sorted at once: each takes some 60 bytes meanwhile, beside all that was found."""
SMALL_IDS = 1 << 31
"""Below it an id takes four bytes."""

TieOrder = Callable[[Items], Items]


class TopK:
    """k best entries of each of R rows."""

    def __init__(self, num_rows: int, k: int, num_ids: int, tie_order: TieOrder, device: torch.device) -> None:
        """Ids are below `num_ids`; of equal scores those of a lower `tie_order` are better."""
        self.k, self.tie_order, self.device = k, tie_order, device
        capacity = k + max(LEAST_SLACK, k // SLACK_PART)
        small = num_ids <= SMALL_IDS
        self.id_dtype: type[np.signedinteger] = np.int32 if small else np.int64
        """Wide enough for every id."""
        self._scores_RC, self._ids_RC = _slots(num_rows, capacity, torch.int32 if small else torch.int64, device)
        self._counts_R = torch.zeros(num_rows, dtype=torch.int64, device=device)
        self.worst_R = torch.full((num_rows,), -torch.inf, dtype=torch.float64, device=device)
        """The bar: a lower score is of no use. That of the k-th best as of the last cut; -inf before one."""
        self._worst_tie_R = torch.zeros(num_rows, dtype=torch.int64, device=device)

    def __len__(self) -> int:
        return len(self._counts_R)

    @property
    def is_new(self) -> bool:
        """Whether any row has no bar yet."""
        return bool((self.worst_R == -torch.inf).any())

    def raise_bar(self, scores_R: torch.Tensor) -> None:
        """Promise that every row has or will be shown k entries of at least this score."""
        self._worst_tie_R[scores_R > self.worst_R] = torch.iinfo(torch.int64).max
        self.worst_R = torch.maximum(self.worst_R, scores_R)

    def floor(self, margin: float) -> torch.Tensor:
        """(R,) float32 that a score reaches, known to within `margin`, if the exact one can be of use; finite."""
        rounded = (self.worst_R - margin).float().clamp(min=torch.finfo(torch.float32).min)
        return torch.nextafter(rounded, torch.full_like(rounded, torch.finfo(torch.float32).min))

    def add(self, rows_n: torch.Tensor, ids_n: torch.Tensor, scores_n: torch.Tensor) -> None:
        """Entries in the order of their rows; an id that a row has already must not come again."""
        useful_n = self._is_useful(rows_n, ids_n, scores_n)
        rows_n, ids_n, scores_n = rows_n[useful_n], ids_n[useful_n].to(self._ids_RC.dtype), scores_n[useful_n]
        new_R = torch.bincount(rows_n, minlength=len(self))
        places_n = torch.arange(len(rows_n), device=self.device) - (torch.cumsum(new_R, 0) - new_R)[rows_n]
        filled_R = self._counts_R + new_R
        if (filled_R > self._scores_RC.shape[1]).any():
            is_full_R = filled_R > (self.k + self._scores_RC.shape[1]) // 2  # rows cost less together
            over_n = is_full_R[rows_n]
            self._cut(is_full_R.nonzero()[:, 0], rows_n[over_n], places_n[over_n], ids_n[over_n], scores_n[over_n])
            rows_n, places_n, ids_n, scores_n = (part[~over_n] for part in (rows_n, places_n, ids_n, scores_n))
            new_R[is_full_R] = 0
        slots_n = self._counts_R[rows_n] + places_n
        self._scores_RC[rows_n, slots_n] = scores_n
        self._ids_RC[rows_n, slots_n] = ids_n
        self._counts_R += new_R

    def entries(self, start: int, stop: int) -> tuple[Items, NDArray[np.integer], NDArray[np.float64]]:
        """(R,) counts, then (n,) ids within [start, stop) and scores, row by row: `add` takes them back."""
        filled_RC = torch.arange(self._scores_RC.shape[1], device=self.device) < self._counts_R[:, None]
        chosen_RC = filled_RC & (self._ids_RC >= start) & (self._ids_RC < stop)
        ids, scores = self._ids_RC[chosen_RC], self._scores_RC[chosen_RC]
        return chosen_RC.sum(1).cpu().numpy(), ids.cpu().numpy(), scores.cpu().numpy()

    def fewest(self) -> int:
        """Entries of the row that has fewest, at most k."""
        return min(self.k, int(self._counts_R.min()))

    def rank(self, ids_Rk: NDArray[np.signedinteger], scores_Rk: NDArray[np.float64]) -> None:
        """Write every row's k best into these arrays (ids in `id_dtype` or wider), best first. Only where every row has
        k."""
        nothing = torch.zeros(0, dtype=torch.int64, device=self.device)
        over = (self._counts_R > self.k).nonzero()[:, 0]
        self._cut(over, nothing, nothing, nothing.to(self._ids_RC.dtype), nothing.double())
        step = max(1, RANKED_SLOTS // self.k)
        for start in range(0, len(self), step):
            here = slice(start, start + step)
            ids, scores = (full[here, : self.k].cpu().numpy() for full in (self._ids_RC, self._scores_RC))
            ids = ids.astype(np.int64)
            order = np.lexsort((self.tie_order(ids.reshape(-1)).reshape(ids.shape), -scores))
            ids_Rk[here], scores_Rk[here] = np.take_along_axis(ids, order, 1), np.take_along_axis(scores, order, 1)

    def _is_useful(self, rows_n: torch.Tensor, ids_n: torch.Tensor, scores_n: torch.Tensor) -> torch.Tensor:
        """Better than the k-th of their row: of thousands of equal vectors, those that come too late are never kept."""
        worst_n = self.worst_R[rows_n]
        useful_n = scores_n > worst_n
        equal = (scores_n == worst_n).nonzero()[:, 0]
        if len(equal):
            useful_n[equal] = self._ties(ids_n[equal]) < self._worst_tie_R[rows_n[equal]]
        return useful_n

    def _cut(self, full_F: torch.Tensor, rows_n: torch.Tensor, places_n: torch.Tensor,
             ids_n: torch.Tensor, scores_n: torch.Tensor) -> None:  # fmt: skip
        """Leave the k best of the full rows and of the new entries, which go to these places behind a row's slots."""
        capacity = self._scores_RC.shape[1]
        width = capacity + (int(places_n.max()) + 1 if len(places_n) else 0)
        step = max(1, CUT_SLOTS // width)
        for start in range(0, len(full_F), step):
            part_f = full_F[start : start + step]
            among_n = torch.searchsorted(part_f, rows_n).clamp(max=len(part_f) - 1)
            mine_n = part_f[among_n] == rows_n
            slots_n = (among_n[mine_n], capacity + places_n[mine_n])
            scores_fW = scores_n.new_full((len(part_f), width), -torch.inf)
            ids_fW = ids_n.new_zeros((len(part_f), width))
            scores_fW[:, :capacity], ids_fW[:, :capacity] = self._scores_RC[part_f], self._ids_RC[part_f]
            scores_fW[slots_n], ids_fW[slots_n] = scores_n[mine_n], ids_n[mine_n]
            self._keep_best(part_f, ids_fW, scores_fW)

    def _keep_best(self, rows_f: torch.Tensor, ids_fW: torch.Tensor, scores_fW: torch.Tensor) -> None:
        worst_f = kth_largest(scores_fW, self.k)
        is_kept_fW = scores_fW > worst_f[:, None]
        left_f = self.k - is_kept_fW.sum(1)
        equal_e, slots_e = (scores_fW == worst_f[:, None]).nonzero(as_tuple=True)
        ties_e = self._ties(ids_fW[equal_e, slots_e])
        order_e = torch.argsort(ties_e, stable=True)
        order_e = order_e[torch.argsort(equal_e[order_e], stable=True)]
        equal_e, slots_e, ties_e = equal_e[order_e], slots_e[order_e], ties_e[order_e]
        counts_f = torch.bincount(equal_e, minlength=len(rows_f))
        places_e = torch.arange(len(equal_e), device=self.device) - (torch.cumsum(counts_f, 0) - counts_f)[equal_e]
        is_kept_fW[equal_e, slots_e] = places_e < left_f[equal_e]
        self.worst_R[rows_f] = worst_f
        self._worst_tie_R[rows_f] = ties_e[places_e == left_f[equal_e] - 1]
        self._scores_RC[rows_f, : self.k] = scores_fW[is_kept_fW].view(-1, self.k)
        self._scores_RC[rows_f, self.k :] = -torch.inf
        self._ids_RC[rows_f, : self.k] = ids_fW[is_kept_fW].view(-1, self.k)
        self._counts_R[rows_f] = self.k

    def _ties(self, ids_n: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.tie_order(ids_n.cpu().numpy().astype(np.int64))).to(self.device)


def _slots(num_rows: int, capacity: int, id_dtype: torch.dtype, device: torch.device
           ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Scores of -inf and ids of 0, in one piece of memory: pieces below 32 MB may stay with the process."""
    num_slots = num_rows * capacity
    memory = torch.zeros(num_slots * (8 + id_dtype.itemsize), dtype=torch.uint8, device=device)
    scores, ids = memory[: 8 * num_slots].view(torch.float64), memory[8 * num_slots :].view(id_dtype)
    return scores.view(num_rows, capacity).fill_(-torch.inf), ids.view(num_rows, capacity)


def kth_largest(values_fW: torch.Tensor, k: int) -> torch.Tensor:
    """(f,) the k-th largest of each row. On a CPU numpy is four times as fast as torch."""
    if values_fW.is_cuda:
        return values_fW.topk(k, dim=1, sorted=False).values.amin(1)
    place = values_fW.shape[1] - k
    return torch.from_numpy(np.partition(values_fW.numpy(), place, axis=1)[:, place].copy())
