"""`train evaluate`: a model on a labelled split: accuracy, or mean IoU, with a page of what it gets wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reinforce.command import CommonOptions
from reinforce.counting import counted, first_of
from reinforce.errors import DataError, ModelError, UsageError

from train.options import check_shots, require

if TYPE_CHECKING:
    from reinforce.models import ModelInfo

CLASSES_SAID = 30
"""IoU of so many classes is printed; --json and --html have all."""
NAMES_SAID = 4
"""Classes that a line names."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateConfig(CommonOptions):
    model: str
    """A run or model directory, or a catalog name."""
    data: str
    """Labelled images: a catalog name, an ImageFolder, a CSV, WebDataset tars, or a folder of images/ and masks/."""
    split: str = "test"
    """Which split: train, val or test."""
    shots: int | None = None
    """Images per class, drawn by --seed; of classification alone."""
    num_labelled: int | None = None
    """Images in all, drawn by --seed."""
    limit: int | None = None
    """Only the first N images: of folders, those of the first classes."""
    batch_size: int | None = None
    """Images per forward pass (default: 64, and fewer where they are larger than 224 px, or 128 px for masks)."""
    image_size: int | None = None
    """Input size in px (default: the model's)."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the forward pass; auto takes bf16 on CUDA, and on CPUs with bf16 for transformers."""
    task: Literal["classification", "segmentation"] | None = None
    """What the labels are (default: what the model answers)."""
    html: str | None = None
    """A page to write: worst mistakes, classes, confusions; of segmentation pictures, masks and the IoU of classes. A
    run's own report.html has the same."""
    teacher: str | None = None
    """A second model to measure and show beside it, on the page and in the run's report."""
    overwrite: bool = False
    """Replace an existing page."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("batch_size", "image_size", "shots", "num_labelled", "limit"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "an integer of at least 1")

    @property
    def models(self) -> tuple[str, ...]:
        """What is measured: the model, then the teacher, if one is asked for."""
        return (self.model,) if self.teacher is None else (self.model, self.teacher)


@dataclasses.dataclass(frozen=True)
class EvaluateResult:
    """Accuracy in 0..1 with its 95 % Wilson interval; images that could not be decoded are counted apart."""

    task: str
    split: str
    num_images: int
    accuracy: float
    confidence_interval: tuple[float, float]
    num_skipped: int = 0
    html: str | None = None
    """The page that was written."""
    matched_by_name: tuple[str, ...] = ()
    """Models whose classes are in another order than the data's."""

    def to_json(self) -> dict[str, Any]:
        data = dataclasses.asdict(self) | {"confidence_interval": list(self.confidence_interval)}
        return _said({**data, "matched_by_name": list(self.matched_by_name)})

    def __str__(self) -> str:
        low, high = self.confidence_interval
        skipped = f", {self.num_skipped} skipped" if self.num_skipped else ""
        page = [f"wrote {self.html}"] if self.html else []
        figures = (f"accuracy {self.accuracy:.2%} ({low:.2%} .. {high:.2%}, 95 %) on "
                   f"{counted(self.num_images, 'image')} of '{self.split}'{skipped}")  # fmt: skip
        return "\n".join([figures, *matched_by_name(self.matched_by_name), *page])


@dataclasses.dataclass(frozen=True)
class SegmentationResult:
    """Mean IoU in 0..1 with a 95 % bootstrap interval over images, at the images' own sizes."""

    split: str
    num_images: int
    mean_iou: float
    confidence_interval: tuple[float, float]
    iou: Mapping[str, float | None]
    """By class; None for one that is neither in a mask nor predicted, and that the mean leaves out."""
    pixel_accuracy: float
    num_skipped: int = 0
    html: str | None = None
    """The page that was written."""
    matched_by_name: tuple[str, ...] = ()
    """Models whose classes are in another order than the data's."""

    def to_json(self) -> dict[str, Any]:
        return _said({"task": "segmentation", **dataclasses.asdict(self), "iou": dict(self.iou),
                      "confidence_interval": list(self.confidence_interval),
                      "matched_by_name": list(self.matched_by_name)})  # fmt: skip

    def __str__(self) -> str:
        low, high = self.confidence_interval
        skipped = f", {self.num_skipped} skipped" if self.num_skipped else ""
        images = counted(self.num_images, "image")
        figures = (f"mean IoU {self.mean_iou:.2%} ({low:.2%} .. {high:.2%}, 95 %), pixel accuracy "
                   f"{self.pixel_accuracy:.2%} on {images} of '{self.split}'{skipped}")  # fmt: skip
        page = [f"wrote {self.html}"] if self.html else []
        return "\n".join([figures, self._classes(), *matched_by_name(self.matched_by_name), *page])

    def _classes(self) -> str:
        said = [f"{name} {'absent' if value is None else f'{value:.1%}'}" for name, value in self.iou.items()]
        return f"IoU: {first_of(said, CLASSES_SAID)}"


def _said(data: dict[str, Any]) -> dict[str, Any]:
    """Without what there is nothing to say of."""
    seldom = ("num_skipped", "html", "matched_by_name")
    return {key: value for key, value in data.items() if value or key not in seldom}


def matched_by_name(models: Sequence[str]) -> list[str]:
    """The line about models whose classes are in another order than the data's, if there are any."""
    has = "has its classes" if len(models) == 1 else "have their classes"
    return [f"{' and '.join(models)} {has} in another order than the data: matched by name"] if models else []


def evaluate(config: EvaluateConfig) -> EvaluateResult | SegmentationResult:
    """Measure a model on labelled images; a run directory keeps what was found, for train compare."""
    from reinforce.models import check_model

    from train.evaluations import keeps_report
    from train.students import own_task

    for name in config.models:
        check_model(name)
    if config.teacher is not None and config.html is None and not keeps_report(config.model):
        raise UsageError(f"--teacher {config.teacher} is shown on a page: type --html PAGE.html, too")
    task = own_task(config.model)
    if config.task not in (None, task):
        raise UsageError(f"{config.model} is a model of {task}, not of {config.task}: leave --task out, or choose a "
                         f"model that train finetune --task {config.task} made")  # fmt: skip
    check_shots(task, config.shots)
    if task == "segmentation":
        return _evaluate_segmentation(config)
    return _evaluate_classification(config)


def _check_places(config: EvaluateConfig) -> None:
    """What is not there is named before what stands at --html."""
    from reinforce import catalog
    from reinforce.pages import check_writable

    catalog.resolve_data(config.data)
    if config.html is not None:
        check_writable(Path(config.html), overwrite=config.overwrite)


def _evaluate_classification(config: EvaluateConfig) -> EvaluateResult:
    from reinforce.data import named_labelled, take

    from train.batches import SkippedImages
    from train.classification_page import show_classification, write_classification_page
    from train.classifier import Classifier
    from train.evaluations import keeps_report
    from train.metrics import wilson_interval
    from train.world import entered_world

    _check_places(config)
    dataset = named_labelled(config.data, needs_train=False)
    samples = take(dataset.split(config.split), shots=config.shots, num_labelled=config.num_labelled,
                   limit=config.limit, seed=config.seed)  # fmt: skip
    skipped = SkippedImages(quiet=config.quiet)
    with entered_world(config.device) as world:
        classifiers = [Classifier.open(name, config, dataset.class_names, world) for name in config.models]
        answers = [classifier.measure(dataset, samples, config, skipped) for classifier in classifiers]
        tally, info = answers[0], classifiers[0].info
        if tally.num_images == 0:
            raise nothing_to_evaluate(config, len(samples))
        result = EvaluateResult(
            task=info.task,
            split=config.split,
            num_images=tally.num_images,
            accuracy=tally.accuracy,
            confidence_interval=wilson_interval(tally.num_correct, tally.num_images),
            num_skipped=len(samples) - tally.num_images,
            html=config.html,
            matched_by_name=tuple(one.name for one in classifiers if one.reordered),
        )
        measured = [samples[row] for row in tally.rows.tolist()]
        shown = None
        if world.is_main and (config.html is not None or keeps_report(config.model)):
            shown = show_classification(dataset, measured, classifiers, answers)
            if config.html is not None:
                write_classification_page(config, result, dataset, shown, answers)
    _keep(config, dataset.name, info, result, [f"{sample.key}\t{sample.label}" for sample in measured], shown)
    return result


def _evaluate_segmentation(config: EvaluateConfig) -> SegmentationResult:
    from reinforce.data import named_masked, take_masked

    from train.evaluation_page import show_segmentation, write_segmentation_page
    from train.evaluations import keeps_report
    from train.iou import bootstrap_interval
    from train.segmenter import Segmenter
    from train.world import entered_world

    _check_places(config)
    dataset = named_masked(config.data, needs_train=False)
    samples = take_masked(dataset.split(config.split), num_labelled=config.num_labelled, limit=config.limit,
                          seed=config.seed)  # fmt: skip
    with entered_world(config.device) as world:
        segmenters = [Segmenter.open(name, config, dataset.class_names, world) for name in config.models]
        tallies = [segmenter.measure(dataset, samples, config) for segmenter in segmenters]
        tally = tallies[0]
        if tally.num_images == 0:
            raise nothing_to_evaluate(config, len(samples))
        result = SegmentationResult(
            split=config.split,
            num_images=tally.num_images,
            mean_iou=tally.confusion.mean_iou,
            confidence_interval=bootstrap_interval(tally.measured_sums, seed=config.seed),
            iou=dict(zip(segmenters[0].info.class_names, tally.confusion.iou, strict=True)),
            pixel_accuracy=tally.confusion.pixel_accuracy,
            num_skipped=len(samples) - tally.num_images,
            html=config.html,
            matched_by_name=tuple(one.name for one in segmenters if one.reordered),
        )
        shown = None
        if world.is_main and (config.html is not None or keeps_report(config.model)):
            shown = show_segmentation(dataset, samples, segmenters, tallies)
            if config.html is not None:
                write_segmentation_page(config, result, dataset, shown, tallies)
    measured = [sample.key for sample, is_seen in zip(samples, tally.seen, strict=True) if is_seen]
    _keep(config, dataset.name, segmenters[0].info, result, measured, shown)
    return result


def _keep(config: EvaluateConfig, data: str, info: ModelInfo, result: EvaluateResult | SegmentationResult,
          measured: Sequence[str], shown: dict[str, Any] | None) -> None:  # fmt: skip
    """Leave the figures in the run that was measured, for `train compare`, and what its report shows of them.

    `measured`: keys of its images."""
    from train.evaluations import Evaluation, images_sha256, keep_evaluation, subset_of

    weights = info.provenance.get("weights_sha256")
    keep_evaluation(config.model, Evaluation(data=data, split=config.split, subset=subset_of(config),
                                             weights_sha256=weights, result=result.to_json(),
                                             images=images_sha256(measured), location=config.data), shown)  # fmt: skip


def nothing_to_evaluate(config: EvaluateConfig, num_samples: int) -> DataError:
    return DataError(f"no image of split '{config.split}' of {config.data} can be evaluated: it has {num_samples}")


def check_class_names(name: str, info: ModelInfo, class_names: Sequence[str]) -> None:
    """Raises ModelError for a model without a head, UsageError where they are not the data's, in any order.

    Numbered names (c0, c1, ...) stand for classes that nobody named: only their count must fit.
    """
    from reinforce.models import numbered_class_names

    if info.head == "none":
        raise ModelError(f"{name} has no classifier to evaluate: type train finetune --model {name} first")
    ours, theirs = info.class_names, tuple(class_names)
    is_count = numbered_class_names(len(ours)) == ours or numbered_class_names(len(theirs)) == theirs
    if len(ours) == len(theirs) if is_count else sorted(ours) == sorted(theirs):
        return
    only = [] if is_count else [_only(name, ours, theirs), _only("the data", theirs, ours)]
    raise UsageError("; ".join([f"{name} knows {counted(len(ours), 'class', 'classes')}, the data has {len(theirs)}",
                                *filter(None, only)]) + ": choose the data that it was trained for, or finetune it "
                     "on these")  # fmt: skip


def _only(owner: str, ours: Sequence[str], theirs: Sequence[str]) -> str:
    """What classes only one of both has."""
    names = [f"'{name}'" for name in ours if name not in set(theirs)]
    return f"only {owner} has {first_of(names, NAMES_SAID)}" if names else ""
