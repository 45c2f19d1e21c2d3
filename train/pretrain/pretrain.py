"""`train pretrain`: the classical ways to a pretrained encoder, one command for all (paper section 3.1, A.4).

A method is a function of one config, as a verb is; METHODS says where it lies. Its config's fields are the options that
it takes: an option that was typed goes into it, one that was not keeps the method's own default.
"""

from __future__ import annotations

import dataclasses
import importlib
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

from reinforce.command import DEFAULTS, OutputOptions
from reinforce.errors import UnknownNameError, UsageError

from train.options import PolicyName
from train.presets import accepts_presets, preset_values

MethodName = Literal["supervised", "dino", "clip", "clip-affinity"]
METHODS: Mapping[str, str] = {
    "supervised": "train.pretrain.supervised:pretrain_supervised",
    "dino": "train.pretrain.dino:pretrain_dino",
    "clip": "train.pretrain.clip:pretrain_clip",
    "clip-affinity": "train.pretrain.clip_affinity:pretrain_clip_affinity",
}
"""Method -> "module:function", imported when it is chosen."""


@accepts_presets("pretrain")
@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig(OutputOptions):
    """Every option of every method; None: not typed. A test holds it against the methods' own configs."""

    preset: str | None = dataclasses.field(default=None, metadata={DEFAULTS: preset_values})
    """A recipe of the paper as defaults, such as dino-cc3m; `reinforce list` shows all."""
    method: MethodName
    """Labels of another dataset, self-distillation of images, or images with captions."""
    model: str
    """What to train: a timm name, such as fastvit_s12 (bare: from random weights), or a directory."""
    out: str
    """Run directory to write: model, config, metrics and checkpoints."""
    data: str | None = None
    """Labelled images, of supervised: a catalog name, an ImageFolder, a CSV or WebDataset tars."""
    transfer: str | None = None
    """Images without labels: a catalog name, a folder, a CSV, tars or hf:NAME; for clip each with a caption."""
    cache: str | None = None
    """A store of a pair's image features (global-features), of clip-affinity."""
    text_cache: str | None = None
    """A store of the pair's features of the images' captions (text-features), of clip-affinity."""
    text_tower: str | None = None
    """Text half of an open_clip configuration, of clip, such as ViT-B-32 (default: ViT-S-32-alt)."""
    limit: int | None = None
    """Only the first N images, for tries: of folders, those of the first."""
    val_limit: int | None = None
    """Validation images at most (default: 1000); of dino and clip 0 for none."""
    image_size: int | None = None
    """Input size in px (default: the model's)."""
    batch_size: int | None = None
    """Images per step, over all devices (default: 64 supervised, else 128)."""
    lr: float | None = None
    """Peak learning rate (default: the paper's, 2e-3 supervised, 3e-3 per 1024 images of a batch dino, 5e-4 clip)."""
    epochs: int | None = None
    """Passes over the images (default: chosen from their number)."""
    steps: int | None = None
    """Optimiser steps, instead of --epochs."""
    weight_decay: float | None = None
    """AdamW's weight decay; norms, biases and positions have none (default: 0.05; dino 0.04; clip 0.2)."""
    warmup: float | None = None
    """Share of the steps over which the learning rate rises, 0..1 (default: 0.05; dino 0.1)."""
    clip_norm: float | None = None
    """Largest norm of the gradient; 0 does not clip (default: 1; dino 3)."""
    ema: float | None = None
    """Decay of the averaged weights, which are kept (default: 0.9999; dino's teacher 0.996, rising to 1)."""
    precision: Literal["auto", "fp32", "bf16"] | None = None
    """Arithmetic of the forward pass (default: auto, which takes bf16 on CUDA)."""
    crop_scale: tuple[float, ...] | None = None
    """Range of a crop's share of the image (default: 0.08,1; dino's large crops 0.4,1; clip 0.9,1)."""
    num_local: int | None = None
    """Small crops an image, of dino; 0 for large ones alone (default: 8)."""
    local_size: int | None = None
    """Size of the small crops in px, of dino (default: 3/7 of the large ones', in whole patches or 16 px)."""
    local_scale: tuple[float, ...] | None = None
    """Range of a small crop's share of the image, of dino (default: 0.05,0.4)."""
    prototypes: int | None = None
    """Outputs of dino's projection head; few images want few (default: 65536)."""
    head_width: int | None = None
    """Hidden units of dino's projection head (default: 2048)."""
    teacher_temperature: float | None = None
    """Temperature of dino's teacher after its warm-up, which starts from 0.04 (default: 0.07)."""
    teacher_warmup: float | None = None
    """Share of the steps over which the temperature of dino's teacher rises, 0..1 (default: 0.3)."""
    freeze_prototypes: int | None = None
    """Epochs at the start in which the last layer of dino's head stays as it is (default: 1)."""
    weight_decay_end: float | None = None
    """Weight decay at the end of dino, reached by a cosine (default: 0.4)."""
    policy: PolicyName | None = None
    """Augmentation of supervised pretraining (default: classification, which is the paper's)."""
    eval_every: int | None = None
    """Steps between evaluations (default: ten in a run)."""
    save_every: int | None = None
    """Steps between kept checkpoints, checkpoints/step-N.pt (default: only best and last)."""
    log_every: int | None = None
    """Steps between lines of metrics.jsonl (default: 20)."""
    tensorboard: bool = False
    """Also write what metrics.jsonl has as event files for TensorBoard, into the run's tensorboard/."""


def pretrain(config: PretrainConfig) -> Any:
    """Pretrain an encoder from labels, from images alone, or from images with captions; finetune takes it from there.

    Raises UsageError for a missing option and for one that the method does not take, before anything is read.
    """
    method = find_method(config.method)
    return method(method_config(method, config))


def find_method(name: str) -> Callable[[Any], Any]:
    """The function of a method. Raises UnknownNameError."""
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    module, function = METHODS[name].split(":")
    found: Callable[[Any], Any] = getattr(importlib.import_module(module), function)
    return found


def method_config(method: Callable[[Any], Any], config: PretrainConfig) -> Any:
    """The method's own config, from what was typed. Raises UsageError."""
    (config_class,) = [hint for name, hint in typing.get_type_hints(method).items() if name != "return"]
    typed = {name: value for name, value in vars(config).items() if value is not None}
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    for name, field in fields.items():
        if name not in typed and field.default is field.default_factory is dataclasses.MISSING:
            raise UsageError(f"--method {config.method} needs {_option(name)}: type {_option(name)} {name.upper()}")
    for name in typed:
        if name not in fields:
            raise UsageError(f"{_option(name)} is no option of --method {config.method}: leave it out")
    hints = typing.get_type_hints(config_class)
    return config_class(**{name: _fitted(value, hints[name]) for name, value in typed.items()})


def _fitted(value: Any, hint: Any) -> Any:
    """One number where the method takes several to try."""
    return (value,) if typing.get_origin(hint) is tuple and not isinstance(value, tuple) else value


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
