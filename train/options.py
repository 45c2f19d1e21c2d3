"""Options that every training verb has, and the one rule that turns epochs into steps."""

from __future__ import annotations

import dataclasses
from typing import Literal

from reinforce.command import DEFAULTS, OutputOptions
from reinforce.errors import UsageError

from train.presets import preset_values

PolicyName = Literal["classification", "randaugment", "crops", "center", "segmentation", "segmentation-crops", "whole"]
POLICIES: dict[str, tuple[PolicyName, ...]] = {
    "classification": ("classification", "randaugment", "crops", "center"),
    "segmentation": ("segmentation", "segmentation-crops", "whole"),
}
"""Task -> the view policies that it can be trained under."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions(OutputOptions):
    preset: str | None = dataclasses.field(default=None, metadata={DEFAULTS: preset_values})
    """A recipe of the paper as defaults, such as eurosat-10; `reinforce list` shows all."""
    out: str
    """Run directory to write: model, config, metrics and checkpoints."""
    epochs: int | None = None
    """Passes over the training images (default: chosen from their number)."""
    steps: int | None = None
    """Optimiser steps, instead of --epochs."""
    weight_decay: float = 0.05
    """AdamW's weight decay; norms, biases and positions have none."""
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises, 0..1."""
    clip_norm: float = 1.0
    """Largest norm of the gradient; 0 does not clip."""
    ema: float = 0.9999
    """Decay of the averaged weights, which are the ones evaluated and kept; 0 keeps the plain ones."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the forward pass; auto takes bf16 on CUDA, and on CPUs with bf16 for transformers."""
    compile: bool = False
    """Compile the model (torch.compile): every step is faster, the first takes minutes; on a CPU it needs a C++
    compiler. Weights are those without it but for rounding."""
    eval_every: int | None = None
    """Steps between evaluations (default: ten in a run)."""
    save_every: int | None = None
    """Steps between kept checkpoints, checkpoints/step-N.pt (default: only best and last)."""
    log_every: int = 20
    """Steps between lines of metrics.jsonl."""
    tensorboard: bool = False
    """Also write what metrics.jsonl has as event files for TensorBoard, into the run's tensorboard/."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs is not None and self.steps is not None:
            raise UsageError("--epochs and --steps exclude each other: type one of them")
        for name in ("epochs", "steps", "eval_every", "save_every", "log_every"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "an integer of at least 1")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        require(0 <= self.warmup < 1, "warmup", self.warmup, "a share of the steps, such as 0.05")
        require(self.clip_norm >= 0, "clip_norm", self.clip_norm, "0 or more")
        require(0 <= self.ema < 1, "ema", self.ema, "at least 0 and below 1, such as 0.9999")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledOptions(TrainOptions):
    """What `adapt` and `finetune` share: a model, labelled images, several learning rates."""

    data: str
    """Labelled images: a catalog name, an ImageFolder, a CSV, WebDataset tars, or a folder of images/ and masks/."""
    shots: int | None = None
    """Labelled images per class, drawn by --seed; of classification alone."""
    num_labelled: int | None = None
    """Labelled images in all, drawn by --seed."""
    limit: int | None = None
    """Only the first N training images, for tries: of folders, those of the first classes."""
    val_limit: int = 1000
    """Validation images at most: what chooses between epochs, learning rates and modes."""
    lr: tuple[float, ...] = ()
    """Learning rates to try, the best on validation is kept (default: a few per mode; in mode best: of full alone)."""
    batch_size: int = 64
    """Images per step, over all devices."""
    image_size: int | None = None
    """Input size in px (default: the model's)."""
    crop_scale: tuple[float, ...] = ()
    """Range of a crop's share of the image, such as 0.25,1; for masks of the image's scale, such as 0.5,1.5."""
    policy: PolicyName | None = None
    """Augmentation of full finetuning (default: the task's name, which is the paper's)."""
    batch_norm: Literal["batch", "stored"] = "batch"
    """Batch normalisation in full finetuning: by each batch's statistics, or by those that came with the weights and
    then stay (a layer without any takes the batch's)."""
    probe_views: int = 8
    """Augmented views per image for a linear probe, fewer where there are many images."""
    task: Literal["classification", "segmentation"] = "classification"
    """What the labels are: a class per image, or a mask."""
    head: Literal["deeplabv3", "linear"] | None = None
    """Head of a segmentation model (default: the one that it has, else deeplabv3)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_task()
        if sum(x is not None for x in (self.shots, self.num_labelled)) > 1:
            raise UsageError("--shots and --num-labelled exclude each other: type one of them")
        for name in ("shots", "num_labelled", "limit", "val_limit", "batch_size", "image_size"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "an integer of at least 1")
        require(all(lr > 0 for lr in self.lr), "lr", self.lr, "learning rates above 0, such as 1e-4,1e-3")
        require(self.probe_views >= 0, "probe_views", self.probe_views, "0 or more")
        low_high, largest = self.crop_scale or (0.5, 1.0), 1 if self.task == "classification" else 16
        require(len(low_high) == 2 and 0 < low_high[0] <= low_high[1] <= largest, "crop_scale", self.crop_scale,
                "two shares, such as 0.25,1")  # fmt: skip

    def _check_task(self) -> None:
        check_shots(self.task, self.shots)
        fitting = POLICIES[self.task]
        require(self.policy is None or self.policy in fitting, "policy", self.policy,
                f"one of {', '.join(fitting)} for {self.task}")  # fmt: skip
        if self.task == "classification" and self.head is not None:
            raise UsageError(f"--head {self.head} is of segmentation: type --task segmentation, or leave it out")


def check_shots(task: str, shots: int | None) -> None:
    """Raises UsageError for --shots where an image has no single class."""
    if task == "segmentation" and shots is not None:
        raise UsageError(f"--shots {shots} counts images per class, and a mask shows several classes: "
                         "type --num-labelled N, the images in all")  # fmt: skip


def require(holds: bool, name: str, value: object, wanted: str) -> None:
    """Raise a one-line UsageError for an option that does not hold."""
    if not holds:
        raise UsageError(f"--{name.replace('_', '-')} is {value}: it must be {wanted}")


def num_steps(options: TrainOptions, steps_per_epoch: int, default_epochs: int) -> int:
    """Length of a run in optimiser steps, from --steps, --epochs or the default."""
    if options.steps is not None:
        return options.steps
    return (options.epochs or default_epochs) * steps_per_epoch


def default_epochs(num_images: int, *, image_passes: int, shortest: int, longest: int) -> int:
    """Epochs that show about `image_passes` images in all, within [shortest, longest]."""
    return max(shortest, min(longest, image_passes // max(num_images, 1)))
