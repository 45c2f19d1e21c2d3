"""`train export`: a trained model as an ONNX file, a Core ML package, or a folder for timm and the Hub."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reinforce.command import TalkOptions
from reinforce.counting import counted
from reinforce.errors import ModelError, UsageError

from train.options import require

if TYPE_CHECKING:
    from reinforce.models import ModelInfo
    from torch import nn

    from train.export.onnx_file import Parity

SUFFIXES = {"onnx": ".onnx", "coreml": ".mlpackage", "timm": ""}
"""Format -> how the name of what is written ends."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExportConfig(TalkOptions):
    model: str
    """A run or model directory, or a catalog name."""
    format: Literal["onnx", "coreml", "timm"]
    """An ONNX file, a Core ML package, or a folder that timm and the Hugging Face Hub understand."""
    out: str
    """What to write: a .onnx file, a .mlpackage or a folder."""
    image_size: int | None = None
    """Side of the input in px (default: the model's)."""
    input: Literal["pixels", "normalized"] = "pixels"
    """RGB values of 0..255, with mean and std applied inside, or values to which the caller applies them."""
    batch_size: int = 1
    """Images at once; of onnx alone."""
    dynamic_batch: bool = False
    """Take any number of images at once; of onnx alone."""
    license: str | None = None
    """Licence to state for the exported weights, such as apache-2.0 (default: what is recorded of them)."""
    teacher_license: str | None = None
    """Licence of the teachers' weights, where nobody recorded one."""
    data_license: str | None = None
    """Licence of the images that it learned from, where nobody recorded one."""
    overwrite: bool = False
    """Replace an existing output."""

    def __post_init__(self) -> None:
        for name in ("image_size", "batch_size"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "an integer of at least 1")
        require(Path(self.out).suffix == SUFFIXES[self.format] or self.format == "timm", "out", self.out,
                f"a name that ends in {SUFFIXES[self.format]}")  # fmt: skip
        if self.dynamic_batch and self.batch_size != 1:
            raise UsageError("--dynamic-batch takes any number of images: leave --batch-size out")
        self._check_format()

    def _check_format(self) -> None:
        fixed = {"coreml": ("batch_size", "dynamic_batch"),
                 "timm": ("batch_size", "dynamic_batch", "image_size", "input")}.get(self.format, ())  # fmt: skip
        defaults = {field.name: field.default for field in dataclasses.fields(self)}
        for name in fixed:
            if getattr(self, name) != defaults[name]:
                raise UsageError(f"--{name.replace('_', '-')} has no meaning for --format {self.format}: leave it out")


@dataclasses.dataclass(frozen=True)
class ExportResult:
    out: str
    format: str
    task: str
    architecture: str
    image_size: int
    num_classes: int
    bytes: int
    license: str
    parity: Parity | None
    """Of onnx alone: Core ML runs on Apple's systems only."""
    unlicensed: tuple[str, ...] = ()
    """What nobody recorded a licence of."""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"unlicensed": list(self.unlicensed)}

    def __str__(self) -> str:
        compared = [str(self.parity)] if self.parity is not None else []
        unlicensed = [f"no licence is recorded of {', '.join(self.unlicensed)}: --license states that of the weights, "
                      "--teacher-license and --data-license the others'"]  # fmt: skip
        return "\n".join([
            f"wrote {self.out} ({self.architecture}, {self.task}, {self.image_size} px, "
            f"{counted(self.num_classes, 'class', 'classes')}, {self.bytes / 1e6:.1f} MB)",
            *compared,
            *(unlicensed if self.unlicensed else []),
        ])  # fmt: skip


def export(config: ExportConfig) -> ExportResult:
    """Hand a trained model to others: for ONNX Runtime, for Core ML, or for timm and the Hugging Face Hub."""
    from reinforce.models import check_model
    from reinforce.models.origin import unknown_licences, weights_license

    from train.export.writing import check_out, size_bytes

    out = Path(config.out)
    check_model(config.model)
    check_out(out, config.format, overwrite=config.overwrite)
    parity = None
    if config.format == "timm":
        from train.export.timm_folder import write_timm_folder

        info = write_timm_folder(config.model, out, partial(_with_licences, config))
    else:
        info, parity = _export_file(config, out)
    return ExportResult(config.out, config.format, info.task, info.architecture, info.image_size, info.num_classes,
                        size_bytes(out), weights_license(info), parity, unknown_licences(info))  # fmt: skip


def _with_licences(config: ExportConfig, info: ModelInfo) -> ModelInfo:
    from reinforce.models.origin import with_stated

    return with_stated(info, weights=config.license, teacher=config.teacher_license, data=config.data_license)


def _export_file(config: ExportConfig, out: Path) -> tuple[ModelInfo, Parity | None]:
    from reinforce.models.origin import weights_license

    from train.export import coreml, onnx_file
    from train.export.deployed import Signature
    from train.export.description import describe

    (onnx_file if config.format == "onnx" else coreml).check_installed()
    model, info = _open(config)
    info = _with_licences(config, info)
    signature = Signature(image_size=info.image_size, kind=config.input, batch_size=config.batch_size,
                          is_dynamic=config.dynamic_batch)  # fmt: skip
    metadata = describe(info, signature, weights_license(info))
    if config.format == "onnx":
        return info, onnx_file.write_onnx(model, info, signature, metadata, out)
    coreml.write_coreml(model, info, signature, metadata, out)
    return info, None


def _open(config: ExportConfig) -> tuple[nn.Module, ModelInfo]:
    """Raises ModelError for a model without weights, or that answers nothing."""
    from reinforce.models import change_image_size, load_model

    model, info = load_model(config.model)
    if info.head == "none":
        raise ModelError(f"{config.model} has no head, so it answers nothing: type train finetune --model "
                         f"{config.model} first")  # fmt: skip
    return change_image_size(model, info, config.image_size or info.image_size)
