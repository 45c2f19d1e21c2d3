"""The ONNX file, and how near ONNX Runtime comes to PyTorch on it.

Shapes: B batch, C classes, P side of the input in px.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from reinforce.errors import MissingExtraError, ModelError
from reinforce.models import ModelInfo, Preprocess
from torch import Tensor, nn

from train.export.deployed import LOGITS, PIXELS, DeployedModel, Signature, reference_logits
from train.export.writing import written_whole

OPSET = 18
"""The first with antialiased resizing; runtimes from 2023 on have it."""
LARGEST_BYTES = 2**31 - 2**20
"""Of weights: a protobuf message, which an ONNX file is, holds 2 GiB."""
TOLERANCE = 1e-3
"""Largest difference of logits that counts as rounding, as a share of the largest logit."""
NUM_PROBES, DYNAMIC_BATCHES = 6, (1, 2, 5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parity:
    """ONNX Runtime beside PyTorch: noise, black, white and a checkerboard, through the model as it was trained."""

    max_difference: float
    """Of any logit."""
    max_logit: float
    """Largest magnitude among PyTorch's."""
    top1_agreement: float
    """Share of images, or of pixels, with the same most likely class."""
    num_images: int

    @property
    def holds(self) -> bool:
        return self.max_difference <= TOLERANCE * self.max_logit

    def __str__(self) -> str:
        return (f"ONNX Runtime differs from PyTorch by at most {self.max_difference:.2g} in logits of up to "
                f"{self.max_logit:.3g} over {self.num_images} test images")  # fmt: skip


def check_installed() -> None:
    """Raises MissingExtraError before any work."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            __import__(package)
        except ImportError as error:
            raise MissingExtraError(package, "export", "--format onnx") from error


def write_onnx(model: nn.Module, info: ModelInfo, signature: Signature, metadata: Mapping[str, str],
               out: Path) -> Parity:  # fmt: skip
    """Convert, compare, and only then put the file in its place. Raises ModelError where it cannot, or differs."""
    with written_whole(out) as temporary:
        convert(DeployedModel(model, info, signature.kind), signature, metadata, temporary)
        parity = measure_parity(temporary, model, info, signature)
        if not parity.holds:
            raise ModelError(f"the converted {info.architecture} is not the trained one, nothing was written: {parity}")
    return parity


def convert(model: DeployedModel, signature: Signature, metadata: Mapping[str, str], path: Path) -> None:
    """Raises ModelError for what PyTorch cannot convert."""
    import onnx

    if sum(value.numel() * value.element_size() for value in model.state_dict().values()) > LARGEST_BYTES:
        raise ModelError("the weights have more than 2 GiB, which one ONNX file cannot hold: export a smaller model")
    proto = _converted(model, signature)
    onnx.helper.set_model_props(proto, dict(metadata))
    proto.producer_name = "reinforce-vision"
    proto.graph.doc_string = f"{metadata['architecture']}, {metadata['task']}"
    proto.graph.input[0].doc_string, proto.graph.output[0].doc_string = metadata["input"], metadata["output"]
    onnx.checker.check_model(proto)
    with path.open("wb") as file:
        file.write(proto.SerializeToString())
        file.flush()
        os.fsync(file.fileno())


def measure_parity(path: Path, model: nn.Module, info: ModelInfo, signature: Signature) -> Parity:
    """Of a file beside the model that it was made from. Raises ModelError where ONNX Runtime cannot run it."""
    import onnxruntime

    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 3
    batches = batch_sizes(signature)
    views = probe_views(signature.image_size, sum(batches))
    wanted, given = [], []
    try:
        session = onnxruntime.InferenceSession(str(path), quiet, providers=["CPUExecutionProvider"])
        for batch_BPP3 in torch.split(views, batches):
            wanted.append(reference_logits(model, info, batch_BPP3).numpy())
            given.append(session.run([LOGITS], {PIXELS: as_input(batch_BPP3, info, signature)})[0])
    except Exception as error:  # ONNX Runtime has a dozen classes, and no common one among them
        raise ModelError(f"ONNX Runtime cannot run the converted {info.architecture}: {_one_line(error)}") from error
    return compare(np.concatenate(wanted), np.concatenate(given))


def compare(wanted: NDArray[np.float32], given: NDArray[np.float32]) -> Parity:
    """Logits (B, C, ...) of PyTorch and of another runtime."""
    same_top = wanted.argmax(axis=1) == given.argmax(axis=1)
    difference = float(np.abs(wanted - given).max())
    return Parity(max_difference=difference if np.isfinite(given).all() else float("inf"),
                  max_logit=float(np.abs(wanted).max()), top1_agreement=float(same_top.mean()),
                  num_images=len(wanted))  # fmt: skip


def batch_sizes(signature: Signature) -> list[int]:
    """Numbers of images that are run at once: together every one of `probe_views`."""
    if signature.is_dynamic:
        return list(DYNAMIC_BATCHES)
    return [signature.batch_size] * -(-NUM_PROBES // signature.batch_size)


def probe_views(size_px: int, count: int) -> Tensor:
    """uint8 (B, P, P, 3): noise, black, white and a checkerboard, again and again."""
    noise = np.random.default_rng(0).integers(0, 256, (NUM_PROBES - 3, size_px, size_px, 3), dtype=np.uint8)
    checks = np.indices((size_px, size_px)).sum(axis=0) % 2 * 255
    flat = [np.broadcast_to(value, (size_px, size_px, 3)).astype(np.uint8) for value in (0, 255, checks[..., None])]
    return torch.from_numpy(np.resize(np.concatenate([noise, np.stack(flat)]), (count, size_px, size_px, 3)))


def as_input(views_BPP3: Tensor, info: ModelInfo, signature: Signature) -> NDArray[np.float32]:
    """float32 (B, 3, P, P), as the caller of the exported model gives it."""
    if signature.kind == "normalized":
        return Preprocess.from_info(info)(views_BPP3).numpy()
    return views_BPP3.permute(0, 3, 1, 2).contiguous().float().numpy()


def _converted(model: DeployedModel, signature: Signature) -> Any:
    size = signature.image_size
    example = torch.zeros(2 if signature.is_dynamic else signature.batch_size, 3, size, size)
    shapes = ({0: torch.export.Dim("batch")},) if signature.is_dynamic else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of PyTorch's own code, which warns of itself
            program = torch.onnx.export(model, (example,), dynamo=True, opset_version=OPSET, input_names=[PIXELS],
                                        output_names=[LOGITS], dynamic_shapes=shapes, verbose=False)  # fmt: skip
    except Exception as error:  # torch.export, its passes and onnxscript raise errors of many kinds
        raise ModelError(f"PyTorch cannot convert this architecture to ONNX: {_one_line(error)}") from error
    assert program is not None
    return program.model_proto


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
