"""Students and other models to train, by name, with the head and input size that the task needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import timm
import torch
from reinforce.errors import UsageError
from reinforce.models import ModelInfo, create_model
from reinforce.models.create import find_directory
from reinforce.models.directory import read_info
from reinforce.models.info import comfortable_size
from torch import nn


def make_model(name: str, *, class_names: Sequence[str], image_size: int | None, seed: int,
               init_from: str | None = None, task: Literal["classification", "segmentation"] = "classification",
               head: Literal["deeplabv3", "linear"] | None = None) -> tuple[nn.Module, ModelInfo]:  # fmt: skip
    """The model that training starts from: what is random in it is drawn by `seed`.

    `init_from` (a run or model directory, or catalog name) gives the weights instead of `name`, must be of the same
    architecture, and gets a new head where its classes or its task are others, or where `head`, the kind of a
    segmentation model's, is. Raises UnknownNameError, UsageError, ModelError.
    """
    torch.manual_seed(seed)
    source = init_from or name
    model, info = create_model(source, class_names=tuple(class_names), image_size=image_size,
                               task=task, head=head)  # fmt: skip
    wanted = name.partition(".")[0]
    if init_from is not None and find_directory(name) is None and info.architecture != wanted:
        raise UsageError(f"--init-from {init_from} is a {info.architecture}: type --student {info.architecture}")
    return model, info


def default_image_size(name: str) -> int | None:
    """224 px for an encoder published for more than 384 px; None, the model's own, for all others.

    A directory that was trained here or has a head keeps its size; any other is a published encoder, too.
    """
    if name.startswith("open_clip:"):
        return None
    if (directory := find_directory(name)) is not None:
        info = read_info(directory)
        is_published = info.head == "none" and "training" not in info.provenance
        return _smaller(info.image_size) if is_published else None
    if not timm.is_model(name.partition(".")[0]):
        return None
    return _smaller(int(cast(Any, timm.get_pretrained_cfg(name)).input_size[-1]))


def _smaller(native_px: int) -> int | None:
    size_px = comfortable_size(native_px)
    return None if size_px == native_px else size_px


def own_task(name: str) -> Literal["classification", "segmentation"]:
    """What a model directory's head answers; published weights classify. Raises UnknownNameError, ModelError."""
    directory = find_directory(name)
    return "classification" if directory is None else read_info(directory).task


def grown(provenance: Mapping[str, Any], training: Mapping[str, Any]) -> dict[str, Any]:
    """A model's provenance after one more training: what described the old weights alone goes, the origin stays.

    `from_sha256` is the hash of the weights that it started from, where they had one.
    """
    origin = {key: value for key, value in provenance.items() if key not in ("weights_sha256", "versions")}
    links = {"from_sha256": provenance.get("weights_sha256"), "before": origin.pop("training", None)}
    return {**origin, "training": {**training, **{name: link for name, link in links.items() if link is not None}}}
