"""What adapt and finetune share: train on labelled images in several ways, keep what validates best (paper A.4).

A trial is one way: linear probe or full finetuning, at one learning rate. Trials run one after the other from the same
start; a finished one leaves checkpoints/<trial>/result.json, so that --resume goes on with the next.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from reinforce.errors import DataError, UsageError
from reinforce.models import ModelInfo, save_model, short_name
from torch import nn

from train.batch_norm import trained_norms
from train.batches import SkippedImages, steps_in_epoch
from train.checkpoint import read_checkpoint
from train.cost import Cost, CostBook, DeviceClock
from train.loop import LoopPlan, Outcome, TrainingDivergedError, TrainingLoop, Validation
from train.optim import autocast_dtype
from train.options import LabelledOptions, default_epochs, num_steps
from train.results import LabelledResult
from train.rundir import RunDirectory, refuse_own_input, write_json
from train.students import grown, make_model
from train.tasks import Bench, Probe, Task, open_task
from train.trials import FULL, PROBE, Recipe, Trial, TrialResult, plan_trials
from train.world import World, entered_world


class Supervised:
    """Runs the trials of one verb in a run directory."""

    def __init__(self, config: LabelledOptions, *, mode: str, recipe: Recipe, task: Task[Any, Any], model_name: str,
                 model: nn.Module, info: ModelInfo, run: RunDirectory, world: World) -> None:  # fmt: skip
        self.config, self.mode, self.recipe, self.task = config, mode, recipe, task
        self.model_name, self.model, self.info = model_name, model, info
        self.run, self.world = run, world
        self.log = run.metrics
        self.trials = plan_trials(mode, config.lr, recipe)
        self.skipped = SkippedImages(quiet=config.quiet)
        self.bench = Bench(config=config, model=model, info=info, world=world, skipped=self.skipped,
                           dtype=autocast_dtype(config.precision, model, world.device),
                           start={name: value.clone() for name, value in model.state_dict().items()})  # fmt: skip
        self.stored_norms = trained_norms(model) if config.batch_norm == "stored" else frozenset()
        if not task.val and len(self.trials) > 1:
            raise UsageError(f"{config.data} has no validation images to choose between {len(self.trials)} trainings: "
                             "type one --mode and one --lr")  # fmt: skip

    @cached_property
    def probe(self) -> Probe:
        """Made once for all trials; the features that it stores, of validation images too, are a part of the cost."""
        probe = self.task.probe(self.bench)
        with DeviceClock(self.world) as clock:
            _ = probe.data
        CostBook(self.run.path, self.world).book("probe features", Cost(clock.seconds))
        return probe

    @cached_property
    def evaluate(self) -> Callable[[nn.Module], dict[str, float]]:
        """Figures of a model on the validation images."""
        return self.task.validator(self.bench)

    def train(self) -> list[TrialResult]:
        """All trials; the run's best ends up in the model. Raises TrainingDivergedError where every trial did."""
        results: list[TrialResult] = []
        for trial in self.trials:
            results.append(self._finished(trial) or self._run_trial(trial, results))
            self._forget_all_but_best(results)
        best = max(results, key=lambda result: result.order)
        if best.score < 0:
            raise TrainingDivergedError(best.step, best.lr)
        self._load(best)
        return sorted(results, key=lambda result: result.order, reverse=True)

    def save(self, results: Sequence[TrialResult]) -> None:
        """Write the model that `train` left; `results` best first."""
        if not self.world.is_main:
            return
        best = results[0]
        metrics = {self.task.score: best.score, "val_loss": best.loss} if self.task.val else {}
        self._write(best.trial, metrics, self.model, self.run.path)

    def _write(self, trial: Trial, metrics: Mapping[str, float], model: nn.Module, folder: Path) -> None:
        config = self.config
        labels = {"shots": config.shots, "num_labelled": config.num_labelled, "seed": config.seed}
        data = {"data": self.task.data_name, "data_license": self.task.data_license,
                "num_images": len(self.task.train)}  # fmt: skip
        norm = {"batch_norm": "stored"} if self.stored_norms and trial.mode == FULL else {}
        training = {"verb": self.run.verb, "model": short_name(self.model_name), **data, "mode": trial.mode,
                    "lr": trial.lr, **norm, **labels}  # fmt: skip
        save_model(folder, model, replace(self.info, provenance=grown(self.info.provenance, training),
                                          metrics=metrics))  # fmt: skip

    def _run_trial(self, trial: Trial, results: Sequence[TrialResult]) -> TrialResult:
        score = self.task.score
        try:
            loop = self._probe_loop(trial) if trial.mode == PROBE else self._full_loop(trial, results)
            num_trained = sum(p.numel() for p in loop.model.parameters() if p.requires_grad)
            outcome = loop.run(resume=self.config.resume)
        except TrainingDivergedError:
            if len(self.trials) == 1:
                raise
            outcome, num_trained = Outcome(0, {score: -1.0, "val_loss": 1e9}), 0
        scores = outcome.scores or {score: 0.0, "val_loss": 0.0}
        result = TrialResult(
            trial.mode, trial.lr, outcome.step, num_trained, scores[score], scores["val_loss"], self.task.metric
        )
        if self.world.is_main:
            self._folder(trial).mkdir(parents=True, exist_ok=True)
            write_json(self._folder(trial) / "result.json", result.to_json())
        self.world.barrier()
        return result

    def _full_loop(self, trial: Trial, results: Sequence[TrialResult]) -> TrainingLoop:
        self._load_start(results)
        num_images = len(self.task.train)
        epochs = default_epochs(num_images, image_passes=self.recipe.image_passes,
                                shortest=self.recipe.shortest_epochs, longest=self.recipe.longest_epochs)  # fmt: skip
        total = num_steps(self.config, steps_in_epoch(num_images, self.config.batch_size), epochs)
        return self._loop(trial, self.model, self.task.training_data(self.bench), total,
                          partial(self.task.objective, self.bench), self.evaluate)  # fmt: skip

    def _probe_loop(self, trial: Trial) -> TrainingLoop:
        epochs = self.probe.num_epochs
        per_epoch = steps_in_epoch(len(self.task.train), self.config.batch_size)
        total = num_steps(self.config, per_epoch, epochs) if self.mode == PROBE else epochs * per_epoch
        return self._loop(trial, self.probe.new_head(), self.probe.data, total, self.probe.objective,
                          self.probe.evaluate)  # fmt: skip

    def _loop(self, trial: Trial, model: nn.Module, data: Any, total: int, objective: Any,
              evaluate: Any) -> TrainingLoop:  # fmt: skip
        config = self.config
        plan = LoopPlan.of(
            config,
            lr=trial.lr,
            total_steps=total,
            batch_size=config.batch_size,
            precision="fp32" if trial.mode == PROBE else config.precision,
            workers=0 if trial.mode == PROBE and not self.probe.reads_images else config.workers,
            trial=trial.name,
        )
        self.run.resolve(architecture=self.info.architecture, image_size=self.info.image_size,
                         device=str(self.world.device), **{trial.name: dataclasses.asdict(plan)})  # fmt: skip
        validation = Validation(evaluate, self.task.rank, (self.task.score,)) if self.task.val else None
        is_full = trial.mode == FULL
        return TrainingLoop(model, data, objective, plan, world=self.world, folder=self._folder(trial), log=self.log,
                            skipped=self.skipped, validation=validation,
                            keep=partial(self._write, trial, {}) if is_full else None,
                            stored_norms=self.stored_norms if is_full else frozenset())  # fmt: skip

    def _load_start(self, results: Sequence[TrialResult]) -> None:
        """The weights that full finetuning starts from: the best probe's head, if there is one, on the encoder.

        A head that fits first keeps finetuning from distorting good features (Kumar et al. 2022, arXiv:2202.10054).
        """
        self.bench.restore()
        probes = [result for result in results if result.mode == PROBE and result.score >= 0]
        if probes:
            self._load_probe(max(probes, key=lambda result: result.order))

    def _load(self, best: TrialResult) -> None:
        self.bench.restore()
        if best.mode == PROBE:
            self._load_probe(best)
        else:
            self.model.load_state_dict(read_checkpoint(self._folder(best.trial) / "best.pt")["model"])

    def _load_probe(self, result: TrialResult) -> None:
        self.probe.install(read_checkpoint(self._folder(result.trial) / "best.pt")["model"])

    def _folder(self, trial: Trial) -> Path:
        return self.run.checkpoints / trial.name

    def _finished(self, trial: Trial) -> TrialResult | None:
        path = self._folder(trial) / "result.json"
        if self.config.resume and path.exists():
            return TrialResult.from_json(json.loads(path.read_text(encoding="utf-8")), self.task.metric)
        return None

    def _forget_all_but_best(self, results: Sequence[TrialResult]) -> None:
        """Free the disk of beaten trials; the best probe stays, since finetuning starts from it."""
        if not self.world.is_main:
            return
        probes = [result for result in results if result.mode == PROBE]
        kept = [max(group, key=lambda result: result.order) for group in (results, probes) if group]
        for result in results:
            if result not in kept:
                for path in self._folder(result.trial).glob("*.pt"):
                    path.unlink()
                for path in self._folder(result.trial).glob("step-*/"):
                    shutil.rmtree(path)


def run_labelled(config: LabelledOptions, *, verb: str, mode: str, model_name: str, image_size: int | None,
                 recipe: Recipe, next_command: str) -> LabelledResult | dict[str, Any]:  # fmt: skip
    """adapt and finetune, whole: open, train, save, and say what came out."""
    task = open_task(config)
    if not task.train:
        raise DataError(f"{config.data} has no training images")
    if config.dry_run:
        trials = [trial.name for trial in plan_trials(mode, config.lr, recipe)]
        return {"out": config.out, "model": model_name, "trials": trials, "num_train_images": len(task.train),
                "num_val_images": len(task.val), "classes": list(task.class_names)}  # fmt: skip
    with entered_world(config.device) as world:
        refuse_own_input(config.out, model_name)
        model, info = make_model(model_name, class_names=task.class_names, image_size=image_size, seed=config.seed,
                                 task=config.task, head=config.head)  # fmt: skip
        run = RunDirectory(config.out, config, verb=verb, overwrite=config.overwrite, resume=config.resume,
                           world=world)  # fmt: skip
        if (finished := run.finished()) is not None:
            return LabelledResult.from_json(finished)
        with run.reported():
            work = Supervised(config, mode=mode, recipe=recipe, task=task, model_name=model_name, model=model,
                              info=info, run=run, world=world)  # fmt: skip
            results = work.train()
            work.save(results)
            best = results[0]
            result = LabelledResult(
                out=config.out,
                model=model_name,
                mode=best.mode,
                lr=best.lr,
                metric=task.metric,
                val_score=best.score if task.val else None,
                num_val_images=len(task.val),
                num_train_images=len(task.train),
                num_skipped=len(work.skipped.reasons),
                trials=tuple(one.to_json() for one in results),
                next_command=next_command,
            )
            run.finish(result.to_json())
        return result
