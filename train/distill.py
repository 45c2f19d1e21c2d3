"""`train distill`: a student learns from a store's views and targets; no teacher is needed or imported (paper A.4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any, Literal

from reinforce.command import REPEATED
from reinforce.errors import UsageError

from train.options import TrainOptions, require
from train.presets import accepts_presets, check_preset
from train.results import finetune_command

if TYPE_CHECKING:
    from reinforce.store import Store

    from train.projections import Projections

Task = Literal["classification", "segmentation"]
LossName = Literal["kl", "contrastive", "cosine"]
LOSSES: dict[str, LossName] = {"logits": "kl", "dense-logits": "kl", "global-features": "contrastive",
                               "patch-features": "cosine"}  # fmt: skip
"""Target that a store holds -> the loss that matches it (paper section 3.1)."""


@accepts_presets("distill")
@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillConfig(TrainOptions):
    cache: str | tuple[str, ...] = dataclasses.field(metadata=REPEATED)
    """The store that `reinforce build` wrote. Several of the same views (--cache A --cache B) are an ensemble: their
    teachers' predictions are averaged."""
    transfer: str | None = None
    """Where the store's transfer set lies (default: what the catalog knows)."""
    out: str = ""
    """Run directory to write (default: runs/STORE-STUDENT)."""
    student: str = "fastvit_s12"
    """A timm name, such as fastvit_t8 or mobilevitv2_100, a catalog name or a directory."""
    init_from: str | None = None
    """Weights to start from: a run or model directory of the same architecture."""
    image_size: int | None = None
    """The student's input size in px (default: that of the views)."""
    batch_size: int = 128
    """Views per step, over all devices."""
    lr: float = 7e-4
    """Peak learning rate."""
    task: Task | None = None
    """What the teacher answers (default: what the store says)."""
    head: Literal["deeplabv3", "linear"] | None = None
    """Head of a segmentation student (default: the one that it has, else deeplabv3)."""
    loss: LossName | None = None
    """What matches student and teacher (default: kl for logits, contrastive for global-features, cosine for
    patch-features)."""
    temperature: float | None = None
    """Temperature of the softmax: of kl the one that the store certifies, of contrastive by default 0.07."""
    projection: Literal["student", "both"] | None = None
    """Which side's features are projected linearly (default: student for open_clip teachers and patch-features, else
    both)."""
    projection_dim: int | None = None
    """Dimensions that both sides are projected into (default: 768); student leads into those of the teacher."""
    online_teacher: str | None = None
    """The store's own teacher, to compute every training target anew instead of reading it, over the same views, order
    and steps: a control that shows what the cache costs in quality. Validation stays on what is stored."""
    accept_drift: bool = False
    """Train even if this machine replays other pixels than the teacher saw; model.json then says so."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.cache, str) and len(self.cache) == 1:
            object.__setattr__(self, "cache", self.cache[0])
        require(self.lr > 0, "lr", self.lr, "above 0")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "an integer of at least 1")
        require(self.image_size is None or self.image_size >= 1, "image_size", self.image_size, "1 px or more")
        require(self.projection_dim is None or self.projection_dim >= 1, "projection_dim", self.projection_dim,
                "an integer of at least 1")  # fmt: skip
        require(self.temperature is None or self.temperature > 0, "temperature", self.temperature, "above 0")

    @property
    def run_directory(self) -> str:
        stores = "+".join(Path(store).stem for store in self.caches)
        return self.out or f"runs/{stores}-{Path(self.student).name}"

    @property
    def caches(self) -> tuple[str, ...]:
        return (self.cache,) if isinstance(self.cache, str) else self.cache


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillResult:
    """Figures are means over held-out views, or over the valid pixels of all views for a segmentation student.

    None where there is nothing held out, or where they are of another loss.
    """

    out: str
    student: str
    store_digest: str
    """Of the manifest of the store, or of an ensemble's first."""
    steps: int
    best_step: int
    loss: LossName = "kl"
    task: Task = "classification"
    other_store_digests: tuple[str, ...] = ()
    """Of an ensemble's other stores."""
    kl: float | None = None
    """Of kl: nats, at the store's temperature."""
    agreement: float | None = None
    """Of kl: share with the teacher's top-1, 0..1."""
    contrastive: float | None = None
    """Of contrastive: its value among all held-out views, in nats."""
    retrieval: float | None = None
    """Of contrastive: share of views whose own teacher's feature is the nearest, 0..1."""
    cosine_distance: float | None = None
    """Of cosine: 1 - cos, of patches."""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DistillResult:
        return cls(**{**data, "other_store_digests": tuple(data.get("other_store_digests", ()))})

    def __str__(self) -> str:
        task = "--task segmentation " if self.task == "segmentation" else ""
        then = f", or train evaluate --model {quote(self.out)} --data DATA" if self.loss == "kl" else ""
        return (f"wrote {self.out} ({self.student}, best at step {self.best_step} of {self.steps}{self._measured()})\n"
                f"next: {finetune_command(self.out, task)}{then}")  # fmt: skip

    def _measured(self) -> str:
        if self.kl is not None and self.agreement is not None:
            compared = "views" if self.task == "classification" else "pixels"
            return f", agrees with the teacher on {self.agreement:.1%} of held-out {compared}, KL {self.kl:.4f}"
        if self.contrastive is not None and self.retrieval is not None:
            return (f", finds the teacher's feature of {self.retrieval:.1%} of held-out views, contrastive loss "
                    f"{self.contrastive:.4f}")  # fmt: skip
        if self.cosine_distance is not None:
            return f", cosine distance to the teacher's patches {self.cosine_distance:.4f}"
        return ""


@dataclasses.dataclass(frozen=True)
class Aim:
    """What a store and the options come to."""

    loss: LossName
    task: Task
    temperature: float | None
    projections: Projections | None


def distill(config: DistillConfig) -> DistillResult | dict[str, Any]:
    """Distill a student from a store of a teacher's logits or features."""
    from reinforce.dataset import open_dataset

    from train.distillation import Distillation
    from train.rundir import RunDirectory, refuse_own_input
    from train.world import entered_world

    dataset = open_dataset(config.caches, config.transfer)
    aim = find_aim(config, dataset.store)
    if config.dry_run:
        channels = "dimensions" if aim.projections else "classes"
        return {"out": config.run_directory, "student": config.student, "loss": aim.loss,
                "temperature": aim.temperature, "task": aim.task, "samples": dataset.num_samples,
                "views": dataset.num_views, channels: dataset.num_channels}  # fmt: skip
    with entered_world(config.device) as world:
        refuse_own_input(config.run_directory, config.student, config.init_from)
        work = Distillation(config, aim, dataset, world)
        run = RunDirectory(config.run_directory, config, verb="distill", overwrite=config.overwrite,
                           resume=config.resume, world=world)  # fmt: skip
        if (finished := run.finished()) is not None:
            return DistillResult.from_json(finished)
        with run.reported():
            result = work.train(run)
            run.finish(result.to_json())
        return result


def find_aim(config: DistillConfig, store: Store) -> Aim:
    """Raises UsageError for options that do not fit the store's targets."""
    target = store.target
    if target not in LOSSES:
        raise UsageError(f"{store.name} holds {target}, which are of captions: type train pretrain --method "
                         f"clip-affinity --cache IMAGES --text-cache {store.name}")  # fmt: skip
    if len(config.caches) > 1:
        _refuse(config, "online_teacher", "an ensemble has no teacher of its own")
    loss = LOSSES[target]
    if config.loss not in (None, loss):
        wanted = " or ".join(name for name, one in LOSSES.items() if one == config.loss)
        raise UsageError(f"{store.name} holds {target}, which --loss {config.loss} cannot match: type --loss {loss}, "
                         f"or reinforce build --target {wanted}")  # fmt: skip
    check_preset(config, loss=loss)
    if loss == "kl":
        for name in ("projection", "projection_dim"):
            _refuse(config, name, f"{store.name} holds {target}, which are matched as they are")
        return Aim(loss, stored_task(config, store), certified_temperature(config, store), None)
    for name in ("task", "head"):
        _refuse(config, name, f"{store.name} holds {target}, which are of no task")
    return Aim(loss, "classification", _feature_temperature(config, loss), _projections(config, store))


def _refuse(config: DistillConfig, name: str, why: str) -> None:
    if (value := getattr(config, name)) is not None:
        raise UsageError(f"{why}: leave --{name.replace('_', '-')} {value} out")


def _feature_temperature(config: DistillConfig, loss: LossName) -> float | None:
    from train.losses import CONTRASTIVE_TEMPERATURE

    if loss == "cosine":
        _refuse(config, "temperature", "--loss cosine has no temperature")
        return None
    require(config.batch_size >= 2, "batch_size", config.batch_size, "2 or more, since other views are what a view's "
            "feature is told from")  # fmt: skip
    return CONTRASTIVE_TEMPERATURE if config.temperature is None else config.temperature


def _projections(config: DistillConfig, store: Store) -> Projections:
    from train.projections import Projections

    return Projections.planned(store, config.projection, config.projection_dim)


def certified_temperature(config: DistillConfig, store: Store) -> float:
    """The store's temperature. Raises UsageError for another one: its certificate says nothing about that."""
    certified = store.temperature
    assert certified is not None  # of logits
    if config.temperature is not None and config.temperature != certified:
        raise UsageError(f"{store.name} is certified at temperature {certified:g}, not {config.temperature:g}: "
                         f"leave --temperature out, or build with --temperature {config.temperature:g}")  # fmt: skip
    return certified


def stored_task(config: DistillConfig, store: Store) -> Task:
    """What the store's teacher answers. Raises UsageError where --task or --head say otherwise."""
    task: Task = "segmentation" if store.target == "dense-logits" else "classification"
    if config.task not in (None, task):
        raise UsageError(
            f"{store.name} holds {store.target} of a {task} teacher: leave --task out, or type another --cache"
        )
    if config.head is not None and task == "classification":
        raise UsageError(f"--head {config.head} is of segmentation, and {store.name} is of a classification teacher: "
                         "leave --head out")  # fmt: skip
    return task
