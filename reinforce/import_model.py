"""`reinforce import-model`: a user's own finetuned checkpoint becomes a model directory."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from shlex import quote
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from reinforce.command import REPEATED, TalkOptions
from reinforce.counting import counted
from reinforce.errors import ModelError, OutputExistsError, UsageError

if TYPE_CHECKING:
    from reinforce.models import ModelInfo
    from reinforce.models.timm_folder import TimmFolder


WRONG_ARCH = "type the --arch of your training, and what it was given (--arch-arg depth=6)"


@dataclass(frozen=True, kw_only=True)
class ImportModelConfig(TalkOptions):
    arch: str | None = None
    """timm architecture (vit_base_patch16_224) or open_clip:MODEL of the checkpoint; a folder of timm's has
    its own."""
    arch_arg: tuple[str, ...] = field(default=(), metadata=REPEATED)
    """An argument that you gave timm.create_model, such as depth=6, class_token=false or depths=2,2,6,2; typed once
    for each; a folder of timm's has its own."""
    weights: str
    """Checkpoint: .safetensors, or a torch file that holds tensors only; or a folder of timm's save_for_hf, whose
    config.json says the rest."""
    out: str
    """Model directory to write."""
    head_key: str | None = None
    """The checkpoint's name of its linear classifier (fc for fc.weight and fc.bias); default: the architecture's."""
    class_names: str | None = None
    """Class names in the order of the logits: a,b,c or a text file with one a line; default c0,c1,..."""
    image_size: int | None = None
    """Input side in px; position embeddings are resampled. Default: what the checkpoint or its config.json
    tells (position embeddings do, convolutions do not), else the architecture's."""
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
        self._check_arch()

    def _check_arch(self) -> None:
        if self.arch is None:
            if not Path(self.weights).is_dir():
                raise UsageError("--arch is needed to read a file of weights: type what you gave timm.create_model")
        elif self.arch.startswith(("local-dir:", "hf-hub:", "hf_hub:")):
            raise UsageError("--arch takes a bare architecture: a folder of timm's goes to --weights, without --arch")
        elif "." in self.arch and not self.arch.startswith("open_clip:"):
            raise UsageError(f"--arch takes a bare architecture: type --arch {self.arch.partition('.')[0]}")
        if self.arch_arg and (self.arch or "").startswith("open_clip:"):
            raise UsageError("--arch-arg is for timm's architectures: leave it out")


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
    arguments: str = ""
    """What the architecture was given: "depth=6, num_heads=3"."""
    size_is_known: bool = True
    """Whether the input size was typed or read, and is not just the architecture's."""

    def to_json(self) -> dict[str, Any]:
        return dict(vars(self))

    def __str__(self) -> str:
        names = shorten(", ".join(self.class_names), 60)
        head = f"{counted(self.num_classes, 'class', 'classes')} ({names})" if self.num_classes else "no head"
        verb = "reinforce build --teacher" if self.num_classes else "train adapt --model"
        data = "--transfer IMAGES" if self.num_classes else "--data DATA"
        check = f", or train evaluate --model {quote(self.name)} --data DATA" if self.num_classes else ""
        size = "" if self.size_is_known else f" --image-size {self.image_size}"
        mean, std = (",".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
        args = f" with {self.arguments}" if self.arguments else ""
        return (
            f"{self.out}: {self.architecture}{args}, {self.image_size} px, {head}, registered as '{self.name}'\n"
            f"it takes pixels with --mean {mean} --std {std}{size}: type those of your training if they were others\n"
            f"next: {verb} {quote(self.name)} {data}{check}"
        )


def import_model(config: ImportModelConfig) -> ImportedModel:
    """Make a model directory of your own finetuned checkpoint, and register it under the directory's name."""
    from reinforce import catalog
    from reinforce.models import change_image_size, save_model
    from reinforce.models.checkpoint import mismatch, read_checkpoint
    from reinforce.models.foreign import fit_state, trained_model, trained_size
    from reinforce.models.model_args import shown
    from reinforce.models.naming import new_name
    from reinforce.models.open_clip_encoder import PREFIX
    from reinforce.models.open_clip_text import text_half

    source = _source(config)
    state = read_checkpoint(source.weights)
    out = Path(config.out)
    if (out / "model.json").exists() and not config.overwrite:
        raise OutputExistsError(out)
    name = new_name(config.out)
    beside = text_half(state) if source.architecture.startswith(PREFIX) else {}
    model, info = trained_model(source.architecture, state, config.head_key, image_size=source.image_size,
                                model_args=source.model_args)  # fmt: skip
    size_is_known = source.architecture.startswith(PREFIX) or bool(
        config.image_size or source.image_size or trained_size(source.architecture, state)
    )
    state = fit_state(model, state, config.head_key)
    if problem := mismatch(model, state):
        advice = "if it has a classifier, add --head-key" if info.head == "none" else WRONG_ARCH
        raise ModelError(f"{source.weights.name} does not fit {source.architecture}: {problem}; {advice}")
    model.load_state_dict(state, strict=True)
    info = _described(info, config, source)
    model, info = change_image_size(model, info, config.image_size or info.image_size)
    written = save_model(out, model, info, beside)
    catalog.register("models", name, out, license=info.provenance.get("license"))
    return ImportedModel(config.out, name, info.architecture, info.image_size, info.num_classes, info.class_names,
                         info.mean, info.std, written.provenance["weights_sha256"], shown(info.model_args),
                         size_is_known)  # fmt: skip


def _source(config: ImportModelConfig) -> TimmFolder:
    """What is known of the weights before they are read. Raises ModelError for folders of another kind."""
    from reinforce.models.model_args import parse
    from reinforce.models.timm_folder import TimmFolder, read_timm_folder

    path, typed = Path(config.weights), parse(config.arch_arg)
    if not path.is_dir():
        return TimmFolder(weights=path, architecture=str(config.arch), model_args=typed)
    found = read_timm_folder(path)
    return replace(found, architecture=config.arch or found.architecture,
                   model_args={**found.model_args, **typed})  # fmt: skip


def _described(info: ModelInfo, config: ImportModelConfig, source: TimmFolder) -> ModelInfo:
    with source.weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    license_name = config.license or source.license
    origin = {"source": source.weights.name, "source_sha256": digest}
    changes: dict[str, Any] = {
        "mean": config.mean,
        "std": config.std,
        "class_names": read_class_names(config.class_names, info.num_classes),
    }
    given = {name: value for name, value in changes.items() if value is not None}
    described = replace(info, **(source.facts(info.num_classes) | given))
    return described.with_provenance(**origin, **({"license": license_name} if license_name else {}))


def read_class_names(text: str | None, num_classes: int) -> tuple[str, ...] | None:
    """ "a,b,c" or a text file with one name a line. Raises UsageError when their number is not the head's."""
    if text is None:
        return None
    is_file = os.path.isfile(text)  # noqa: PTH113 (pathlib raises for a list longer than any file's name)
    lines = Path(text).read_text(encoding="utf-8").splitlines() if is_file else text.split(",")
    names = tuple(line.strip() for line in lines if line.strip())
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"--class-names gives '{repeated[0]}' twice: each class has a name of its own")
    if len(names) != num_classes:
        raise UsageError(f"--class-names gives {counted(len(names), 'name')}, the checkpoint's head has "
                         f"{counted(num_classes, 'class', 'classes')}")
    return names
