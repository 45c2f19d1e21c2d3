"""Losses of maps at the size of pixels in bounded memory: a few images at a time, gradients of each taken at once.

    B images, C classes, h, w sides of a map, S side of a view, px

What a loss keeps for its gradient is as large as the upsampled batch many times over: 150 classes at 512 px are 157 MB
an image and tensor. Here only the gradient of the map, B x C x h x w, outlives a slice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

SLICE_BYTES = 64 << 20
"""Upsampled float32 logits of a slice, or those of one image where it has more; up to seven such tensors exist."""

SliceLoss = Callable[..., Tensor]


def images_in_slice(num_classes: int, size_px: int) -> int:
    return max(1, SLICE_BYTES // (4 * num_classes * size_px**2))


def sum_over_slices(loss_of: SliceLoss, size_px: int, map_BChw: Tensor, *targets_B: Tensor) -> Tensor:
    """Scalar float32: the sum over slices of `loss_of(map, *targets)`, each a sum over its own images.

    A gradient flows to `map_BChw` alone, and cannot be differentiated again.
    """
    length = images_in_slice(map_BChw.shape[1], size_px)
    total: Tensor = _SumOverSlices.apply(loss_of, length, map_BChw, *targets_B)
    return total


class _SumOverSlices(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss_of: SliceLoss, length: int, map_BChw: Tensor, *targets_B: Tensor) -> Tensor:
        needs_gradient = ctx.needs_input_grad[2]
        total = torch.zeros((), device=map_BChw.device)
        gradient = torch.empty_like(map_BChw) if needs_gradient else None
        for start in range(0, len(map_BChw), length):
            part = slice(start, start + length)
            leaf, targets = map_BChw[part].detach(), [target[part] for target in targets_B]
            if gradient is None:
                total += loss_of(leaf, *targets)
                continue
            with torch.enable_grad():
                loss = loss_of(leaf.requires_grad_(), *targets)
                (gradient[part],) = torch.autograd.grad(loss, leaf)
            total += loss.detach()
        ctx.gradient = gradient
        return total

    @staticmethod
    def backward(ctx: Any, *gradient_of_total: Tensor) -> tuple[Tensor | None, ...]:
        gradient = ctx.gradient * gradient_of_total[0]
        return None, None, gradient, *(None for _ in ctx.needs_input_grad[3:])
