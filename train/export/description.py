"""What an exported file says of itself, as names and texts: how to feed it, what it answers, where it is from."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

from reinforce import __version__
from reinforce.models import ModelInfo
from reinforce.models.origin import input_interpolation, used_stores
from reinforce.views import named_policy

from train.export.deployed import Signature


def describe(info: ModelInfo, signature: Signature, license_name: str) -> dict[str, str]:
    """Metadata of ONNX and Core ML files; what is no plain text is JSON."""
    return {
        "task": info.task,
        "architecture": info.architecture,
        "class_names": _json(info.class_names),
        "preprocessing": _json(preprocessing(info, signature)),
        "input": describe_input(signature),
        "output": describe_output(info),
        "license": license_name,
        "weights_sha256": str(info.provenance.get("weights_sha256", "unknown")),
        "store_manifest_digests": _json([store.digest for store in used_stores(info)]),
        "provenance": _json(info.provenance),
        "metrics": _json(info.metrics),
        "made_with": f"reinforce-vision {__version__}, torch {version('torch')}, timm {version('timm')}",
    }


def preprocessing(info: ModelInfo, signature: Signature) -> dict[str, Any]:
    """From a decoded image to the input; `mean` and `std` are those of RGB in 0..1."""
    return {
        "size_px": signature.image_size,
        "framing": describe_framing(info.task),
        "interpolation": f"{input_interpolation(info)}, antialiased",
        "colour_order": "RGB",
        "layout": "NCHW",
        "mean": info.mean,
        "std": info.std,
        "normalized_by": "the model" if signature.kind == "pixels" else "the caller",
    }


def describe_framing(task: str) -> str:
    """How `train evaluate` makes an image square."""
    if task == "classification":
        return "the largest central square, resized"
    fill = ", ".join(str(level) for level in named_policy("whole", size_px=1).fill)
    return f"the whole image, its longer side resized to size_px, centred in a square of RGB {fill}"


def describe_input(signature: Signature) -> str:
    side = signature.image_size
    values = "values 0..255" if signature.kind == "pixels" else "(value / 255 - mean) / std"
    return f"RGB, float32 (batch, 3, {side}, {side}), {values}"


def describe_output(info: ModelInfo) -> str:
    if info.task == "segmentation":
        return "logits before softmax, one map for each of class_names, at the input's size"
    return "logits before softmax, in the order of class_names"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
