"""The one training loop: adapt, finetune and distill differ in their data, objective and validation only.

A step is a function of the state before it and of (seed, step): rows, views, dropout. Hence a run that was stopped or
killed and then resumed from its last checkpoint gives the same losses to the last digit, on the same kind of device.
"""

from __future__ import annotations

import dataclasses
import math
import signal
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from reinforce.compiled import compiled, naming_missing_compilers
from reinforce.errors import DataError, ModelError, ReinforceError, StoppedError
from reinforce.progress import Progress
from reinforce.worker_process import naming_dead_workers
from torch import Tensor, nn

from train.batch_norm import enter_training, norms
from train.batches import Batch, SkippedImages, TrainingData, make_loader, steps_in_epoch
from train.checkpoint import read_checkpoint, write_checkpoint
from train.cost import Cost, CostBook, DeviceClock
from train.optim import (
    AveragedModel,
    autocast,
    autocast_dtype,
    clip_gradient,
    cosine,
    learning_rate,
    make_optimizer,
    set_learning_rate,
    set_weight_decay,
    warmed_up,
)
from train.pace import PaceWatch
from train.rundir import MetricsLog
from train.stop_signals import StopSignals
from train.window import Window
from train.world import World

if TYPE_CHECKING:
    from train.options import TrainOptions

Scores = Mapping[str, float]
Loss = Callable[[nn.Module, Batch], Tensor]
SECONDS_BETWEEN_SAVES = 600.0
PLANNED_OPTIONS = ("weight_decay", "clip_norm", "ema", "precision", "compile", "save_every", "log_every", "seed",
                   "workers", "quiet")  # fmt: skip
"""Options of training verbs that a LoopPlan takes as they are."""


class TrainingStoppedError(StoppedError):
    """SIGTERM or Ctrl-C came; the state is on disk."""

    def __init__(self, step: int, total_steps: int, signal_number: int) -> None:
        self.exit_code = 128 + signal_number
        super().__init__(f"stopped at step {step} of {total_steps}: type the same command with --resume to go on")


class TrainingDivergedError(ReinforceError):
    """The loss is not finite any more."""

    def __init__(self, step: int, lr: float) -> None:
        super().__init__(f"the loss is not finite at step {step}: type an --lr below {lr:g}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopPlan:
    """What a run does, resolved: everything counted in steps."""

    lr: float
    total_steps: int
    batch_size: int
    warmup_steps: int = 0
    weight_decay: float = 0.05
    final_weight_decay: float | None = None
    """What the weight decay becomes by a cosine; None: it stays."""
    clip_norm: float = 1.0
    ema: float = 0.9999
    precision: str = "auto"
    compile: bool = False
    eval_every: int = 100
    save_every: int | None = None
    log_every: int = 20
    seed: int = 0
    workers: int = 0
    trial: str = ""
    quiet: bool = False
    binding: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Plain values that a resumed run must share with its checkpoint, such as a store's digest."""

    @classmethod
    def of(cls, config: TrainOptions, *, lr: float, total_steps: int, batch_size: int, **own: Any) -> LoopPlan:
        """From a verb's options; `own` are fields that its options don't say, or that hold in spite of them."""
        options = {name: getattr(config, name) for name in PLANNED_OPTIONS}
        resolved = {"warmup_steps": round(config.warmup * total_steps),
                    "eval_every": config.eval_every or max(1, -(-total_steps // 10))}  # fmt: skip
        return cls(lr=lr, total_steps=total_steps, batch_size=batch_size, **options | resolved | own)


@dataclasses.dataclass(frozen=True)
class Validation:
    """How a model is judged: `evaluate` gives figures, `rank` orders them (the largest tuple is best).

    Without a rank the figures are for people, and the latest weights are best.
    """

    evaluate: Callable[[nn.Module], dict[str, float]]
    rank: Callable[[Scores], tuple[float, ...]] | None
    shown: tuple[str, ...]

    def prefers(self, scores: Scores, best: Scores) -> bool:
        return self.rank is None or self.rank(scores) > self.rank(best)


class Objective:
    """Mean loss over a batch, given on the device. One that learns from step to step overrides the other methods."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.loss(model, batch)

    def before_update(self, model: nn.Module) -> None:
        """The step's gradients are there, and the weights still those before it."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs: tensors and plain values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The best step of a run and its figures (empty without validation, where the last step counts)."""

    step: int
    scores: dict[str, float]


class TrainingLoop:
    """Trains `model` in place. Writes best.pt (weights to keep) and last.pt (state to resume) into `folder`."""

    def __init__(self, model: nn.Module, data: TrainingData, objective: Objective | Loss, plan: LoopPlan, *,
                 world: World, folder: Path, log: MetricsLog, skipped: SkippedImages | None = None,
                 validation: Validation | None = None, average: AveragedModel | None = None,
                 keep: Callable[[nn.Module, Path], None] | None = None,
                 pace: PaceWatch | None = None, stored_norms: frozenset[str] = frozenset()) -> None:  # fmt: skip
        """`average`: of `model`, where it has a part in the objective (default: one by `plan.ema`).

        `keep(model, folder)` writes the judged weights of each kept step as a model directory, step-N beside step-N.pt.
        `pace` may have a line to say of a run that begins. `stored_norms`: see `batch_norm`.
        """
        self.data, self.plan = data, plan
        self.objective = objective if isinstance(objective, Objective) else Objective(objective)
        self.world, self.folder, self.log, self.validation, self.keep = world, folder, log, validation, keep
        self.pace, self.stored_norms = pace, stored_norms
        self.model = model.to(world.device)
        self.parallel = world.parallel(self.model)
        if plan.compile:
            self.parallel = compiled(self.parallel)
        self.average = average
        if average is None and plan.ema > 0:
            self.average = AveragedModel(self.model, warmed_up(plan.ema))
        self.optimizer = make_optimizer(self.model, plan.weight_decay)
        self.dtype = autocast_dtype(plan.precision, self.model, world.device)
        num_rows = len(data.epoch_order(0))
        self.steps_per_epoch = steps_in_epoch(num_rows, plan.batch_size)
        _check_batches(model, num_rows // self.steps_per_epoch // world.size, stored_norms)
        self.step = self.num_images = 0
        self.clock, self.costs = DeviceClock(world), CostBook(log.path.parent, world)
        self.best: dict[str, Any] | None = None
        self.skipped = skipped if skipped is not None else SkippedImages()
        self.window = Window(world.device)
        self.last_save, self.saves_next = time.monotonic(), False

    @property
    def judged(self) -> nn.Module:
        """The weights that are evaluated and kept: averaged where averaging is on."""
        return self.average.module if self.average is not None else self.model

    @property
    def cost(self) -> Cost:
        """Of all steps that led to these weights."""
        return Cost(self.clock.seconds, self.step, self.num_images)

    def run(self, *, resume: bool = False) -> Outcome:
        """Train to the end.

        Raises TrainingStoppedError on a signal, TrainingDivergedError on a loss of nan, WorkerDiedError where a
        decoding process was killed, UsageError where the model cannot be compiled.
        """
        if resume:
            self._restore()
        if self.step > 0:  # who goes on has decided
            self.pace = None
        try:
            with (StopSignals() as stop, naming_dead_workers(), naming_missing_compilers(),
                  self._progress() as progress, self.clock):  # fmt: skip
                self._train(stop, progress)
        finally:
            self.costs.book(self.plan.trial or "train", self.cost)
        return self._finish()

    def load_best(self) -> None:
        """Put the kept weights into the model."""
        self.model.load_state_dict(read_checkpoint(self.folder / "best.pt")["model"])

    def _train(self, stop: StopSignals, progress: Progress) -> None:
        plan = self.plan
        loader = iter(make_loader(self.data, plan.batch_size, start=self.step, total=plan.total_steps,
                                  world=self.world, workers=plan.workers))  # fmt: skip
        while self.step < plan.total_steps:
            with self.window.waiting() as waited:
                batch = next(loader)
            self.skipped.note(batch, progress)
            self._train_step(batch.to(self.world.device))
            progress.update(1)
            self._watch_pace(waited.seconds, progress)
            self._after_step(progress)
            is_old = time.monotonic() - self.last_save > SECONDS_BETWEEN_SAVES
            is_told = stop.number is not None or self.world.is_forsaken()
            stops, self.saves_next = self.world.any(is_told, is_old)
            if self.step < plan.total_steps and stops:
                self.skipped.share(self.world, progress)
                self._save("last.pt")
                raise TrainingStoppedError(self.step, plan.total_steps, stop.number or signal.SIGTERM)

    def _train_step(self, batch: Batch) -> None:
        plan = self.plan
        self.world.seed((plan.seed % 2**31 << 32) + self.step * self.world.size + self.world.rank)
        enter_training(self.model, self.stored_norms)
        set_learning_rate(self.optimizer, self._lr(self.step))
        if plan.final_weight_decay is not None:
            set_weight_decay(self.optimizer, cosine(self.step, start=plan.weight_decay, end=plan.final_weight_decay,
                                                    total_steps=plan.total_steps))  # fmt: skip
        with autocast(self.world.device, self.dtype):
            loss = self.objective(self.parallel, batch)
        self.optimizer.zero_grad(set_to_none=True)
        # DDP averages over ranks, whose means may be of different numbers: the gradient stays that of the global mean.
        share = self._share(batch)
        loss = loss * share if share != 1 else loss
        loss.backward()  # type: ignore[no-untyped-call]
        self.objective.before_update(self.model)
        clip_gradient(self.model, plan.clip_norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self.model)
        self.window.add(loss, batch.num_global / self.world.size, len(batch))
        self.step += 1
        self.num_images += batch.num_global

    def _share(self, batch: Batch) -> float:
        """What this rank's mean is of, over the mean of all ranks: 1 for one process."""
        if batch.num_counted is None or self.world.size == 1:
            return len(batch) * self.world.size / batch.num_global
        counted = torch.tensor(float(batch.num_counted), dtype=torch.float64, device=self.world.device)
        return batch.num_counted * self.world.size / max(self.world.sum(counted).item(), 1.0)

    def _after_step(self, progress: Progress) -> None:
        plan, ends = self.plan, self.step == self.plan.total_steps
        if ends or self.step % plan.log_every == 0:
            self._write_losses(progress)
        evaluates = ends or self.step % plan.eval_every == 0
        keeps = plan.save_every is not None and self.step % plan.save_every == 0
        if not (evaluates or keeps or self.saves_next):
            return
        with self.clock.paused():
            self.skipped.share(self.world, progress)
            if evaluates and self.validation is not None:
                self._evaluate(self.validation, progress)
            if keeps:
                self._keep(f"step-{self.step:08d}")
            self._save("last.pt")

    def _watch_pace(self, waited: float, progress: Progress) -> None:
        if self.pace is not None:
            seconds = self.clock.seconds / self.world.size
            if line := self.pace.after_step(seconds, waited, self.plan.total_steps - self.step):
                progress.write(line)

    def _lr(self, step: int) -> float:
        plan = self.plan
        return learning_rate(step, peak=plan.lr, warmup_steps=plan.warmup_steps, total_steps=plan.total_steps)

    def _write_losses(self, progress: Progress) -> None:
        figures = self.window.take(self.world)
        lr = self._lr(self.step - 1)  # of the step just taken
        line = {**self._position(), "loss": figures["loss"], "lr": lr,
                "images_per_second": figures["images_per_second"], "data_wait": figures["data_wait"]}  # fmt: skip
        if not math.isfinite(figures["loss"]):
            raise TrainingDivergedError(self.step, self.plan.lr)
        self.log.write(line)
        progress.update(0, loss=f"{figures['loss']:.4f}", lr=f"{lr:.2g}",
                        images_s=f"{figures['images_per_second']:.0f}", wait=f"{figures['data_wait']:.0%}")  # fmt: skip

    def _evaluate(self, validation: Validation, progress: Progress) -> None:
        """Figures of the judged weights, on the main rank; the others wait."""
        started = time.perf_counter()
        if self.world.is_main:
            self.judged.eval()
            with torch.inference_mode(), autocast(self.world.device, self.dtype):
                scores = validation.evaluate(self.judged)
            self.log.write({**self._position(), **scores})
            progress.update(0, **{name: f"{scores[name]:.4f}" for name in validation.shown})
            if self.best is None or validation.prefers(scores, self.best["scores"]):
                self.best = {"step": self.step, "scores": scores}
                self._save_best()
        self.world.barrier()
        self.window.forgive(time.perf_counter() - started)

    def _position(self) -> dict[str, Any]:
        trial = {"trial": self.plan.trial} if self.plan.trial else {}
        return {**trial, "step": self.step, "epoch": self.step / self.steps_per_epoch,
                "seconds": round(self.clock.seconds, 3)}  # fmt: skip

    def _progress(self) -> Progress:
        plan = self.plan
        return Progress(plan.trial or "train", plan.total_steps, unit="steps", initial=self.step,
                        quiet=plan.quiet or not self.world.is_main)  # fmt: skip

    def _save_best(self) -> None:
        best = self.best or {"step": self.step, "scores": {}}
        write_checkpoint(self.folder / "best.pt", {**best, **self._tag(), "model": self.judged.state_dict()})

    def _keep(self, name: str) -> None:
        """The state of this step, and its weights as a model that knows what it cost."""
        self._save(f"{name}.pt")
        if self.keep is not None and self.world.is_main:
            self.keep(self.judged, self.folder / name)
            self.costs.copy_to(self.folder / name)  # of the trials before this one
            CostBook(self.folder / name, self.world).book(self.plan.trial or "train", self.cost)

    def _save(self, name: str) -> None:
        """All ranks come here together: what each has seen since the last line of metrics is saved as one sum."""
        self.last_save, window = time.monotonic(), self.window.state_dict(self.world)
        if self.world.is_main:
            average = self.average.state_dict() if self.average is not None else None
            state = {"step": self.step, "model": self.model.state_dict(), "average": average,
                     "optimizer": self.optimizer.state_dict(), "best": self.best, "skipped": self.skipped.reasons,
                     "objective": self.objective.state_dict(), "window": window,
                     "cost": dataclasses.asdict(self.cost), **self._tag()}  # fmt: skip
            write_checkpoint(self.folder / name, state)

    def _tag(self) -> dict[str, Any]:
        return {"trial": self.plan.trial, "binding": dict(self.plan.binding)}

    def _restore(self) -> None:
        path = self.folder / "last.pt"
        if not path.exists():  # killed before its first checkpoint
            self.log.forget_after(0, self.plan.trial)
            return
        state = read_checkpoint(path)
        for name, value in self.plan.binding.items():
            if state["binding"].get(name) != value:
                raise ModelError(f"{path} was made with another {name.replace('_', ' ')} "
                                 f"({state['binding'].get(name)}): type --overwrite to start again")  # fmt: skip
        self.step, self.best = state["step"], state["best"]
        self.num_images, self.clock = state["cost"]["images"], DeviceClock(self.world, state["cost"]["seconds"])
        self.skipped.reasons.update(state["skipped"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.objective.load_state_dict(state["objective"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if self.world.is_main:  # that of all ranks
            self.window.load_state_dict(state["window"])
        self.log.forget_after(self.step, self.plan.trial)

    def _finish(self) -> Outcome:
        if self.validation is None and self.world.is_main:
            self._save_best()
        self.world.barrier()
        best = read_checkpoint(self.folder / "best.pt")
        return Outcome(best["step"], best["scores"])


def _check_batches(model: nn.Module, smallest: int, stored_norms: Collection[str]) -> None:
    """Raises DataError for a share of one image: batch statistics need two."""
    needs_two = any(name not in stored_norms for name, _ in norms(model))
    if smallest < (2 if needs_two else 1):
        raise DataError("a training batch would hold fewer than two images, too few for this model's batch "
                        "normalisation: give more images, or a larger --batch-size")  # fmt: skip
