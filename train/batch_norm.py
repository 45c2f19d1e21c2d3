"""Which statistics batch normalisation trains with: each batch's own, or those that came with the weights.

Statistics of other images may be far from a batch's: the same weights then say something else in train mode than in
eval mode, and a head that was fitted in eval mode is of no use. Learning rates of foundation models are too low to
learn it anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from torch import nn


def norms(model: nn.Module) -> Iterator[tuple[str, nn.modules.batchnorm._BatchNorm]]:
    """Batch normalisations by name."""
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            yield name, module


def trained_norms(model: nn.Module) -> frozenset[str]:
    """Names of those that have statistics of images, and not the ones that a new layer begins with."""
    return frozenset(name for name, norm in norms(model) if _is_trained(norm))


def enter_training(model: nn.Module, stored: Collection[str]) -> None:
    """Train mode, but for normalisations of these names: they use and keep the statistics that they have."""
    model.train()
    for name, norm in norms(model) if stored else ():
        if name in stored:
            norm.eval()


def _is_trained(norm: nn.modules.batchnorm._BatchNorm) -> bool:
    mean, var = norm.running_mean, norm.running_var
    return mean is not None and var is not None and bool((mean != 0).any() or (var != 1).any())
