"""Checkpoints written elsewhere: find their classes and input size, and bring their names into timm's layout."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from reinforce.errors import ModelError
from reinforce.models import open_clip_encoder, timm_encoder
from reinforce.models.checkpoint import StateDict, mismatch
from reinforce.models.info import ModelInfo


def trained_model(
    architecture: str,
    state: Mapping[str, Tensor],
    head_key: str | None = None,
    *,
    image_size: int | None = None,
    model_args: Mapping[str, Any] | None = None,
) -> tuple[nn.Module, ModelInfo]:
    """An untrained module with the head and input size that the checkpoint was trained with.

    `head_key` is the checkpoint's name of its classifier, default the architecture's. Without a classifier in the
    checkpoint the module has none. `image_size` in px is for checkpoints that do not tell, `model_args` are further
    arguments of `timm.create_model`. Raises UnknownNameError, and ModelError when `head_key` is not in the checkpoint.
    """
    is_open_clip = architecture.startswith(open_clip_encoder.PREFIX)
    if not is_open_clip:
        timm_encoder.check_name(architecture)
    default_key = "head" if is_open_clip else timm_encoder.classifier_name(architecture)
    num_classes = _num_classes(state, head_key, default_key)
    if is_open_clip:
        tower, info = open_clip_encoder.create(architecture, num_classes=num_classes)
        if not open_clip_encoder.has_joint_projection(state):
            cast(Any, tower).joint_projection = None
        return tower, info
    size = trained_size(architecture, state) or image_size
    return timm_encoder.create(architecture, num_classes=num_classes, image_size=size, model_args=model_args)


def fit_state(model: nn.Module, state: Mapping[str, Tensor], head_key: str | None = None) -> StateDict:
    """`state` with the model's own names: the classifier renamed, or through timm's converter of published layouts.

    What still does not fit is left for `load_strictly` to name.
    """
    own = _own_classifier(model)
    renamed = {_renamed(name, head_key, own): tensor for name, tensor in state.items()}
    if isinstance(model, open_clip_encoder.OpenClipClassifier):
        return _tower_of_pair(model, renamed)
    converted = (_converted(model, layout) for layout in (state, renamed))
    return next((found for found in itertools.chain([renamed], converted) if not mismatch(model, found)), renamed)


def _tower_of_pair(model: nn.Module, state: Mapping[str, Tensor]) -> StateDict:
    """The image tower of a pair, without the text tower; its projection under the name that it has here."""
    theirs, ours, names = open_clip_encoder.PUBLISHED_PROJECTION, open_clip_encoder.PROJECTION, model.state_dict()
    if ours in names:
        state = {ours if name == theirs else name: tensor for name, tensor in state.items()}
    tower = {name: tensor for name, tensor in state.items() if name.startswith(("visual.", "head.", ours))}
    return {name: tensor for name, tensor in tower.items() if name not in (theirs, ours) or name in names}


def _converted(model: nn.Module, state: Mapping[str, Tensor]) -> StateDict:
    """What the architecture's authors published, in timm's names; empty when it is no such layout."""
    converter = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    try:
        return cast(StateDict, converter(dict(state), model)) if converter else {}
    except Exception:  # converters assume their own layouts; the mismatch of the original is the better message
        return {}


def _num_classes(state: Mapping[str, Tensor], head_key: str | None, default_key: str) -> int:
    weight = state.get(f"{head_key or default_key}.weight")
    if weight is None and head_key:
        linear = sorted(name.removesuffix(".weight") for name, tensor in state.items()
                        if name.endswith(".weight") and tensor.ndim == 2)  # fmt: skip
        raise ModelError(
            f"the checkpoint has no {head_key}.weight: its last linear layers are {', '.join(linear[-3:])}"
        )
    return 0 if weight is None else int(weight.shape[0])


def trained_size(architecture: str, state: Mapping[str, Tensor]) -> int | None:
    """Input side in px from the number of position embeddings; None where they do not tell."""
    positions, patches = state.get("pos_embed"), state.get("patch_embed.proj.weight")
    if positions is None or patches is None or positions.ndim != 3 or patches.ndim != 4:
        return None
    prefix = sum(state[name].shape[1] for name in ("cls_token", "reg_token") if name in state)
    for extra in (prefix, 0):  # some architectures keep no positions for their prefix tokens
        side = math.isqrt(positions.shape[1] - extra)
        if side * side == positions.shape[1] - extra:
            return side * int(patches.shape[-1])
    raise ModelError(f"the checkpoint of {architecture} was trained on images that are not square")


def _own_classifier(model: nn.Module) -> str:
    config = cast(Mapping[str, Any], getattr(model, "pretrained_cfg", {"classifier": "head"}))
    return str(config["classifier"])


def _renamed(name: str, head_key: str | None, own: str) -> str:
    if head_key and name.startswith(f"{head_key}."):
        return own + name.removeprefix(head_key)
    return name
