"""AdamW, its schedule, averaged weights and arithmetic: the optimisation half of the paper's recipes (A.4)."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two groups: matrices and kernels with weight decay; norms, biases, scales, tokens and positions without. Either
    may be empty.

    A tensor with at most one dimension longer than 1 is a bias or a scale, whatever its name; the model's own
    `no_weight_decay()` (timm: positions, tokens) is honoured too.
    """
    own_rule = getattr(model, "no_weight_decay", None)
    exempt = set(own_rule()) if callable(own_rule) else set()
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            is_vector = sum(length > 1 for length in parameter.shape) <= 1
            (plain if is_vector or name in exempt else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]


def make_optimizer(model: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019); the learning rate is set before every step."""
    return torch.optim.AdamW(parameter_groups(model, weight_decay), lr=0.0)


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def set_weight_decay(optimizer: torch.optim.Optimizer, weight_decay: float) -> None:
    """Of the first group, that of matrices and kernels."""
    optimizer.param_groups[0]["weight_decay"] = weight_decay


def learning_rate(step: int, *, peak: float, warmup_steps: int, total_steps: int) -> float:
    """Rate of step 0..total-1: linear from peak/warmup to peak, then cosine towards 0, where step `total` would be."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return peak * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def cosine(step: int, *, start: float, end: float, total_steps: int) -> float:
    """From `start` at step 0 to `end`, where step `total_steps` would be."""
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * min(1.0, step / total_steps)))


Decay = Callable[[int], float]
"""Decay of an average at its t-th update, t = 1, 2, ..."""


def warmed_up(decay: float) -> Decay:
    """min(decay, (1 + t) / (10 + t)): the average leaves its random start within the first steps."""
    return lambda t: min(decay, (1 + t) / (10 + t))


def rising(decay: float, total_steps: int) -> Decay:
    """From `decay` at the first update to 1 by a cosine, as the momentum of a teacher does (BYOL, arXiv:2006.07733)."""
    return lambda t: cosine(t - 1, start=decay, end=1.0, total_steps=total_steps)


class AveragedModel:
    """Exponential average of weights and float buffers: a <- d a + (1 - d) w; d follows the count of updates."""

    def __init__(self, model: nn.Module, decay: Decay) -> None:
        self.module = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay
        self.num_updates = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.num_updates += 1
        decay = self.decay(self.num_updates)
        current = model.state_dict()
        averaged, source = [], []
        for name, value in self.module.state_dict().items():
            if value.is_floating_point():
                averaged.append(value)
                source.append(current[name])
            else:
                value.copy_(current[name])
        torch._foreach_lerp_(averaged, source, 1 - decay)

    def state_dict(self) -> dict[str, object]:
        return {"num_updates": self.num_updates, "module": self.module.state_dict()}

    def load_state_dict(self, state: Mapping[str, object]) -> None:
        self.num_updates = int(state["num_updates"])  # type: ignore[call-overload]
        self.module.load_state_dict(state["module"])  # type: ignore[arg-type]


def autocast_dtype(precision: str, model: nn.Module, device: torch.device) -> torch.dtype | None:
    """bf16 where it pays, None for plain fp32: on CUDA always, on a CPU for transformers if it multiplies bf16 itself.

    Convolutional students are slower in bf16 on CPUs; transformers are nearly all matrix products.
    """
    if precision == "fp32":
        return None
    pays = device.type == "cuda" or (is_transformer(model) and cpu_has_bf16())
    return torch.bfloat16 if precision == "bf16" or pays else None


def is_transformer(model: nn.Module) -> bool:
    """True for plain vision transformers, recognised by their position embedding."""
    return any(name.rpartition(".")[2] in ("pos_embed", "positional_embedding") for name, _ in model.named_parameters())


def cpu_has_bf16() -> bool:
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


@contextlib.contextmanager
def autocast(device: torch.device, dtype: torch.dtype | None) -> Iterator[None]:
    """Forward pass in `dtype`, or untouched for None."""
    if dtype is None:
        yield
        return
    with torch.autocast(device.type, dtype=dtype):
        yield


def clip_gradient(model: nn.Module, max_norm: float) -> Tensor | None:
    """Scale the gradient to a norm of at most `max_norm`; its norm before, or None when clipping is off."""
    return nn.utils.clip_grad_norm_(model.parameters(), max_norm) if max_norm > 0 else None
