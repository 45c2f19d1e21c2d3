"""Inner products of queries with a block of a gallery: fast ones that filter, and exact ones of what is left.

    Q = queries, T = queries of a tile, B = vectors of a block, P = B padded to whole segments, D = dimensions of all
    encoders together, E = encoders, n = pairs

Inner products here are sums over all encoders' parts: E times the similarity.

The filter is one float32 matrix product. A product of two float16 numbers has 22 bits and is exact in float32; adding
up D of them, in whatever order and with or without fused steps, is off by at most gamma_D * sum |a_i b_i|, where
gamma_D = D u / (1 - D u) and u = 2^-24 (Higham, Accuracy and Stability of Numerical Algorithms, section 3.1). By
Cauchy and Schwarz the sum is at most the product of the lengths, part by part: about E. That bound is the `margin`.

Exact is float64: see `embeddings` for why no order of adding rounds there.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from itertools import pairwise

import torch

from reinforce.curate.embeddings import NORM_TOLERANCE, Vectors

TILE_QUERIES = 1024
"""The products of a tile with a block stay in a shared cache until they are compared."""
SEGMENT = 128
"""Products of a query that are looked at only if their largest passes."""
FEW_PAIRS = 4096
"""Fewer are gathered and multiplied; more are sampled from a product, which takes a few times less for each."""
GATHERED_PAIRS = 256
"""Their vectors stay in a core's own cache."""


def margin(widths: Sequence[int]) -> float:
    """How far a float32 inner product of vectors of unit length can be from the exact one."""
    roundings = sum(widths) * 2.0**-24
    longest = 1 + 2 * NORM_TOLERANCE
    return roundings / (1 - roundings) * len(widths) * longest**2


@contextlib.contextmanager
def full_float32() -> Iterator[None]:
    """Matrix products in real float32: neither TF32 on a GPU nor bfloat16 on a CPU, whatever the program chose."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Space:
    """Memory for the products of one tile at a time."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._memory = torch.empty(0, device=device)

    def take(self, rows: int, columns: int) -> torch.Tensor:
        """(rows, columns) float32 of any content."""
        if self._memory.numel() < rows * columns:
            self._memory = torch.empty(rows * columns, device=self.device)
        return self._memory[: rows * columns].view(rows, columns)


class Columns:
    """A block's vectors for exact products with any number of tiles: made float64 once, if many pairs ask for it."""

    def __init__(self, block_BD: torch.Tensor) -> None:
        self.float32 = block_BD

    @cached_property
    def float64(self) -> torch.Tensor:
        return self.float32.double()


class QueryTile:
    """Some queries on a device, and their products with blocks."""

    def __init__(self, queries_TD: Vectors, start: int, space: Space) -> None:
        """`start` is the first one's place among all queries; `space` may be shared."""
        self.start, self._space = start, space
        self.queries_TD = torch.from_numpy(queries_TD).to(space.device).float()

    def __len__(self) -> int:
        return len(self.queries_TD)

    def products(self, block_BD: torch.Tensor) -> torch.Tensor:
        """(T, P) float32 within `margin`, valid until the space's next use; what pads the last segment is -inf."""
        num_columns = len(block_BD)
        products_TP = self._space.take(len(self), -(-num_columns // SEGMENT) * SEGMENT)
        torch.mm(self.queries_TD, block_BD.T, out=products_TP[:, :num_columns])
        products_TP[:, num_columns:] = -torch.inf
        return products_TP

    def exact(self, columns: Columns, rows_n: torch.Tensor, columns_n: torch.Tensor) -> torch.Tensor:
        """(n,) float64 inner products of pairs; rows ascending, no pair twice."""
        if len(rows_n) < FEW_PAIRS:
            return _pair_by_pair(self.queries_TD, columns.float32, rows_n, columns_n)
        return _sampled(self.queries_TD, columns.float64, rows_n, columns_n)


def tiles(queries_QD: Vectors, device: torch.device) -> list[QueryTile]:
    """All queries in tiles of about equal size."""
    count = -(-len(queries_QD) // TILE_QUERIES)
    cuts = [len(queries_QD) * number // count for number in range(count + 1)]
    space = Space(device)
    return [QueryTile(queries_QD[a:b], a, space) for a, b in pairwise(cuts)]


def passing(products_TP: torch.Tensor, floor_T: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(n,) rows, ascending, and columns of products that reach their row's floor.

    Few do, so the largest of every segment is compared first.
    """
    num_rows, padded = products_TP.shape
    peaks_TS = products_TP.view(num_rows, -1, SEGMENT).amax(2)
    rows_s, segments_s = (peaks_TS >= floor_T[:, None]).nonzero(as_tuple=True)
    products_sG = products_TP.view(-1, SEGMENT).index_select(0, rows_s * (padded // SEGMENT) + segments_s)
    places_n, offsets_n = (products_sG >= floor_T[rows_s][:, None]).nonzero(as_tuple=True)
    return rows_s[places_n], segments_s[places_n] * SEGMENT + offsets_n


def _pair_by_pair(a_TD: torch.Tensor, b_BD: torch.Tensor,
                  rows_n: torch.Tensor, columns_n: torch.Tensor) -> torch.Tensor:  # fmt: skip
    """Gathered rows, some at a time; products of float16 numbers are exact in float32."""
    products_n = torch.empty(len(rows_n), dtype=torch.float64, device=rows_n.device)
    for start in range(0, len(rows_n), GATHERED_PAIRS):
        here = slice(start, start + GATHERED_PAIRS)
        products_gD = a_TD.index_select(0, rows_n[here]).mul_(b_BD.index_select(0, columns_n[here]))
        products_n[here] = products_gD.double().sum(1)
    return products_n


def _sampled(a_TD: torch.Tensor, b_BD: torch.Tensor, rows_n: torch.Tensor, columns_n: torch.Tensor) -> torch.Tensor:
    """A matrix product of which only some elements are computed; `b_BD` is float64."""
    _expect_warning()
    starts = torch.zeros(len(a_TD) + 1, dtype=torch.int64, device=rows_n.device)
    torch.cumsum(torch.bincount(rows_n, minlength=len(a_TD)), 0, out=starts[1:])
    zeros_n = torch.zeros_like(rows_n, dtype=torch.float64)
    wanted = torch.sparse_csr_tensor(starts, columns_n, zeros_n, (len(a_TD), len(b_BD)), check_invariants=False)
    sampled: torch.Tensor = torch.sparse.sampled_addmm(wanted, a_TD.double(), b_BD.T, beta=0.0)
    return sampled.values()


@cache
def _expect_warning() -> None:
    """torch says once that its sparse matrices are new."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor([0, 0], [], torch.zeros(0), (1, 1), check_invariants=False)
