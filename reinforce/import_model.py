"""`reinforce import-model`: a user's own finetuned checkpoint becomes a model directory."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from shlex import quote
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from reinforce.command import TalkOptions
from reinforce.errors import ModelError, OutputExistsError, UsageError

if TYPE_CHECKING:
    from reinforce.models import ModelInfo


@dataclass(frozen=True, kw_only=True)
class ImportModelConfig(TalkOptions):
    arch: str
    """timm architecture (vit_base_patch16_224) or open_clip:MODEL of the checkpoint."""
    weights: str
    """Checkpoint: .safetensors, or a torch file that holds tensors only."""
    out: str
    """Model directory to write."""
    head_key: str | None = None
    """The checkpoint's name of its linear classifier (fc for fc.weight and fc.bias); default: the architecture's."""
    class_names: str | None = None
    """Class names in the order of the logits: a,b,c or a text file with one a line; default c0,c1,..."""
    image_size: int | None = None
    """Input side in px; position embeddings are resampled. Default: what the checkpoint was trained at."""
    mean: tuple[float, ...] | None = None
    """Mean of R,G,B in 0..1; default: the architecture's."""
    std: tuple[float, ...] | None = None
    """Standard deviation of R,G,B in 0..1; default: the architecture's."""
    license: str | None = None
    """Licence of the weights, kept with them and with every store made from them."""
    overwrite: bool = False
    """Replace an existing output."""

    def __post_init__(self) -> None:
        for option, values in (("--mean", self.mean), ("--std", self.std)):
            if values is not None and not (len(values) == 3 and 0 <= min(values) <= max(values) <= 1):
                raise UsageError(f"{option} needs three numbers in 0..1, such as {option} 0.485,0.456,0.406")
        if self.std is not None and min(self.std) == 0:
            raise UsageError("--std must be above 0")
        if "." in self.arch and not self.arch.startswith("open_clip:"):
            raise UsageError(f"--arch takes a bare architecture: type --arch {self.arch.partition('.')[0]}")


@dataclass(frozen=True)
class ImportedModel:
    out: str
    name: str
    """By which the catalog knows it."""
    architecture: str
    image_size: int
    num_classes: int
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    weights_sha256: str

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))

    def __str__(self) -> str:
        names = shorten(", ".join(self.class_names), 60)
        head = f"{self.num_classes} classes ({names})" if self.num_classes else "no head"
        verb = "reinforce build --teacher" if self.num_classes else "train adapt --model"
        data = "--transfer IMAGES" if self.num_classes else "--data DATA"
        check = f", or train evaluate --model {quote(self.name)} --data DATA" if self.num_classes else ""
        mean, std = (",".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        return (
            f"{self.out}: {self.architecture}, {self.image_size} px, {head}, registered as '{self.name}'\n"
            f"it takes pixels with --mean {mean} --std {std}: type those of your training if they were others\n"
            f"next: {verb} {quote(self.name)} {data}{check}"
        )


def import_model(config: ImportModelConfig) -> ImportedModel:
    """Make a model directory of your own finetuned checkpoint, and register it under the directory's name."""
    from reinforce import catalog
    from reinforce.models import change_image_size, save_model
    from reinforce.models.checkpoint import mismatch, read_checkpoint
    from reinforce.models.foreign import fit_state, trained_model
    from reinforce.models.naming import new_name
    from reinforce.models.open_clip_encoder import PREFIX
    from reinforce.models.open_clip_text import text_half

    out = Path(config.out)
    if (out / "model.json").exists() and not config.overwrite:
        raise OutputExistsError(out)
    name = new_name(config.out)
    source = Path(config.weights)
    state = read_checkpoint(source)
    beside = text_half(state) if config.arch.startswith(PREFIX) else {}
    model, info = trained_model(config.arch, state, config.head_key)
    state = fit_state(model, state, config.head_key)
    if problem := mismatch(model, state):
        advice = "if it has a classifier, add --head-key" if info.head == "none" else "type the --arch of your training"
        raise ModelError(f"{source.name} does not fit {config.arch}: {problem}; {advice}")
    model.load_state_dict(state, strict=True)
    info = _described(info, config, source)
    model, info = change_image_size(model, info, config.image_size or info.image_size)
    written = save_model(out, model, info, beside)
    catalog.register("models", name, out, license=config.license)
    return ImportedModel(config.out, name, info.architecture, info.image_size, info.num_classes, info.class_names,
                         info.mean, info.std, written.provenance["weights_sha256"])  # fmt: skip


def _described(info: ModelInfo, config: ImportModelConfig, source: Path) -> ModelInfo:
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    origin = {"source": source.name, "source_sha256": digest, **({"license": config.license} if config.license else {})}
    changes: dict[str, Any] = {
        "mean": config.mean,
        "std": config.std,
        "class_names": read_class_names(config.class_names, info.num_classes),
    }
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(info, **given).with_provenance(**origin)


def read_class_names(text: str | None, num_classes: int) -> tuple[str, ...] | None:
    """ "a,b,c" or a text file with one name a line. Raises UsageError when their number is not the head's."""
    if text is None:
        return None
    is_file = os.path.isfile(text)  # noqa: PTH113 (pathlib raises for a list longer than any file's name)
    lines = Path(text).read_text(encoding="utf-8").splitlines() if is_file else text.split(",")
    names = tuple(line.strip() for line in lines if line.strip())
    if len(names) != num_classes:
        raise UsageError(f"--class-names gives {len(names)} names, the checkpoint's head has {num_classes} classes")
    return names
