"""A folder of timm's `save_for_hf` or `push_to_hf_hub`: weights beside a config.json that says what they are.

What it says is what import-model otherwise asks for. Only its facts are read, no code and no addresses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reinforce.errors import ModelError
from reinforce.models.model_args import problem_of

CONFIG, MODEL_INFO = "config.json", "model.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
READ_OTHERWISE = frozenset({"num_classes", "in_chans", "img_size"})
"""Arguments of the model that the weights, or another member of config.json, tell."""


@dataclass(frozen=True, kw_only=True)
class TimmFolder:
    """What config.json says; None where it does not say it."""

    weights: Path
    architecture: str
    model_args: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `timm.create_model` besides classes and size."""
    image_size: int | None = None
    """Side of the input in px."""
    class_names: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str | None = None
    license: str | None = None

    def facts(self, num_classes: int) -> dict[str, Any]:
        """The members of a ModelInfo that are known, for weights whose head has this many classes."""
        known = {name: getattr(self, name) for name in ("mean", "std", "interpolation")}
        names = self.class_names if self.class_names and len(self.class_names) == num_classes else None
        return {name: value for name, value in {**known, "class_names": names}.items() if value is not None}


def read_timm_folder(folder: Path) -> TimmFolder:
    """Raises ModelError for a folder of another kind, and for a model that a model directory cannot hold."""
    config = _timm_config(folder)
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise ModelError(f"{folder} has a {CONFIG} and no {' or '.join(WEIGHTS)}: type the file of weights itself")
    args = config.get("model_args") or {}
    published = config.get("pretrained_cfg") or config  # timm before 0.9 wrote its members flat
    _check_args(folder, args)
    try:
        return TimmFolder(
            weights=weights,
            architecture=str(config["architecture"]).partition(".")[0],
            model_args={name: value for name, value in args.items() if name not in READ_OTHERWISE},
            image_size=_side(args.get("img_size") or published.get("input_size")),
            class_names=_class_names(config.get("label_names") or published.get("label_names"), config),
            mean=_three(published.get("mean")),
            std=_three(published.get("std")),
            interpolation="bilinear" if published.get("interpolation") == "bilinear" else "bicubic",
            license=str(published["license"]) if published.get("license") else None,
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{folder / CONFIG} is not as timm writes it ({error}): type --weights {weights}") from error


def read_config(folder: Path) -> dict[str, Any]:
    """config.json, whoever wrote it; empty where there is none that is an object."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _timm_config(folder: Path) -> dict[str, Any]:
    if (folder / MODEL_INFO).is_file():
        raise ModelError(f"{folder} is a model directory already: type it as it is, such as --teacher {folder}")
    config = read_config(folder)
    if not config.get("architecture"):
        raise ModelError(f"{folder} is a folder without a {CONFIG} of timm: type the file of weights itself")
    return config


def _check_args(folder: Path, args: Any) -> None:
    if not isinstance(args, Mapping):
        raise ModelError(f"{folder / CONFIG}: {problem_of(args)}")
    if args.get("in_chans", 3) != 3:
        raise ModelError(f"{folder} takes images of {args['in_chans']} channels: only RGB can be stored and replayed")
    if problem := problem_of({name: value for name, value in args.items() if name not in READ_OTHERWISE}):
        raise ModelError(f"{folder / CONFIG}: {problem}")


def _side(size: Any) -> int | None:
    """224, [224, 224] or [3, 224, 224] -> 224. Raises ValueError where it is not square."""
    if size is None:
        return None
    height, width = size[-2:] if isinstance(size, list) else (size, size)
    if height != width:
        raise ValueError(f"images of {height} x {width} px are not square")
    return int(height)


def _class_names(names: Any, config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Names that stand for all classes, each for one; timm also has mappings of synsets."""
    if not isinstance(names, list) or len(set(map(str, names))) != config.get("num_classes"):
        return None
    return tuple(map(str, names))


def _three(values: Any) -> tuple[float, ...] | None:
    if values is None:
        return None
    first, second, third = values
    return float(first), float(second), float(third)
