"""Image towers of open_clip with a linear head. open_clip is imported only when such a name is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from reinforce.errors import MissingExtraError, ModelError, UnknownNameError
from reinforce.models.info import ModelInfo, check_patches, numbered_class_names

PREFIX = "open_clip:"
PROJECTION, PUBLISHED_PROJECTION = "joint_projection", "visual.proj"
"""Names of the projection into the joint space, here and in open_clip's checkpoints."""


class OpenClipClassifier(nn.Module):
    """`visual` tower and linear `head`, with the methods of timm's classifiers.

    Built-in ViTs give the final CLS token before the projection into the joint space (paper A.3); other towers give
    their own output. Without a head, `joint_projection` (D, E) keeps that projection, where the tower has one: see
    `features.global_features`.
    """

    def __init__(self, visual: nn.Module, num_classes: int) -> None:
        super().__init__()
        tower = cast(Any, visual)
        self.global_pool = "avg"
        self.num_features = int(getattr(tower, "output_dim", 0))
        self.joint_projection: nn.Parameter | None = None
        if isinstance(getattr(visual, "ln_post", None), nn.LayerNorm):
            self.joint_projection, tower.proj = tower.proj, None
            self.num_features = int(tower.ln_post.normalized_shape[0])
            self.global_pool = "token" if tower.pool_type == "tok" else str(tower.pool_type)
        self.visual = visual
        self.head: nn.Module = nn.Identity()
        self.reset_classifier(num_classes)

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int) -> None:
        """A head is trained on the feature before the joint space, after which that space is left behind."""
        self.num_classes = num_classes
        if num_classes:
            self.joint_projection = None
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

    def forward_features_pooled(self, images_B3PP: Tensor) -> Tensor:
        pooled = self.visual(images_B3PP)
        return cast(Tensor, pooled[0] if isinstance(pooled, tuple) else pooled)

    def forward(self, images_B3PP: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.forward_features_pooled(images_B3PP)))


def create(name: str, *, num_classes: int = 0, image_size: int | None = None) -> tuple[nn.Module, ModelInfo]:
    """Tower of "open_clip:MODEL/PRETRAINED", or of "open_clip:MODEL" untrained; `num_classes` 0 means no head.

    Raises MissingExtraError, UnknownNameError, UsageError (size), ModelError (weights cannot be downloaded).
    """
    model_name, _, pretrained = name.removeprefix(PREFIX).partition("/")
    _check_name(model_name, pretrained)
    model = build(name, num_classes=num_classes, image_size=image_size, pretrained=pretrained or None)
    config = cast(Any, model.visual).preprocess_cfg
    size = image_size or int(config["size"][0] if isinstance(config["size"], tuple | list) else config["size"])
    names = numbered_class_names(num_classes)
    return model, ModelInfo(
        architecture=name,
        image_size=size,
        head="linear" if names else "none",
        feature="cls" if model.global_pool == "token" else model.global_pool,
        class_names=names,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        provenance={"source": name} if pretrained else {},
    )


def build(name: str, *, num_classes: int, image_size: int | None, pretrained: str | None = None,
          joint: bool = True) -> OpenClipClassifier:  # fmt: skip
    """The module; random weights unless `pretrained` names published ones. `joint`: see `has_joint_projection`."""
    model_name = name.removeprefix(PREFIX).partition("/")[0]
    _check_name(model_name, "")
    try:
        pair = import_open_clip().create_model(
            model_name, pretrained=pretrained, force_image_size=image_size, pretrained_text=False
        )
    except Exception as error:  # hub clients raise errors of several libraries
        reason = " ".join(str(error).split())[:160]
        raise ModelError(f"open_clip cannot create {name} ({type(error).__name__}: {reason})") from error
    if image_size is not None:
        _check_size(pair.visual, image_size, name)
    model = OpenClipClassifier(pair.visual, num_classes)
    if not joint:
        model.joint_projection = None
    return model


def has_joint_projection(state: Mapping[str, Any]) -> bool:
    """Whether weights are of a tower that still leads into the joint space, and not of one that was adapted."""
    return not {PROJECTION, PUBLISHED_PROJECTION}.isdisjoint(state)


def resize(model: nn.Module, info: ModelInfo, image_size: int) -> nn.Module:
    """The same weights at another input size; open_clip resamples the position embeddings (bicubic, antialiased)."""
    state = model.state_dict()
    resized = build(info.architecture, num_classes=info.num_classes, image_size=image_size,
                    joint=has_joint_projection(state))  # fmt: skip
    import_open_clip().model.resize_pos_embed(state, resized)
    with torch.no_grad():
        resized.load_state_dict(state, strict=True)
    return resized


def _check_name(model_name: str, pretrained: str) -> None:
    open_clip = import_open_clip()
    if model_name not in open_clip.list_models():
        raise UnknownNameError("open_clip model", model_name, open_clip.list_models())
    tags = open_clip.list_pretrained_tags_by_model(model_name)
    if pretrained and pretrained not in tags:
        raise UnknownNameError(f"open_clip weights of {model_name}", pretrained, tags)


def _check_size(visual: nn.Module, image_size: int, name: str) -> None:
    patch = getattr(visual, "patch_size", 1)
    check_patches(name, image_size, int(max(patch) if isinstance(patch, Sequence) else patch))


def import_open_clip(what: str = "an open_clip model") -> Any:
    """The module. Raises MissingExtraError, which says what needs it."""
    try:
        import open_clip
    except ImportError as error:
        raise MissingExtraError("open_clip_torch", "clip", what) from error
    return open_clip
