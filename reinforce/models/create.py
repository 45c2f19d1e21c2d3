"""A model by name: untrained, published, from the catalog or a directory; for the task, classes and size asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from torch import nn

from reinforce import catalog
from reinforce.errors import ModelError, UsageError
from reinforce.models import open_clip_encoder, timm_encoder
from reinforce.models.directory import read_info, read_model
from reinforce.models.heads import get_head, reorder_classes, reset_head
from reinforce.models.info import HEADS, OUTPUT_STRIDES, ModelInfo, numbered_class_names
from reinforce.models.segmentation import SegmentationModel
from reinforce.models.tasks import to_classification, to_segmentation

Task = Literal["classification", "segmentation"]


def create_model(
    name: str,
    *,
    class_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
    task: Task = "classification",
    head: Literal["deeplabv3", "linear"] | None = None,
    output_stride: int | None = None,
    dilated: bool | None = None,
) -> tuple[nn.Module, ModelInfo]:
    """A module and its description, on the CPU, in eval mode.

    `name`: a model directory, a catalog name, "architecture.tag" (timm's published weights), "architecture"
    (untrained), "open_clip:MODEL/PRETRAINED" or "open_clip:MODEL".
    `class_names` or `num_classes`: what the head must answer; a head for other classes is replaced by a new one.
    Neither: the head that the weights have. `image_size`: side of the input in px, default the model's own.
    `task`: "segmentation" gives a `SegmentationModel`; a model of the other task gives its encoder.
    `head`, `output_stride` (8 or 16), `dilated`: of segmentation only; default what the model has, else DeepLabV3's
    head at stride 8 without dilation.

    Raises UnknownNameError (names the nearest), UsageError (size, classes, or no such map), ModelError (weights
    cannot be had).
    """
    names = _class_names(class_names, num_classes)
    _check_options(task, head, output_stride)
    if task == "segmentation":
        model, info = _segmentation(name, image_size, output_stride, dilated)
    else:
        model, info = _classification(name, len(names or ()), image_size)
    return (model.eval(), info) if names is None else (model.eval(), change_classes(model, info, names, head))


def load_model(name: Path | str) -> tuple[nn.Module, ModelInfo]:
    """What has weights, as it is: a model directory, a catalog name, or published weights; on the CPU, in eval mode.

    Raises ModelError when there are no weights or they cannot be used, UnknownNameError for unknown names.
    """
    directory = name if isinstance(name, Path) else find_directory(name)
    if directory is not None:
        return read_model(directory)
    text = str(name)
    is_open_clip = text.startswith(open_clip_encoder.PREFIX)
    is_published = ("/" if is_open_clip else ".") in text
    if not is_published and (is_open_clip or timm_encoder.is_architecture(text)):
        raise ModelError(f"{text} is an architecture without weights: give a model directory, a catalog name or "
                         f"{text}{'/' if is_open_clip else '.'}TAG for published weights")  # fmt: skip
    return create_model(text)


def find_directory(name: str) -> Path | None:
    """Where the weights of `name` lie on this machine; None for architectures and published weights."""
    entry = catalog.resolve_model(name)
    if entry.path is None or (entry.path == name and _is_plain_folder(name)):
        return None
    return Path(entry.path)


def check_model(name: str) -> None:
    """Before long work, and before it is asked where the work goes: whether there is such a model.

    Raises UnknownNameError for a name that nothing has, ModelError for a directory that is none.
    """
    if (directory := find_directory(name)) is not None:
        read_info(directory)
    elif not name.startswith(open_clip_encoder.PREFIX):
        timm_encoder.check_name(name, _catalog_names())


def short_name(name: str) -> str:
    """What a model is called in provenance and in stores, which travel: no path of this machine."""
    return name if find_directory(name) is None else Path(name).name


def change_image_size(model: nn.Module, info: ModelInfo, image_size: int) -> tuple[nn.Module, ModelInfo]:
    """The same weights for inputs of another size; the module may be a new one. Raises UsageError for bad sizes."""
    if image_size == info.image_size:
        return model, info
    if isinstance(model, SegmentationModel):
        model.check_size(image_size)
        return model, replace(info, image_size=image_size)
    if info.architecture.startswith(open_clip_encoder.PREFIX):
        return open_clip_encoder.resize(model, info, image_size).eval(), replace(info, image_size=image_size)
    model_args = timm_encoder.resize(model, info, image_size)
    return model, replace(info, image_size=image_size, model_args=model_args)


def side_multiple(model: nn.Module, info: ModelInfo) -> int | None:
    """What `change_image_size` takes multiples of, in px; None where the model works at its own size alone."""
    if isinstance(model, SegmentationModel):
        return model.size_multiple
    if info.architecture.startswith(open_clip_encoder.PREFIX):
        return None
    is_fixed = timm_encoder.has_fixed_size(info.architecture) and not hasattr(model, "set_input_size")
    return None if is_fixed else timm_encoder.patch_px(model)


def change_classes(
    model: nn.Module,
    info: ModelInfo,
    class_names: Sequence[str],
    head: Literal["deeplabv3", "linear"] | None = None,
) -> ModelInfo:
    """Give the model a head for these classes, in place, unless it has one for exactly them.

    A head for the same classes in another order is put into this order: it goes on saying the same of every class.
    Asking for numbered names (c0, c1, ...) asks for a count only: a head of that many classes is kept with its names.
    `head`: kind of a segmentation model's head, default the one that it has, else "deeplabv3".
    Returns the new info; metrics of the old head are dropped with it.
    """
    names = tuple(class_names)
    is_dense = isinstance(model, SegmentationModel)
    same_count = len(names) == info.num_classes
    same_kind = not is_dense or not names or head in (None, info.head)
    if same_kind and (names == info.class_names or (same_count and names == numbered_class_names(len(names)))):
        return info
    if same_kind and is_other_order(info, names):
        layer = model.classifier if isinstance(model, SegmentationModel) else get_head(model)
        reorder_classes(layer, [info.class_names.index(name) for name in names])
        return replace(info, class_names=names)
    if isinstance(model, SegmentationModel):
        kind = (head or ("deeplabv3" if info.head == "none" else info.head)) if names else "none"
        model.reset_head(kind, len(names))
    else:
        kind = "linear" if names else "none"
        reset_head(model, len(names))
    return replace(info, head=kind, class_names=names, metrics={})


def is_other_order(info: ModelInfo, class_names: Sequence[str]) -> bool:
    """Whether these are the model's classes, in an order that is not its own. Numbered names are nobody's."""
    ours, theirs = info.class_names, tuple(class_names)
    is_named = numbered_class_names(len(ours)) not in (ours, theirs)
    return is_named and ours != theirs and sorted(ours) == sorted(theirs)


def _classification(name: str, num_classes: int, image_size: int | None) -> tuple[nn.Module, ModelInfo]:
    model, info = _starting_point(name, num_classes, image_size)
    if isinstance(model, SegmentationModel):
        model, info = to_classification(model, info)
    return change_image_size(model, info, image_size or info.image_size)


def _segmentation(
    name: str, image_size: int | None, output_stride: int | None, dilated: bool | None
) -> tuple[nn.Module, ModelInfo]:
    model, info = _starting_point(name, 0, None)
    stride = output_stride or info.output_stride or OUTPUT_STRIDES[0]
    dilation = info.dilated if dilated is None else dilated
    if info.task == "segmentation" and (stride, dilation) == (info.output_stride, info.dilated):
        return change_image_size(model, info, image_size or info.image_size)
    return to_segmentation(model, info, image_size=image_size, output_stride=stride, dilated=dilation)


def _starting_point(name: str, num_classes: int, image_size: int | None) -> tuple[nn.Module, ModelInfo]:
    """What the name stands for; classes and size count only for what is untrained."""
    if (directory := find_directory(name)) is not None:
        return read_model(directory)
    if name.startswith(open_clip_encoder.PREFIX):
        return open_clip_encoder.create(name, num_classes=num_classes, image_size=image_size)
    if "." in name:
        return timm_encoder.create_pretrained(name, _catalog_names())
    return timm_encoder.create(name, num_classes=num_classes, image_size=image_size, known=_catalog_names())


def _check_options(task: str, head: str | None, output_stride: int | None) -> None:
    if task not in HEADS:
        raise UsageError(f"unknown task '{task}': type --task classification or --task segmentation")
    if head not in (None, "deeplabv3", "linear"):
        raise UsageError(f"unknown head '{head}': type --head deeplabv3 or --head linear")
    if output_stride not in (None, *OUTPUT_STRIDES):
        raise UsageError(f"output stride {output_stride} is not among {', '.join(map(str, OUTPUT_STRIDES))}")


def _class_names(class_names: Sequence[str] | None, num_classes: int | None) -> tuple[str, ...] | None:
    if class_names is None:
        return None if num_classes is None else numbered_class_names(num_classes)
    if num_classes is not None and num_classes != len(class_names):
        raise UsageError(f"{len(class_names)} class names were given for {num_classes} classes")
    return tuple(class_names)


def _catalog_names() -> list[str]:
    return [entry.name for entry in catalog.entries("models")]


def _is_plain_folder(name: str) -> bool:
    """A folder of the working directory that only happens to be called like an architecture."""
    return timm_encoder.is_architecture(name) and not (Path(name) / "model.json").is_file()
