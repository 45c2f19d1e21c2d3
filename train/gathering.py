"""Rows of all processes as one matrix, for losses whose negatives are the whole step's (contrastive ones).

B rows of this rank, N rows of all ranks, D dimensions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed
from torch.nn import functional

from train.world import World


class Gathered(NamedTuple):
    rows: Tensor
    """(N, D), in the order of ranks, so in that of the global batch."""
    first: int
    """Where this rank's own rows begin."""


def gather_rows(own_BD: Tensor, world: World) -> Gathered:
    """All ranks' rows, as many as each has; every rank must call, forward and backward.

    Differentiable: a rank's gradient is the sum of what all ranks' losses have with respect to its own rows. Hence the
    average over ranks (DDP's) of the gradients of (size of world * B / N) * (mean loss of own rows) is the gradient of
    the mean loss of the joint batch, also with respect to parameters outside of the rows, such as a logit scale.
    """
    if world.size == 1:
        return Gathered(own_BD, 0)
    own_size = torch.tensor([len(own_BD)], device=own_BD.device)
    found = [torch.zeros_like(own_size) for _ in range(world.size)]
    distributed.all_gather(found, own_size)
    sizes = torch.cat(found).tolist()
    rows_ND: Tensor = _GatherRows.apply(own_BD, sizes, world.rank)
    return Gathered(rows_ND, sum(sizes[: world.rank]))


class _GatherRows(torch.autograd.Function):
    """Ranks pad to the largest share, since the collective wants equal shapes."""

    @staticmethod
    def forward(ctx: Any, own_BD: Tensor, sizes: list[int], rank: int) -> Tensor:
        ctx.first, ctx.size = sum(sizes[:rank]), sizes[rank]
        padded = functional.pad(own_BD, (0, 0, 0, max(sizes) - len(own_BD))).contiguous()
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total_ND = gradients[0].contiguous().clone()
        distributed.all_reduce(total_ND)
        return total_ND[ctx.first : ctx.first + ctx.size], None, None
