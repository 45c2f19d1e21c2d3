"""A model directory as a folder that timm and the Hugging Face Hub understand, and that stays a model directory.

    config.json         timm's: architecture, classes, preprocessing
    model.safetensors   timm's names
    model.json          ours; extra.safetensors has a segmentation head, and whatever else lay beside the model
    README.md           the model card

`timm.create_model("local-dir:FOLDER", pretrained=True)` loads it; of a segmentation model that is the encoder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import timm

from reinforce.errors import UsageError
from reinforce.models import open_clip_encoder
from reinforce.models.directory import EXTRA, INFO, WEIGHTS, read_info
from reinforce.models.info import ModelInfo
from reinforce.models.model_card import CARD, model_card
from reinforce.models.origin import input_interpolation
from reinforce.models.stride import classifier_args

CONFIG = "config.json"
KEPT_FROM_ARCHITECTURE = ("first_conv", "classifier", "fixed_input_size")
"""What timm needs to know about the network, whatever its weights."""


def hub_folder(directory: Path | str, info: ModelInfo | None = None,
               evaluations: Sequence[Mapping[str, Any]] = ()) -> dict[str, bytes]:  # fmt: skip
    """Path -> bytes of every file of the folder.

    `info`: what to say instead of model.json. `evaluations`: what `train evaluate` kept of the model, each with data,
    split, subset and result. Raises ModelError for what is no model directory, UsageError for open_clip's
    architectures.
    """
    folder = Path(directory)
    info = info or read_info(folder)
    if info.architecture.startswith(open_clip_encoder.PREFIX):
        raise UsageError(f"{info.architecture} is no architecture of timm: type --format onnx")
    kept = {name: (folder / name).read_bytes() for name in (WEIGHTS, EXTRA) if (folder / name).is_file()}
    config = json.dumps(timm_config(info), indent=2, ensure_ascii=False) + "\n"
    return {CARD: model_card(info, evaluations), CONFIG: config.encode(), INFO: info.dumps().encode(), **kept}


def timm_config(info: ModelInfo) -> dict[str, Any]:
    """config.json as timm writes it for the Hub."""
    encoder = info if info.task == "classification" else replace(info, task="classification", head="none",
        class_names=(), output_stride=None, dilated=False, model_args=classifier_args(info.model_args))  # fmt: skip
    found: Any = timm.get_pretrained_cfg(info.architecture)
    published = found.to_dict() if found is not None else {}
    config: dict[str, Any] = {"architecture": encoder.architecture, "num_classes": encoder.num_classes}
    if encoder.class_names:
        config["label_names"] = list(encoder.class_names)
    if encoder.model_args:
        config["model_args"] = dict(encoder.model_args)
    config["pretrained_cfg"] = {
        **{name: published[name] for name in KEPT_FROM_ARCHITECTURE if name in published},
        "num_classes": encoder.num_classes,
        "input_size": [3, encoder.image_size, encoder.image_size],
        "interpolation": input_interpolation(encoder),
        "crop_pct": 1.0,
        "crop_mode": "center",
        "mean": list(encoder.mean),
        "std": list(encoder.std),
        "license": encoder.provenance.get("license"),
    }
    return config
