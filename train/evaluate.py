"""`train evaluate`: accuracy of a model on a labelled split."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from reinforce.command import CommonOptions
from reinforce.errors import DataError, ModelError, UsageError

from train.options import require

if TYPE_CHECKING:
    import torch
    from reinforce.models import ModelInfo, Preprocess
    from reinforce.progress import Progress
    from torch import nn

    from train.batches import SkippedImages, TrainingData
    from train.metrics import Tally
    from train.world import World


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig(CommonOptions):
    model: str
    """A run or model directory, or a catalog name."""
    data: str
    """Labelled images: a catalog name, an ImageFolder, a CSV or WebDataset tars."""
    split: str = "test"
    """Which split: train, val or test."""
    shots: int | None = None
    """Images per class, drawn by --seed."""
    num_labelled: int | None = None
    """Images in all, drawn by --seed."""
    limit: int | None = None
    """Only the first N images."""
    batch_size: int = 64
    """Images per forward pass."""
    image_size: int | None = None
    """Input size in px (default: the model's)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the forward pass; auto takes bf16 on CUDA, and on CPUs with bf16 for transformers."""
    task: Literal["classification"] = "classification"
    """What the labels are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch_size", "image_size", "shots", "num_labelled", "limit"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "an integer of at least 1")


@dataclasses.dataclass(frozen=True)
class EvaluateResult:
    """Accuracy in 0..1 with its 95 % Wilson interval; images that could not be decoded are counted apart."""

    task: str
    split: str
    num_images: int
    accuracy: float
    confidence_interval: tuple[float, float]
    num_skipped: int = 0

    def to_json(self) -> dict[str, Any]:
        data = dataclasses.asdict(self) | {"confidence_interval": list(self.confidence_interval)}
        return data if self.num_skipped else {key: value for key, value in data.items() if key != "num_skipped"}

    def __str__(self) -> str:
        low, high = self.confidence_interval
        skipped = f", {self.num_skipped} skipped" if self.num_skipped else ""
        return (f"accuracy {self.accuracy:.2%} ({low:.2%} .. {high:.2%}, 95 %) on {self.num_images} images of "
                f"'{self.split}'{skipped}")  # fmt: skip


def evaluate(config: EvaluateConfig) -> EvaluateResult:
    """Measure a model's accuracy on labelled images."""
    from reinforce import catalog
    from reinforce.data import open_labelled, take
    from reinforce.models import Preprocess, create_model
    from reinforce.progress import Progress

    from train.batches import SkippedImages
    from train.labelled import PlainViews
    from train.metrics import wilson_interval
    from train.optim import autocast_dtype
    from train.world import entered_world

    dataset = open_labelled(str(catalog.resolve_data(config.data).path), needs_train=False)
    samples = take(dataset.split(config.split), shots=config.shots, num_labelled=config.num_labelled,
                   limit=config.limit, seed=config.seed)  # fmt: skip
    model, info = create_model(config.model, image_size=config.image_size)
    check_class_names(config.model, info, dataset.class_names)
    views = PlainViews(dataset.source, samples, num_classes=info.num_classes, size_px=info.image_size)
    with entered_world(config.device) as world, Progress("evaluate", len(samples), quiet=config.quiet) as progress:
        dtype = autocast_dtype(config.precision, model, world.device)
        tally = tally_labelled(model.to(world.device), views, Preprocess.from_info(info), world=world, dtype=dtype,
                               batch_size=config.batch_size, workers=config.workers,
                               skipped=SkippedImages(quiet=config.quiet), progress=progress)  # fmt: skip
    if tally.num_images == 0:
        raise DataError(f"no image of split '{config.split}' of {config.data} can be evaluated: it has {len(samples)}")
    interval = wilson_interval(tally.num_correct, tally.num_images)
    num_skipped = len(samples) - tally.num_images
    return EvaluateResult(info.task, config.split, tally.num_images, tally.accuracy, interval, num_skipped)


def tally_labelled(model: nn.Module, views: TrainingData, preprocess: Preprocess, *, world: World,
                   dtype: torch.dtype | None, batch_size: int, workers: int, skipped: SkippedImages,
                   progress: Progress | None = None) -> Tally:  # fmt: skip
    """Run a model in eval mode over all rows and count; rows that cannot be decoded are noted in `skipped`."""
    import torch

    from train.batches import make_loader, steps_in_epoch
    from train.metrics import Tally
    from train.optim import autocast
    from train.world import World

    tally = Tally()
    total = steps_in_epoch(len(views.epoch_order(0)), batch_size)
    loader = make_loader(views, batch_size, start=0, total=total, world=World(world.device), workers=workers)
    model.eval()
    for batch in loader:
        skipped.note(batch, progress)
        if progress is not None:
            progress.update(len(batch) + len(batch.skipped))
        if len(batch):
            with torch.inference_mode(), autocast(world.device, dtype):
                logits = model(preprocess(batch.inputs, world.device))
            tally.add(logits, batch.targets.to(world.device))
    return tally


def check_class_names(name: str, info: ModelInfo, class_names: Sequence[str]) -> None:
    """Raises ModelError for a model without a head, UsageError where its classes are not those of the data.

    Numbered names (c0, c1, ...) stand for classes that nobody named: only their count must fit.
    """
    from reinforce.models import numbered_class_names

    if info.head == "none":
        raise ModelError(f"{name} has no classifier to evaluate: type train finetune --model {name} first")
    ours, theirs = info.class_names, tuple(class_names)
    if len(ours) != len(theirs):
        raise UsageError(f"{name} knows {len(ours)} classes, the data has {len(theirs)}: choose the data that it was "
                         "trained for, or finetune it on these")  # fmt: skip
    if numbered_class_names(len(ours)) in (ours, theirs):
        return
    for index, (mine, other) in enumerate(zip(ours, theirs, strict=True)):
        if mine != other:
            raise UsageError(f"class {index} is '{mine}' in {name} but '{other}' in the data: choose the data that it "
                             "was trained for, or finetune it on these")  # fmt: skip
