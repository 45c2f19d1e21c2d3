"""The Core ML package. It is converted anywhere and runs on Apple's systems only, so nothing is compared here."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reinforce.errors import MissingExtraError, ModelError
from reinforce.models import ModelInfo
from torch import nn

from train.export.deployed import LOGITS, PIXELS, DeployedModel, Signature
from train.export.writing import written_whole


def check_installed() -> None:
    """Raises MissingExtraError before any work."""
    try:
        _coremltools()
    except ImportError as error:
        raise MissingExtraError("coremltools", "export", "--format coreml") from error


def write_coreml(model: nn.Module, info: ModelInfo, signature: Signature, metadata: Mapping[str, str],
                 out: Path) -> None:  # fmt: skip
    """A package, which is a folder, put in its place when it is whole. Raises ModelError where it cannot convert."""
    package = _converted(DeployedModel(model, info, signature.kind), signature)
    package.user_defined_metadata.update(metadata)
    package.author, package.license = "reinforce-vision", metadata["license"]
    package.short_description = f"{metadata['architecture']}, {metadata['task']}"
    package.input_description[PIXELS] = metadata["input"]
    package.output_description[LOGITS] = metadata["output"]
    with written_whole(out) as temporary:
        package.save(str(temporary))


def _converted(model: DeployedModel, signature: Signature) -> Any:
    coreml = _coremltools()
    shape = (signature.batch_size, 3, signature.image_size, signature.image_size)
    if signature.kind == "pixels":
        taken = coreml.ImageType(name=PIXELS, shape=shape, color_layout=coreml.colorlayout.RGB)
    else:
        taken = coreml.TensorType(name=PIXELS, shape=shape, dtype=np.float32)
    try:
        with _silence():
            program = torch.export.export(model, (torch.zeros(shape),)).run_decompositions({})
            return coreml.convert(program, inputs=[taken], outputs=[coreml.TensorType(name=LOGITS, dtype=np.float32)],
                                  convert_to="mlprogram", minimum_deployment_target=coreml.target.iOS16)  # fmt: skip
    except Exception as error:  # coremltools raises whatever its translations do
        raise ModelError(f"coremltools cannot convert this architecture: {type(error).__name__}: "
                         f"{' '.join(str(error).split())[:200]}") from error  # fmt: skip


def _coremltools() -> Any:
    with _silence():
        import coremltools
    return coremltools


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """coremltools warns of its own code, of what it cannot load off macOS, and draws bars, on stderr."""
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield
