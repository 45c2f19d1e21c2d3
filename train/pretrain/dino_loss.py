"""DINO's loss, centre and temperatures (Caron et al. 2021, arXiv:2104.14294, section 3.1 and Algorithm 1).

B images, V crops of the student, G large crops (the first G of V, which the teacher sees), K prototypes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from train.batches import Batch
from train.loop import Objective
from train.optim import AveragedModel
from train.pretrain.dino_config import DinoConfig
from train.pretrain.dino_model import DinoModel
from train.pretrain.dino_views import CropBatch, Pixels
from train.world import World

STUDENT_TEMPERATURE = 0.1
FIRST_TEMPERATURE = 0.04
CENTRE_MOMENTUM = 0.9


def dino_loss(student_VBK: Tensor, teacher_GBK: Tensor, centre_K: Tensor, *, student_temperature: float,
              teacher_temperature: float) -> Tensor:  # fmt: skip
    """Mean over images and pairs (g, v) of different crops of - sum_k p_g[k] log q_v[k], in nats (equation 3).

    p = softmax((teacher - centre) / teacher_temperature), through which no gradient flows,
    q = softmax(student / student_temperature). Shapes of logits (V, B, K) and (G, B, K); computed in float32.
    """
    probs_GBK = teacher_probs(teacher_GBK.detach(), centre_K, teacher_temperature)
    log_probs_VBK = torch.log_softmax(student_VBK.float() / student_temperature, dim=-1)
    pairs = [(g, v) for g in range(len(probs_GBK)) for v in range(len(log_probs_VBK)) if g != v]
    return torch.stack([-(probs_GBK[g] * log_probs_VBK[v]).sum(dim=-1).mean() for g, v in pairs]).mean()


def teacher_probs(logits: Tensor, centre_K: Tensor, temperature: float) -> Tensor:
    """Centred and sharpened: softmax((logits - centre) / temperature) over the last axis."""
    return torch.softmax((logits.float() - centre_K) / temperature, dim=-1)


def teacher_temperature(step: int, *, last: float, warmup_steps: int) -> float:
    """Linear from 0.04, or from `last` where that is less, to `last` at step `warmup_steps`."""
    first = min(FIRST_TEMPERATURE, last)
    return last - (last - first) * max(0.0, 1 - step / max(1, warmup_steps))


class DinoObjective(Objective):
    """The loss of the student against its own average; remembers the step and the centre of the teacher's logits.

    centre <- m centre + (1 - m) mean of the step's teacher logits over images, large crops and ranks, m = 0.9, after
    the loss (equation 4).
    """

    def __init__(self, config: DinoConfig, teacher: AveragedModel, pixels: Pixels, *, steps_per_epoch: int,
                 total_steps: int, world: World) -> None:  # fmt: skip
        self.teacher = cast(DinoModel, teacher.module)
        self.pixels, self.world = pixels, world
        self.last_temperature = config.teacher_temperature
        self.warmup_steps = round(config.teacher_warmup * total_steps)
        self.frozen_steps = config.freeze_prototypes * steps_per_epoch
        self.step = 0
        self.centre_K = torch.zeros(config.prototypes, device=world.device)

    @property
    def temperature(self) -> float:
        """The teacher's, at this step."""
        return teacher_temperature(self.step, last=self.last_temperature, warmup_steps=self.warmup_steps)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        assert isinstance(batch, CropBatch)
        large, small = self.pixels(batch)
        num_images = len(batch)
        student_VBK = model(large, small).view(-1, num_images, len(self.centre_K))
        teacher_GBK = self._taught(large).view(-1, num_images, len(self.centre_K))
        loss = dino_loss(student_VBK, teacher_GBK, self.centre_K, student_temperature=STUDENT_TEMPERATURE,
                         teacher_temperature=self.temperature)  # fmt: skip
        self._move_centre(teacher_GBK, batch.num_global or num_images)
        return loss

    def before_update(self, model: nn.Module) -> None:
        """Hold the prototypes still in the first epochs, which stabilises training (the paper's appendix)."""
        if self.step < self.frozen_steps:
            cast(DinoModel, model).head.prototypes_KN.grad = None
        self.step += 1

    def state_dict(self) -> dict[str, Any]:
        return {"step": self.step, "centre": self.centre_K}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.step = state["step"]
        self.centre_K = state["centre"].to(self.world.device)

    @torch.no_grad()
    def _taught(self, large: Tensor) -> Tensor:
        """The teacher's logits: without dropout, but normalised by the batch's statistics, as the student's are."""
        for module in self.teacher.eval().modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.train()
        return cast(Tensor, self.teacher(large))

    @torch.no_grad()
    def _move_centre(self, teacher_GBK: Tensor, num_images: int) -> None:
        sum_K = self.world.sum(teacher_GBK.float().sum(dim=(0, 1)))
        mean_K = sum_K / (len(teacher_GBK) * num_images)
        self.centre_K = CENTRE_MOMENTUM * self.centre_K + (1 - CENTRE_MOMENTUM) * mean_K
