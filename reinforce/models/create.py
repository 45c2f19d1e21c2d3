"""A model by name: untrained, published, from the catalog or from a directory, with the classes and size asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from reinforce import catalog
from reinforce.errors import ModelError, UsageError
from reinforce.models import open_clip_encoder, timm_encoder
from reinforce.models.directory import read_model
from reinforce.models.heads import reset_head
from reinforce.models.info import ModelInfo, numbered_class_names


def create_model(
    name: str,
    *,
    class_names: Sequence[str] | None = None,
    num_classes: int | None = None,
    image_size: int | None = None,
) -> tuple[nn.Module, ModelInfo]:
    """A module and its description, on the CPU, in eval mode.

    `name`: a model directory, a catalog name, "architecture.tag" (timm's published weights), "architecture"
    (untrained), "open_clip:MODEL/PRETRAINED" or "open_clip:MODEL".
    `class_names` or `num_classes`: what the head must answer; a head for other classes is replaced by a new one.
    Neither: the head that the weights have. `image_size`: side of the input in px, default the model's own.

    Raises UnknownNameError (names the nearest), UsageError (size or classes), ModelError (weights cannot be had).
    """
    names = _class_names(class_names, num_classes)
    if (directory := find_directory(name)) is not None:
        model, info = read_model(directory)
    elif name.startswith(open_clip_encoder.PREFIX):
        model, info = open_clip_encoder.create(name, num_classes=len(names or ()), image_size=image_size)
    elif "." in name:
        model, info = timm_encoder.create_pretrained(name, _catalog_names())
    else:
        model, info = timm_encoder.create(name, num_classes=len(names or ()), image_size=image_size,
                                          known=_catalog_names())  # fmt: skip
    model, info = change_image_size(model, info, image_size or info.image_size)
    return (model.eval(), info) if names is None else (model.eval(), change_classes(model, info, names))


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


def change_image_size(model: nn.Module, info: ModelInfo, image_size: int) -> tuple[nn.Module, ModelInfo]:
    """The same weights for inputs of another size; the module may be a new one. Raises UsageError for bad sizes."""
    if image_size == info.image_size:
        return model, info
    if info.architecture.startswith(open_clip_encoder.PREFIX):
        return open_clip_encoder.resize(model, info, image_size).eval(), replace(info, image_size=image_size)
    model_args = timm_encoder.resize(model, info, image_size)
    return model, replace(info, image_size=image_size, model_args=model_args)


def change_classes(model: nn.Module, info: ModelInfo, class_names: Sequence[str]) -> ModelInfo:
    """Give the model a head for these classes, in place, unless it has one for exactly them.

    Asking for numbered names (c0, c1, ...) asks for a count only: a head of that many classes is kept with its names.
    Returns the new info; metrics of the old head are dropped with it.
    """
    names = tuple(class_names)
    same_count = len(names) == info.num_classes
    if names == info.class_names or (same_count and names == numbered_class_names(len(names))):
        return info
    reset_head(model, len(names))
    return replace(info, head="linear" if names else "none", class_names=names, metrics={})


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
