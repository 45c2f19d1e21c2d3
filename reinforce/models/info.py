"""`model.json`: what must be known about the weights beside it to use them. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from reinforce.errors import ModelError, UsageError
from reinforce.models.model_args import problem_of

FORMAT = 1
HEADS = {"classification": ("linear", "none"), "segmentation": ("deeplabv3", "linear", "none")}
"""Task -> the heads that it can have."""
OUTPUT_STRIDES = (8, 16)
COMFORTABLE_PX, DEFAULT_PX, DEFAULT_DENSE_PX = 384, 224, 128
BATCH_SIZE = 64


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """One model directory's description; it checks itself. Raises ModelError."""

    architecture: str
    """A timm architecture ("fastvit_t8") or an open_clip pair ("open_clip:ViT-B-32/openai")."""
    image_size: int
    """Side of the square input, in px."""
    format: int = FORMAT
    """Version of this file's layout."""
    model_args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `timm.create_model` without which the weights do not fit: {"depth": 6}."""
    head: Literal["linear", "deeplabv3", "none"] = "linear"
    """Linear classifier of the pooled feature or of each cell of the map, DeepLabV3's head on the map, or none."""
    feature: str = "avg"
    """What the head sees (paper A.3): "cls" (ViT), "avg" (CNN), the name of another pooling of the encoder, or "map"
    (segmentation)."""
    task: Literal["classification", "segmentation"] = "classification"
    """What the head answers: one class an image, or one class a pixel."""
    output_stride: int | None = None
    """Pixels a cell of the final map, along one side; None for classification."""
    dilated: bool = False
    """Whether convolutions behind the output stride are dilated instead of only keeping their map's size."""
    class_names: tuple[str, ...] = ()
    """Names of the C classes in the order of the logits; empty without a head."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Subtracted from RGB in 0..1."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """RGB is divided by it afterwards."""
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    """How a view of another size becomes the input."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where the weights come from: weights_sha256, licence, data, library versions."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Validation metrics, rates in 0..1."""

    def __post_init__(self) -> None:
        for problem, wrong in self._checks():
            if wrong:
                raise ModelError(f"model.json: {problem}")

    def _checks(self) -> list[tuple[str, bool]]:
        wrong_args = problem_of(self.model_args)
        return [
            (f"format {self.format} is not {FORMAT}: upgrade reinforce-vision to read it", self.format != FORMAT),
            (f"image_size {self.image_size} must be positive", self.image_size < 1),
            (f"task '{self.task}' must be {' or '.join(HEADS)}", self.task not in HEADS),
            (f"head '{self.head}' must be {' or '.join(self._heads())}", self.head not in self._heads()),
            (f"interpolation '{self.interpolation}' must be bilinear or bicubic",
             self.interpolation not in ("bilinear", "bicubic")),
            (f"a {self.head} head needs class_names, no head must have none",
             (self.head != "none") != bool(self.class_names)),
            ("class_names repeat", len(set(self.class_names)) != len(self.class_names)),
            ("mean and std need three numbers, std above 0",
             len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0),
            (wrong_args, bool(wrong_args)),
            *self._map_checks(),
        ]  # fmt: skip

    def _map_checks(self) -> list[tuple[str, bool]]:
        if self.task != "segmentation":
            return [("output_stride and dilated belong to segmentation", self.output_stride is not None
                     or self.dilated)]  # fmt: skip
        stride = self.output_stride
        return [
            (f"output_stride {stride} must be {' or '.join(map(str, OUTPUT_STRIDES))}", stride not in OUTPUT_STRIDES),
            (
                f"image_size {self.image_size} must divide by output_stride {stride}",
                self.image_size % (stride or 1) > 0,
            ),
        ]

    def _heads(self) -> tuple[str, ...]:
        return HEADS.get(self.task, ("none",))

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def map_size(self) -> int:
        """Side of the map of logits, in cells: of a segmentation model only. Raises ModelError."""
        if self.output_stride is None:
            raise ModelError(f"a {self.task} model has no map of logits")
        return self.image_size // self.output_stride

    def with_provenance(self, **entries: Any) -> ModelInfo:
        """A copy that also says where the weights come from."""
        return replace(self, provenance={**self.provenance, **entries})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelInfo:
        """Unknown keys are ignored. Raises ModelError for missing or wrong ones."""
        known = {f.name for f in fields(cls)}
        values: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list) else v for name, v in data.items() if name in known
        }
        try:
            return cls(**values)
        except TypeError as error:
            raise ModelError(f"model.json is incomplete: {str(error).removeprefix('ModelInfo.')}") from error

    def dumps(self) -> str:
        return json.dumps(self.to_json(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def comfortable_size(image_size: int) -> int:
    """Side of the input in px for an encoder that was published at `image_size`: 224 where that is over 384, as of
    DINOv2 (518)."""
    return DEFAULT_PX if image_size > COMFORTABLE_PX else image_size


def comfortable_batch(info: ModelInfo) -> int:
    """Images of a forward pass: 64, and of inputs over 224 px (128 px where it segments, at a denser map) as many as
    have no more pixels than 64 of those: the memory of a batch, and the wait for it, stay the same."""
    px = DEFAULT_DENSE_PX if info.task == "segmentation" else DEFAULT_PX
    return min(BATCH_SIZE, max(1, BATCH_SIZE * px**2 // info.image_size**2))


def check_patches(name: str, image_size: int, patch_px: int) -> None:
    """Raises UsageError, naming the nearest good sizes, when patches would not cover the image."""
    if image_size > 0 and image_size % patch_px == 0:
        return
    low = max(image_size, 0) // patch_px * patch_px
    good = " or ".join(f"--image-size {size}" for size in (low, low + patch_px) if size > 0)
    raise UsageError(
        f"{name} cuts images into patches of {patch_px} px, which do not cover {image_size} px: type {good}"
    )


def numbered_class_names(num_classes: int) -> tuple[str, ...]:
    """("c0", "c1", ...): names for classes that nobody named."""
    return tuple(f"c{index}" for index in range(num_classes))
