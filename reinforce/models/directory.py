"""A model directory: `model.safetensors` (encoder and classifier, timm's names), `model.json`, `extra.safetensors`.

`timm.create_model(architecture, num_classes=C, checkpoint_path=".../model.safetensors", **model_args)` reloads it
without this package. Of a segmentation model it is the encoder alone (C = 0, at its native stride); its head lies in
`extra.safetensors` under names that begin with "segmentation_head.".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor, nn

from reinforce.counting import counted
from reinforce.errors import ModelError
from reinforce.models import open_clip_encoder, timm_encoder
from reinforce.models.checkpoint import load_strictly, read_checkpoint
from reinforce.models.heads import get_head, has_head
from reinforce.models.info import ModelInfo
from reinforce.models.segmentation import SegmentationModel
from reinforce.models.tasks import build_dense
from reinforce.models.timm_folder import read_config
from reinforce.whole_file import written_whole

WEIGHTS, INFO, EXTRA = "model.safetensors", "model.json", "extra.safetensors"
HEAD_PREFIX = "segmentation_head."


def save_model(directory: Path | str, module: nn.Module, info: ModelInfo,
               extra: Mapping[str, Tensor] | None = None) -> ModelInfo:  # fmt: skip
    """Write a model directory; returns the info as written, with weights_sha256 and library versions.

    Each file is replaced atomically, model.json last: a reader meets the old model, the new one, or a ModelError that
    says the two do not belong together. `extra` keeps tensors that are no part of the model (projections, averages).
    Raises ModelError when the head has another number of classes than `info`.
    """
    _check_head(module, info)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    state, head = _plain(encoder_state(module)), _plain(_head_state(module))
    versions = {name: version(name) for name in ("torch", "timm")}
    provenance = {**info.provenance, "weights_sha256": _state_sha256({**state, **head}), "versions": versions}
    written = replace(info, provenance=provenance)
    beside = {**head, **_plain(extra or {})}
    if beside:
        _replace_file(folder / EXTRA, save(beside))
    _replace_file(folder / WEIGHTS, save(state, metadata={"format": "pt"}))
    _replace_file(folder / INFO, written.dumps().encode())
    if not beside:
        (folder / EXTRA).unlink(missing_ok=True)
    return written


def read_model(directory: Path | str) -> tuple[nn.Module, ModelInfo]:
    """The module of a model directory, on the CPU, in eval mode, and its description.

    Raises ModelError when it is none, when weights and model.json do not belong together, or the weights do not fit.
    """
    folder = Path(directory)
    info = read_info(folder)
    state, head = read_checkpoint(folder / WEIGHTS), _read_head(folder, info)
    expected = info.provenance.get("weights_sha256")
    if expected and _state_sha256({**state, **head}) != expected:
        files = f"{WEIGHTS} or {EXTRA}" if head else WEIGHTS
        raise ModelError(f"{folder}: {files} is not what {INFO} describes: copy or write the directory again")
    model = _build(info, state)
    encoder = model.encoder if isinstance(model, SegmentationModel) else model
    load_strictly(encoder, state, str(folder / WEIGHTS))
    if isinstance(model, SegmentationModel):
        bare = {name.removeprefix(HEAD_PREFIX): tensor for name, tensor in head.items()}
        load_strictly(model.head, bare, str(folder / EXTRA))
    return model.eval(), info


def load_extra(directory: Path | str) -> dict[str, Tensor]:
    """Tensors that `save_model` kept beside the model; empty when there are none."""
    return {name: tensor for name, tensor in _read_extra(Path(directory)).items() if not name.startswith(HEAD_PREFIX)}


def read_info(directory: Path) -> ModelInfo:
    """model.json alone, without touching the weights. Raises ModelError."""
    path = directory / INFO
    if directory.is_file():
        raise ModelError(f"{directory} is a file, a model is a directory: type reinforce import-model --arch NAME "
                         f"--weights {directory} --out DIR")  # fmt: skip
    if not path.is_file():
        raise ModelError(_no_model(directory))
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ModelError(f"{path} must hold one JSON object")
    return ModelInfo.from_json(data)


def weights_sha256(model: nn.Module | Path | str) -> str:
    """Hash of the weights of a module or of a model directory, equal for both and for any file layout.

    SHA-256 over the tensors in order of their names, each as the line "name dtype shape\\n" ("head.bias float32 10")
    and its little-endian bytes. Of a segmentation model the encoder's names are those of model.safetensors, the head's
    begin with "segmentation_head.".
    """
    if isinstance(model, nn.Module):
        return _state_sha256(_plain({**encoder_state(model), **_head_state(model)}))
    folder = Path(model)
    return _state_sha256({**read_checkpoint(folder / WEIGHTS), **_read_head(folder, read_info(folder))})


def encoder_state(module: nn.Module) -> dict[str, Any]:
    """What model.safetensors holds of a module, in its names."""
    return module.encoder.state_dict() if isinstance(module, SegmentationModel) else module.state_dict()


def _head_state(module: nn.Module) -> dict[str, Any]:
    """What extra.safetensors holds of a module, in its names."""
    if not isinstance(module, SegmentationModel):
        return {}
    return {HEAD_PREFIX + name: tensor for name, tensor in module.head.state_dict().items()}


def _no_model(folder: Path) -> str:
    """What to type for a folder without model.json: a run before its end, a folder of timm's, or anything else."""
    config = read_config(folder)
    if "verb" in config:
        return (f"{folder} has no model yet: its training has not ended; wait for it, or type its "
                f"'train {config['verb']}' with --resume")  # fmt: skip
    weights = f" --weights {folder} --out DIR" if "architecture" in config else ""
    return f"{folder} is no model directory (no {INFO}): write one with reinforce import-model{weights}"


def _read_head(folder: Path, info: ModelInfo) -> dict[str, Tensor]:
    if info.task != "segmentation" or info.head == "none":
        return {}
    head = {name: tensor for name, tensor in _read_extra(folder).items() if name.startswith(HEAD_PREFIX)}
    if not head:
        raise ModelError(f"{folder}: the segmentation head is missing from {EXTRA}: copy the directory again")
    return head


def _read_extra(folder: Path) -> dict[str, Tensor]:
    path = folder / EXTRA
    return read_checkpoint(path) if path.is_file() else {}


def _state_sha256(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name]
        shape = ",".join(str(n) for n in tensor.shape)
        digest.update(f"{name} {str(tensor.dtype).removeprefix('torch.')} {shape}\n".encode())
        data: NDArray[np.uint8] = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(data.data)
    return digest.hexdigest()


def _plain(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Contiguous CPU copies: tied weights would share memory, which safetensors refuses."""
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in state.items()}


def _build(info: ModelInfo, state: Mapping[str, Tensor]) -> nn.Module:
    if info.output_stride is not None:
        return build_dense(info, output_stride=info.output_stride, dilated=info.dilated)
    if info.architecture.startswith(open_clip_encoder.PREFIX):
        return open_clip_encoder.build(info.architecture, num_classes=info.num_classes, image_size=info.image_size,
                                       joint=open_clip_encoder.has_joint_projection(state))  # fmt: skip
    timm_encoder.check_name(info.architecture)
    return timm_encoder.build(info.architecture, num_classes=info.num_classes, model_args=info.model_args)


def _check_head(module: nn.Module, info: ModelInfo) -> None:
    if isinstance(module, SegmentationModel) != (info.task == "segmentation"):
        raise ModelError(f"a {type(module).__name__} cannot be written as a model for {info.task}")
    if isinstance(module, SegmentationModel):
        outputs = module.num_classes
    else:
        outputs = get_head(module).out_features if has_head(module) else 0
    if outputs != info.num_classes:
        raise ModelError(f"the head has {counted(outputs, 'output')}, model.json would name {info.num_classes} classes")


def _replace_file(path: Path, data: bytes) -> None:
    with written_whole(path) as file:
        file.write(data)
