"""`train distill`: a student learns from a store's views and logits; no teacher is needed or imported (paper A.4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from reinforce.errors import ReplayDriftError, UsageError

from train.options import TrainOptions, require
from train.presets import accepts_presets

if TYPE_CHECKING:
    from reinforce.dataset import ReinforcedDataset
    from reinforce.models import ModelInfo
    from torch import Tensor, nn

    from train.batches import Batch
    from train.loop import LoopPlan, Validation
    from train.online import LiveTeacher
    from train.world import World

Task = Literal["classification", "segmentation"]
DEFAULT_EPOCHS = 100
NEEDED_TARGET = {"contrastive": "global-features", "cosine": "patch-features"}


@accepts_presets("distill")
@dataclasses.dataclass(frozen=True, kw_only=True)
class DistillConfig(TrainOptions):
    cache: str
    """The store that `reinforce build` wrote."""
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
    loss: Literal["kl", "contrastive", "cosine"] = "kl"
    """kl matches logits; the others match features, which need a store of features."""
    temperature: float | None = None
    """Temperature of the softmax (default: the one that the store certifies)."""
    online_teacher: str | None = None
    """The store's own teacher, to compute every training target anew instead of reading it, over the same views, order
    and steps: a control that shows what the cache costs in quality. Validation stays on what is stored."""
    accept_drift: bool = False
    """Train even if this machine replays other pixels than the teacher saw; model.json then says so."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss in NEEDED_TARGET:
            raise UsageError(f"--loss {self.loss} needs a store of {NEEDED_TARGET[self.loss]}, "
                             "which comes with a later version: type --loss kl")  # fmt: skip
        require(self.lr > 0, "lr", self.lr, "above 0")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "an integer of at least 1")
        require(self.image_size is None or self.image_size >= 1, "image_size", self.image_size, "1 px or more")

    @property
    def run_directory(self) -> str:
        return self.out or f"runs/{Path(self.cache).stem}-{Path(self.student).name}"


@dataclasses.dataclass(frozen=True)
class DistillResult:
    """`kl` (nats, at the store's temperature) and `agreement` (same top-1, 0..1) with the teacher on held-out views.

    Both are means over views, or over the valid pixels of all views for a segmentation student.
    """

    out: str
    student: str
    store_digest: str
    steps: int
    best_step: int
    kl: float | None
    agreement: float | None
    task: Task = "classification"

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        compared = "views" if self.task == "classification" else "pixels"
        measured = "" if self.agreement is None or self.kl is None else (
            f", agrees with the teacher on {self.agreement:.1%} of held-out {compared}, KL {self.kl:.4f}")  # fmt: skip
        task = "--task segmentation " if self.task == "segmentation" else ""
        return (f"wrote {self.out} ({self.student}, best at step {self.best_step} of {self.steps}{measured})\n"
                f"next: train finetune {task}--model {self.out} --data DATA --out {self.out}-ft, "
                f"or train evaluate --model {self.out} --data DATA")  # fmt: skip


def distill(config: DistillConfig) -> DistillResult | dict[str, Any]:
    """Distill a student from a store of a teacher's logits."""
    from reinforce.dataset import open_dataset

    from train.rundir import RunDirectory, refuse_own_input
    from train.students import make_model
    from train.world import entered_world

    dataset = open_dataset(config.cache, config.transfer)
    temperature, task = certified_temperature(config, dataset), stored_task(config, dataset)
    if config.dry_run:
        return {"out": config.run_directory, "student": config.student, "temperature": temperature,
                "task": task, "samples": dataset.num_samples, "views": dataset.num_views,
                "classes": dataset.num_classes}  # fmt: skip
    with entered_world(config.device) as world:
        refuse_own_input(config.run_directory, config.student, config.init_from)
        teacher = _live_teacher(config, dataset, world)
        image_size = config.image_size or dataset.size_px
        model, info = make_model(config.student, class_names=dataset.store.class_names, image_size=image_size,
                                 seed=config.seed, init_from=config.init_from, task=task,
                                 head=config.head)  # fmt: skip
        run = RunDirectory(config.run_directory, config, verb="distill", overwrite=config.overwrite,
                           resume=config.resume, world=world)  # fmt: skip
        if (finished := run.finished()) is not None:
            return DistillResult(**finished)
        result = _distill_into(run, config, dataset, temperature, world, model, info, teacher)
        run.finish(result.to_json())
        return result


def certified_temperature(config: DistillConfig, dataset: ReinforcedDataset) -> float:
    """The store's temperature. Raises UsageError for another one: its certificate says nothing about that."""
    certified = float(dataset.store.temperature)
    if config.temperature is not None and config.temperature != certified:
        raise UsageError(f"{config.cache} is certified at temperature {certified:g}, not {config.temperature:g}: "
                         f"leave --temperature out, or build with --temperature {config.temperature:g}")  # fmt: skip
    return certified


def stored_task(config: DistillConfig, dataset: ReinforcedDataset) -> Task:
    """What the store's teacher answers. Raises UsageError where --task or --head say otherwise."""
    target = dataset.store.target
    task: Task = "segmentation" if target == "dense-logits" else "classification"
    if config.task not in (None, task):
        raise UsageError(
            f"{config.cache} holds {target} of a {task} teacher: leave --task out, or type another --cache"
        )
    if config.head is not None and task == "classification":
        raise UsageError(f"--head {config.head} is of segmentation, and {config.cache} is of a classification teacher: "
                         "leave --head out")  # fmt: skip
    return task


def _distill_into(run: Any, config: DistillConfig, dataset: ReinforcedDataset, temperature: float,
                  world: World, model: nn.Module, info: ModelInfo,
                  teacher: LiveTeacher | None) -> DistillResult:  # fmt: skip
    from reinforce.models import Preprocess

    from train.cached import CachedViews
    from train.loop import TrainingLoop
    from train.matching import matching
    from train.rundir import MetricsLog

    replay = _checked_replay(config, dataset)
    store = dataset.store
    preprocess = Preprocess.from_info(info)
    data = CachedViews(dataset, seed=config.seed)
    plan = _plan(config, len(data.epoch_order(0)), store.manifest.digest)
    run.resolve(student=info.architecture, image_size=info.image_size, temperature=temperature,
                device=str(world.device), loop=dataclasses.asdict(plan))  # fmt: skip

    def objective(student: nn.Module, batch: Batch) -> Tensor:
        labelled = batch if teacher is None else teacher.relabelled(batch)
        return matching(student(preprocess(batch.inputs)), labelled, temperature)

    loop = TrainingLoop(
        model,
        data,
        objective,
        plan,
        world=world,
        folder=run.checkpoints,
        log=MetricsLog(run.path / "metrics.jsonl", is_main=world.is_main),
        validation=_validation(config, dataset, preprocess, temperature, world),
    )
    outcome = loop.run(resume=config.resume)
    loop.load_best()
    if world.is_main:
        _save(run.path, loop.model, info, dataset, config, outcome.scores, replay, teacher)
    return DistillResult(out=config.run_directory, student=info.architecture, store_digest=store.manifest.digest,
                         steps=plan.total_steps, best_step=outcome.step, kl=outcome.scores.get("kl"),
                         agreement=outcome.scores.get("agreement"), task=info.task)  # fmt: skip


def _checked_replay(config: DistillConfig, dataset: ReinforcedDataset) -> dict[str, Any]:
    """What replaying the store's probe views here showed; goes into the student's provenance."""
    try:
        return dataset.check_replay(accept_drift=config.accept_drift).to_json()
    except ReplayDriftError as error:
        raise ReplayDriftError(f"{error}; --accept-drift trains all the same") from None


def _live_teacher(config: DistillConfig, dataset: ReinforcedDataset, world: World) -> LiveTeacher | None:
    """Of --online-teacher. Raises UsageError for another than the store's."""
    if config.online_teacher is None:
        return None
    from train.online import LiveTeacher

    return LiveTeacher.open(config.online_teacher, dataset.store, world.device)


def _plan(config: DistillConfig, num_rows: int, store_digest: str) -> LoopPlan:
    from train.batches import steps_in_epoch
    from train.loop import LoopPlan
    from train.options import num_steps

    total = num_steps(config, steps_in_epoch(num_rows, config.batch_size), DEFAULT_EPOCHS)
    return LoopPlan(
        lr=config.lr,
        total_steps=total,
        batch_size=config.batch_size,
        warmup_steps=round(config.warmup * total),
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
        ema=config.ema,
        precision=config.precision,
        eval_every=config.eval_every or max(1, -(-total // 10)),
        save_every=config.save_every,
        log_every=config.log_every,
        seed=config.seed,
        workers=config.workers,
        quiet=config.quiet,
        binding={"store_digest": store_digest},
    )


def _validation(config: DistillConfig, dataset: ReinforcedDataset, preprocess: Any, temperature: float,
                world: World) -> Validation | None:  # fmt: skip
    """KL and agreement with the teacher on held-out rows, of maps per pixel: "best" needs no labels."""
    from train.batches import make_loader, steps_in_epoch
    from train.cached import HeldOutViews
    from train.loop import Validation
    from train.matching import add_agreement
    from train.metrics import AgreementTally
    from train.world import World

    views = HeldOutViews(dataset)
    if len(views.rows) == 0:
        return None

    def evaluate(student: nn.Module) -> dict[str, float]:
        tally = AgreementTally()
        total = steps_in_epoch(len(views.rows), config.batch_size)
        loader = make_loader(views, config.batch_size, start=0, total=total, world=World(world.device),
                             workers=config.workers)  # fmt: skip
        for batch in loader:
            moved = batch.to(world.device)
            add_agreement(tally, student(preprocess(moved.inputs)), moved, temperature)
        return {"kl": tally.kl, "agreement": tally.agreement}

    return Validation(evaluate, lambda scores: (-scores["kl"],), ("kl", "agreement"))


def _save(folder: Path, model: nn.Module, info: ModelInfo, dataset: ReinforcedDataset, config: DistillConfig,
          scores: Mapping[str, float], replay: Mapping[str, Any], teacher: LiveTeacher | None) -> None:  # fmt: skip
    from reinforce.models import save_model

    from train.students import grown, short_name

    store = dataset.store
    init_from = short_name(config.init_from) if config.init_from else None
    training = {"verb": "distill", "student": short_name(config.student), "init_from": init_from, "lr": config.lr,
                "loss": config.loss, "seed": config.seed, "targets": "stored" if teacher is None else "online",
                "store": {"manifest_digest": store.manifest.digest, "transfer": store.plan["transfer"]["name"],
                          "teacher": store.plan["teacher"]},
                "replay": dict(replay), **({} if teacher is None else {"online": teacher.provenance})}  # fmt: skip
    metrics = {f"held_out_{name}": value for name, value in scores.items()}
    save_model(folder, model, dataclasses.replace(info, provenance=grown(info.provenance, training), metrics=metrics))
