"""timm architectures: untrained by bare name, with weights by `name.tag`, at their own or another input size."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import timm
from timm.data.imagenet_info import ImageNetInfo
from torch import nn

from reinforce.errors import ModelError, UnknownNameError, UsageError
from reinforce.models.heads import feature_name, has_head, reset_head
from reinforce.models.info import ModelInfo, check_patches, numbered_class_names
from reinforce.models.model_args import for_timm


def create(
    name: str,
    *,
    num_classes: int,
    image_size: int | None,
    known: Iterable[str] = (),
    model_args: Mapping[str, Any] | None = None,
) -> tuple[nn.Module, ModelInfo]:
    """Untrained, with a head for `num_classes` (0: none). `known` are other names to suggest for a wrong one;
    `model_args` further arguments of `timm.create_model`, which the info keeps."""
    check_name(name, known)
    size = image_size or native_size(name)
    args = {**(model_args or {}), **({"img_size": size} if has_fixed_size(name) else {})}
    model = build(name, num_classes=num_classes, model_args=args)
    check_size(model, size, name)
    if num_classes:
        reset_head(model, num_classes)
    return model, describe(model, name, size, args, numbered_class_names(num_classes))


def create_pretrained(name: str, known: Iterable[str] = ()) -> tuple[nn.Module, ModelInfo]:
    """`name.tag` as published: own head, own size. Raises ModelError when the weights cannot be downloaded."""
    check_name(name, known)
    architecture = name.split(".", 1)[0]
    try:
        model = timm.create_model(name, pretrained=True)
    except Exception as error:  # hub clients raise errors of several libraries; all mean the same to the user
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"cannot download the weights of {name} ({type(error).__name__}: {reason}): get the file another way and "
            f"type reinforce import-model --arch {architecture} --weights FILE --out DIR"
        ) from error
    size = native_size(name)
    num_classes = int(cast(Any, model).num_classes) if has_head(model) else 0
    args = {"img_size": size} if has_fixed_size(name) else {}
    info = describe(model, architecture, size, args, _published_class_names(name, num_classes))
    return model, _with_source(info, name)


def build(architecture: str, *, num_classes: int, model_args: Mapping[str, Any]) -> nn.Module:
    """The bare module, random weights. Raises ModelError when timm refuses the arguments."""
    try:
        return timm.create_model(architecture, num_classes=num_classes, **for_timm(model_args))
    except Exception as error:  # what an architecture raises for arguments that it cannot take is its own affair
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ModelError(f"timm cannot create {architecture} with {dict(model_args)}: {reason}") from error


def resize(model: nn.Module, info: ModelInfo, image_size: int) -> dict[str, Any]:
    """Fit a model with weights to another input size in place; returns its new `model_args`.

    Position embeddings are resampled by timm's own filter (bicubic, antialiased, prefix tokens kept). Networks
    without a fixed size need nothing. Raises UsageError for sizes that the architecture cannot take.
    """
    check_size(model, image_size, info.architecture)
    if not has_fixed_size(info.architecture):
        return dict(info.model_args)
    if not hasattr(model, "set_input_size"):
        raise UsageError(f"{info.architecture} works at {info.image_size} px only: type --image-size {info.image_size}")
    cast(Any, model).set_input_size(img_size=image_size)
    return {**info.model_args, "img_size": image_size}


def is_architecture(name: str) -> bool:
    return bool(timm.is_model(name.partition(".")[0]))


def check_name(name: str, known: Iterable[str] = ()) -> None:
    """Raises UnknownNameError, with the nearest name, when timm has no such architecture or tag."""
    architecture, _, tag = name.partition(".")
    if not is_architecture(architecture):
        hint = "a model is a timm name, a catalog name, a directory or open_clip:MODEL/PRETRAINED"
        raise UnknownNameError("model", name, [*timm.list_models(), *known], hint)
    if tag and name not in (tagged := timm.list_pretrained(f"{architecture}.*")):
        raise UnknownNameError("weights of " + architecture, name, tagged, "a bare name is untrained")


def check_size(model: nn.Module, image_size: int, name: str) -> None:
    """Raises UsageError, naming the nearest good sizes, when patches would not cover the image."""
    check_patches(name, image_size, patch_px(model))


def patch_px(model: nn.Module) -> int:
    """Side of the patches in px; 1 for networks that are not cut into patches."""
    embed = getattr(model, "patch_embed", None)
    size = getattr(embed, "patch_size", 1)
    return int(max(size) if isinstance(size, Sequence) else size)


def has_fixed_size(name: str) -> bool:
    return bool(_config(name).fixed_input_size)


def native_size(name: str) -> int:
    """Input side in px that the architecture (or tag) was published with."""
    return int(_config(name).input_size[-1])


def classifier_name(name: str) -> str:
    """What timm calls the classifier: "head", "head.fc", "fc", "classifier" ..."""
    classifier = _config(name).classifier
    return str(classifier[0] if isinstance(classifier, tuple | list) else classifier)


def describe(model: nn.Module, architecture: str, image_size: int, model_args: Mapping[str, Any],
             class_names: tuple[str, ...]) -> ModelInfo:  # fmt: skip
    """The ModelInfo of a timm module, with the pixel statistics of its published configuration."""
    config = cast(Mapping[str, Any], getattr(model, "pretrained_cfg", {}))
    return ModelInfo(
        architecture=architecture,
        image_size=image_size,
        model_args=dict(model_args),
        head="linear" if class_names else "none",
        feature=feature_name(model),
        class_names=class_names,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
    )


def imagenet_class_names() -> tuple[str, ...]:
    """Names of the 1,000 ImageNet classes in the order of logits; ambiguous ones carry their synset."""
    imagenet: Any = ImageNetInfo()
    names = [imagenet.index_to_description(index).split(",")[0] for index in range(imagenet.num_classes())]
    synsets = imagenet.label_names()
    return tuple(f"{name} ({synsets[i]})" if names.count(name) > 1 else name for i, name in enumerate(names))


def _published_class_names(name: str, num_classes: int) -> tuple[str, ...]:
    if num_classes == 1000 and "in1k" in name.partition(".")[2]:
        return imagenet_class_names()
    return numbered_class_names(num_classes)


def _with_source(info: ModelInfo, name: str) -> ModelInfo:
    licence = _config(name).license
    return info.with_provenance(source=f"timm:{name}", **({"license": licence} if licence else {}))


def _config(name: str) -> Any:
    return timm.get_pretrained_cfg(name)
