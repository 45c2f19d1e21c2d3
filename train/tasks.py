"""What adapt and finetune ask of a task: its images, its model's objective and figures, how a head is trained alone.

`classification` and `segmentation` answer; trials, checkpoints and the run directory are the same for both.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import click
import torch
from reinforce.models import ModelInfo, Preprocess
from torch import Tensor, nn

from train.batches import Batch, SkippedImages, TrainingData
from train.options import LabelledOptions
from train.passes import Pass
from train.world import World, is_main_process


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """The model that a run's trials work on, and what they work with."""

    config: LabelledOptions
    model: nn.Module
    info: ModelInfo
    world: World
    dtype: torch.dtype | None
    """Arithmetic of the model's forward pass; None: float32."""
    skipped: SkippedImages
    start: Mapping[str, Tensor]
    """The weights that every trial starts from."""

    @property
    def preprocess(self) -> Preprocess:
        return Preprocess.from_info(self.info)

    def restore(self) -> None:
        """Put the starting weights into the model."""
        self.model.load_state_dict(self.start)

    def rows(self, data: TrainingData, *, epochs: int = 1, keeps: bool = False) -> Pass:
        """All rows of some data, for this rank alone."""
        return Pass(data, self.config.batch_size, world=World(self.world.device), workers=self.config.workers,
                    epochs=epochs, keeps=keeps)  # fmt: skip


class Probe(Protocol):
    """The head alone, trained on a frozen encoder. What is costly is computed when it is first asked for."""

    @property
    def data(self) -> TrainingData:
        """What heads are trained on."""

    @property
    def reads_images(self) -> bool:
        """Whether loading `data` decodes images, and does not only take what is in memory."""

    @property
    def num_epochs(self) -> int:
        """Default length of a training."""

    def new_head(self) -> nn.Module:
        """What training starts from, every time the same."""

    def objective(self, head: nn.Module, batch: Batch) -> Tensor:
        """Mean loss of a batch of `data`."""

    def evaluate(self, head: nn.Module) -> dict[str, float]:
        """Figures on the validation images, named as those of `Task.validator`."""

    def install(self, state: Mapping[str, Tensor]) -> None:
        """Put a trained head's weights into the model."""


class Labelled(Protocol):
    """A dataset as every task sees it."""

    @property
    def name(self) -> str: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def license(self) -> str: ...


D = TypeVar("D", bound=Labelled)
S = TypeVar("S")


class Task(ABC, Generic[D, S]):
    """A task with the labelled images of a run."""

    metric: ClassVar[str]
    """What decides between trials, 0..1: figures call it val_METRIC."""

    def __init__(self, dataset: D, train: tuple[S, ...], val: tuple[S, ...]) -> None:
        """`train`: samples as asked for by --shots and the like; `val`: of the val split, empty where there is none."""
        self.dataset, self.train, self.val = dataset, train, val

    @property
    def data_name(self) -> str:
        """What the data are called in provenance."""
        return self.dataset.name

    @property
    def data_license(self) -> str:
        """Of the labelled images."""
        return self.dataset.license

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.dataset.class_names

    @abstractmethod
    def training_data(self, bench: Bench) -> TrainingData:
        """Augmented views for full training."""

    @abstractmethod
    def objective(self, bench: Bench, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss of a batch of `training_data`."""

    @abstractmethod
    def validator(self, bench: Bench) -> Callable[[nn.Module], dict[str, float]]:
        """What measures a model: val_METRIC and val_loss on the validation images, which it keeps decoded."""

    @abstractmethod
    def probe(self, bench: Bench) -> Probe: ...

    @property
    def score(self) -> str:
        return f"val_{self.metric}"

    def rank(self, scores: Mapping[str, float]) -> tuple[float, ...]:
        """Best is largest: the metric, then the loss."""
        return (scores[self.score], -scores["val_loss"])


def open_task(config: LabelledOptions) -> Task[Any, Any]:
    """The images of --data for --task. Raises MissingDataError, UnknownNameError, DataError."""
    if config.task == "segmentation":
        from train.segmentation import Segmentation

        return Segmentation.open(config)
    from train.classification import Classification

    return Classification.open(config)


def warn_of(lack: str) -> None:
    """Say, once for all ranks, what --shots or --num-labelled ask for and is not there; "" is nothing."""
    if lack and is_main_process():
        click.echo(f"warning: {lack}: all of them are trained on", err=True)


def crop_range(config: LabelledOptions) -> tuple[float, float] | None:
    """--crop-scale, or None for the policy's own."""
    return (config.crop_scale[0], config.crop_scale[1]) if config.crop_scale else None
