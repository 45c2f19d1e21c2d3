"""What `train pretrain --method dino` takes; defaults are DINO's own (Caron et al. 2021) and the paper's (A.4).

--clip-norm differs: DINO's published code clips the gradient of each tensor on its own to a norm of 3, while here 3.0
bounds the norm over all tensors, as in every other training, and so clips more.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from train.options import TrainOptions, require

PAPER_LR, PAPER_BATCH = 3e-3, 1024
LOCAL_SHARE = 96 / 224
"""Side of a small crop over that of a large one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class DinoConfig(TrainOptions):
    method: Literal["dino"] = "dino"
    """This method."""
    model: str
    """A timm name (bare: untrained), a catalog name or a directory."""
    transfer: str
    """Images without labels: a catalog name, a folder, a CSV, tars or hf:NAME."""
    limit: int | None = None
    """Only the first N images, for tries: of folders, those of the first."""
    val_limit: int = 1000
    """Images at most (and one in twenty) that are kept from training, to show a collapse; 0 for none."""
    image_size: int | None = None
    """Size of the large crops in px (default: the model's)."""
    batch_size: int = 128
    """Images per step, over all devices."""
    lr: float | None = None
    """Peak learning rate (default: 3e-3 per 1024 images of a batch)."""
    crop_scale: tuple[float, ...] = (0.4, 1.0)
    """Range of a large crop's share of the image."""
    num_local: int = 8
    """Small crops an image; 0 for large ones alone."""
    local_size: int | None = None
    """Size of the small crops in px (default: 3/7 of the large ones', in whole patches or 16 px)."""
    local_scale: tuple[float, ...] = (0.05, 0.4)
    """Range of a small crop's share of the image."""
    prototypes: int = 65536
    """Outputs of the projection head, K; few images want few."""
    head_width: int = 2048
    """Hidden units of the projection head."""
    teacher_temperature: float = 0.07
    """The teacher's temperature after its warm-up, which starts from 0.04."""
    teacher_warmup: float = 0.3
    """Share of the steps over which the teacher's temperature rises, 0..1."""
    freeze_prototypes: int = 1
    """Epochs at the start in which the head's last layer stays as it is."""
    weight_decay: float = 0.04
    """AdamW's weight decay at the start; norms, biases and positions have none."""
    weight_decay_end: float = 0.4
    """Weight decay at the end, reached by a cosine."""
    warmup: float = 0.1
    """Share of the steps over which the learning rate rises, 0..1."""
    clip_norm: float = 3.0
    """Largest norm of the gradient, of all tensors together; 0 does not clip."""
    ema: float = 0.996
    """Decay of the teacher at the start, which rises to 1 by a cosine; the teacher is what is kept."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("limit", "image_size", "batch_size", "local_size", "prototypes", "head_width"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "an integer of at least 1")
        for name in ("val_limit", "num_local", "freeze_prototypes", "weight_decay_end"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        for name in ("crop_scale", "local_scale"):
            require(len(getattr(self, name)) == 2, name, getattr(self, name), "two shares, such as 0.25,1")
        require(self.lr is None or self.lr > 0, "lr", self.lr, "above 0")
        require(self.prototypes > 1, "prototypes", self.prototypes, "2 or more, such as 4096")
        require(self.teacher_temperature > 0, "teacher_temperature", self.teacher_temperature, "above 0, such as 0.07")
        require(0 <= self.teacher_warmup <= 1, "teacher_warmup", self.teacher_warmup, "a share of the steps")
        require(self.ema > 0, "ema", self.ema, "above 0, such as 0.996: the teacher is an average")

    @property
    def peak_lr(self) -> float:
        """By the linear scaling rule, where none is given."""
        return self.lr or PAPER_LR * self.batch_size / PAPER_BATCH
