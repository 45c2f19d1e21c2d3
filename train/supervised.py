"""What adapt and finetune share: train on labelled images in several ways, keep what validates best (paper A.4).

A trial is one way: linear probe or full finetuning, at one learning rate. Trials run one after the other from the same
start; a finished one leaves checkpoints/<trial>/result.json, so that --resume goes on with the next.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from reinforce import catalog
from reinforce.data import LabelledDataset, LabelledSample, open_labelled, take
from reinforce.errors import DataError, UsageError
from reinforce.models import ModelInfo, Preprocess, save_model
from reinforce.views import named_policy
from torch import nn

from train.batches import Batch, SkippedImages, steps_in_epoch
from train.checkpoint import read_checkpoint
from train.evaluate import tally_labelled
from train.labelled import PlainViews, TrainingViews
from train.loop import LoopPlan, Outcome, Scores, TrainingDivergedError, TrainingLoop, Validation
from train.losses import cross_entropy
from train.metrics import Tally
from train.optim import autocast_dtype
from train.options import LabelledOptions, default_epochs, num_steps
from train.probe import (
    FeatureTable,
    Standardisation,
    extract_features,
    new_probe,
    num_probe_views,
    set_head,
)
from train.results import LabelledResult
from train.rundir import MetricsLog, RunDirectory, refuse_own_input, write_json
from train.students import grown, make_model, short_name
from train.trials import PROBE, Recipe, Trial, TrialResult, plan_trials
from train.world import World, entered_world

PROBE_PASSES = 50_000
PROBE_CROP_SCALE = (0.35, 1.0)
"""Milder crops than a network learns from: a frozen encoder should still see the object."""


@dataclasses.dataclass(frozen=True)
class LabelledSets:
    """The images of a run: `train` as asked for by --shots and the like, `val` from the val split."""

    dataset: LabelledDataset
    train: tuple[LabelledSample, ...]
    val: tuple[LabelledSample, ...]

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.dataset.class_names


def open_sets(config: LabelledOptions) -> LabelledSets:
    """Training and validation images. Raises MissingDataError, UnknownNameError, DataError."""
    dataset = open_labelled(str(catalog.resolve_data(config.data).path))
    train = take(dataset.split("train"), shots=config.shots, num_labelled=config.num_labelled, limit=config.limit,
                 seed=config.seed)  # fmt: skip
    val = dataset.splits.get("val", ())
    # A fixed seed: the validation images stay the same ones when --seed draws other training images.
    return LabelledSets(dataset, train, take(val, num_labelled=config.val_limit) if val else ())


def crop_range(config: LabelledOptions) -> tuple[float, float] | None:
    """--crop-scale, or None for the policy's own."""
    return (config.crop_scale[0], config.crop_scale[1]) if config.crop_scale else None


class Supervised:
    """Runs the trials of one verb in a run directory."""

    def __init__(self, config: LabelledOptions, *, mode: str, recipe: Recipe, sets: LabelledSets, model_name: str,
                 model: nn.Module, info: ModelInfo, run: RunDirectory, world: World) -> None:  # fmt: skip
        self.config, self.mode, self.recipe, self.sets = config, mode, recipe, sets
        self.model_name, self.model, self.info = model_name, model, info
        self.run, self.world = run, world
        self.preprocess = Preprocess.from_info(info)
        self.log = MetricsLog(run.path / "metrics.jsonl", is_main=world.is_main)
        self.start = {name: value.clone() for name, value in model.state_dict().items()}
        self.trials = plan_trials(mode, config.lr, recipe)
        self.dtype = autocast_dtype(config.precision, model, world.device)
        self.skipped = SkippedImages(quiet=config.quiet)
        self._features: _ProbeData | None = None
        if not sets.val and len(self.trials) > 1:
            raise UsageError(f"{config.data} has no validation images to choose between {len(self.trials)} trainings: "
                             "type one --mode and one --lr")  # fmt: skip

    def train(self) -> list[TrialResult]:
        """All trials; the run's best ends up in the model. Raises TrainingDivergedError where every trial did."""
        results: list[TrialResult] = []
        for trial in self.trials:
            results.append(self._finished(trial) or self._run_trial(trial, results))
            self._forget_all_but_best(results)
        best = max(results, key=lambda result: result.order)
        if best.accuracy < 0:
            raise TrainingDivergedError(best.step, best.lr)
        self._load(best)
        return sorted(results, key=lambda result: result.order, reverse=True)

    def save(self, results: Sequence[TrialResult]) -> None:
        """Write the model that `train` left; `results` best first."""
        if not self.world.is_main:
            return
        best, config = results[0], self.config
        labels = {"shots": config.shots, "num_labelled": config.num_labelled, "seed": config.seed}
        training = {"verb": self.run.verb, "model": short_name(self.model_name), "data": self.sets.dataset.name,
                    "num_images": len(self.sets.train), "mode": best.mode, "lr": best.lr, **labels}  # fmt: skip
        metrics = {"val_accuracy": best.accuracy, "val_loss": best.loss} if self.sets.val else {}
        info = replace(self.info, provenance=grown(self.info.provenance, training), metrics=metrics)
        save_model(self.run.path, self.model, info)

    def _run_trial(self, trial: Trial, results: Sequence[TrialResult]) -> TrialResult:
        try:
            loop = self._probe_loop(trial) if trial.mode == PROBE else self._full_loop(trial, results)
            num_trained = sum(p.numel() for p in loop.model.parameters() if p.requires_grad)
            outcome = loop.run(resume=self.config.resume)
        except TrainingDivergedError:
            if len(self.trials) == 1:
                raise
            outcome, num_trained = Outcome(0, {"val_accuracy": -1.0, "val_loss": 1e9}), 0
        scores = outcome.scores or {"val_accuracy": 0.0, "val_loss": 0.0}
        result = TrialResult(
            trial.mode, trial.lr, outcome.step, num_trained, scores["val_accuracy"], scores["val_loss"]
        )
        if self.world.is_main:
            self._folder(trial).mkdir(parents=True, exist_ok=True)
            write_json(self._folder(trial) / "result.json", dataclasses.asdict(result))
        self.world.barrier()
        return result

    def _full_loop(self, trial: Trial, results: Sequence[TrialResult]) -> TrainingLoop:
        self._load_start(results)
        config, sets = self.config, self.sets
        policy = named_policy(config.policy, size_px=self.info.image_size, seed=config.seed,
                              crop_scale=crop_range(config))  # fmt: skip
        data = TrainingViews(sets.dataset.source, sets.train, policy, num_classes=len(sets.class_names),
                             seed=config.seed)  # fmt: skip
        epochs = default_epochs(len(sets.train), image_passes=self.recipe.image_passes,
                                shortest=self.recipe.shortest_epochs, longest=self.recipe.longest_epochs)  # fmt: skip
        total = num_steps(config, steps_in_epoch(len(sets.train), config.batch_size), epochs)
        return self._loop(trial, self.model, data, total, self._objective, self._validation())

    def _probe_loop(self, trial: Trial) -> TrainingLoop:
        data = self._probe_data()
        config, num_images = self.config, len(self.sets.train)
        epochs = default_epochs(num_images, image_passes=PROBE_PASSES, shortest=20, longest=300)
        per_epoch = steps_in_epoch(num_images, config.batch_size)
        total = num_steps(config, per_epoch, epochs) if self.mode == PROBE else epochs * per_epoch
        head = new_probe(data.train.features.shape[-1], len(self.sets.class_names))
        validation = Validation(data.evaluate, _rank, ("val_accuracy",)) if data.val is not None else None
        return self._loop(trial, head, data.train, total, _feature_objective, validation)

    def _loop(self, trial: Trial, model: nn.Module, data: Any, total: int, objective: Any,
              validation: Validation | None) -> TrainingLoop:  # fmt: skip
        config = self.config
        plan = LoopPlan(
            lr=trial.lr,
            total_steps=total,
            batch_size=config.batch_size,
            warmup_steps=round(config.warmup * total),
            weight_decay=config.weight_decay,
            clip_norm=config.clip_norm,
            ema=config.ema,
            precision="fp32" if trial.mode == PROBE else config.precision,
            eval_every=config.eval_every or max(1, -(-total // 10)),
            save_every=config.save_every,
            log_every=config.log_every,
            seed=config.seed,
            workers=0 if trial.mode == PROBE else config.workers,
            trial=trial.name,
            quiet=config.quiet,
        )
        self.run.resolve(architecture=self.info.architecture, image_size=self.info.image_size,
                         device=str(self.world.device), **{trial.name: dataclasses.asdict(plan)})  # fmt: skip
        return TrainingLoop(model, data, objective, plan, world=self.world, folder=self._folder(trial), log=self.log,
                            skipped=self.skipped, validation=validation)  # fmt: skip

    def _objective(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        return cross_entropy(model(self.preprocess(batch.inputs)), batch.targets)

    def _validation(self) -> Validation | None:
        if not self.sets.val:
            return None
        views = self._plain(self.sets.val)

        def evaluate(model: nn.Module) -> dict[str, float]:
            return _scores(tally_labelled(model, views, self.preprocess, world=self.world, dtype=self.dtype,
                                          batch_size=self.config.batch_size, workers=self.config.workers,
                                          skipped=self.skipped))  # fmt: skip

        return Validation(evaluate, _rank, ("val_accuracy",))

    def _plain(self, samples: tuple[LabelledSample, ...]) -> PlainViews:
        return PlainViews(self.sets.dataset.source, samples, num_classes=len(self.sets.class_names),
                          size_px=self.info.image_size)  # fmt: skip

    def _probe_data(self) -> _ProbeData:
        """Features of the training and validation images, computed once for all learning rates."""
        if self._features is None:
            self.model.load_state_dict(self.start)
            config, sets, size = self.config, self.sets, self.info.image_size
            count = num_probe_views(len(sets.train), config.probe_views)
            plain, crops = (
                TrainingViews(sets.dataset.source, sets.train, policy, num_classes=len(sets.class_names), seed=0)
                for policy in (named_policy("center", size_px=size),
                               named_policy("crops", size_px=size, seed=config.seed,
                                            crop_scale=crop_range(config) or PROBE_CROP_SCALE))
            )  # fmt: skip
            train = self._extract([(plain, 0), *((crops, view) for view in range(count))])
            val = self._extract([(self._plain(sets.val), 0)]) if sets.val else None
            self._features = _ProbeData.standardised(train, val)
        return self._features

    def _extract(self, data: Sequence[tuple[Any, int]]) -> FeatureTable:
        config = self.config
        return extract_features(self.model, data, self.preprocess, world=self.world, dtype=self.dtype,
                                batch_size=config.batch_size, workers=config.workers, seed=config.seed,
                                skipped=self.skipped, quiet=config.quiet)  # fmt: skip

    def _load_start(self, results: Sequence[TrialResult]) -> None:
        """The weights that full finetuning starts from: the best probe's head, if there is one, on the encoder.

        A head that fits first keeps finetuning from distorting good features (Kumar et al. 2022, arXiv:2202.10054).
        """
        self.model.load_state_dict(self.start)
        probes = [result for result in results if result.mode == PROBE and result.accuracy >= 0]
        if probes:
            self._load_probe(max(probes, key=lambda result: result.order))

    def _load(self, best: TrialResult) -> None:
        self.model.load_state_dict(self.start)
        if best.mode == PROBE:
            self._load_probe(best)
        else:
            folder = self._folder(Trial(best.mode, best.lr))
            self.model.load_state_dict(read_checkpoint(folder / "best.pt")["model"])

    def _load_probe(self, result: TrialResult) -> None:
        state = read_checkpoint(self._folder(Trial(result.mode, result.lr)) / "best.pt")["model"]
        set_head(self.model, *self._probe_data().standardisation.fold(state["weight"], state["bias"]))

    def _folder(self, trial: Trial) -> Path:
        return self.run.checkpoints / trial.name

    def _finished(self, trial: Trial) -> TrialResult | None:
        path = self._folder(trial) / "result.json"
        if self.config.resume and path.exists():
            return TrialResult(**json.loads(path.read_text()))
        return None

    def _forget_all_but_best(self, results: Sequence[TrialResult]) -> None:
        """Free the disk of beaten trials; the best probe stays, since finetuning starts from it."""
        if not self.world.is_main:
            return
        probes = [result for result in results if result.mode == PROBE]
        kept = [max(group, key=lambda result: result.order) for group in (results, probes) if group]
        for result in results:
            if result not in kept:
                for path in self._folder(Trial(result.mode, result.lr)).glob("*.pt"):
                    path.unlink()


@dataclasses.dataclass(frozen=True)
class _ProbeData:
    train: FeatureTable
    val: FeatureTable | None
    standardisation: Standardisation

    @classmethod
    def standardised(cls, train: FeatureTable, val: FeatureTable | None) -> _ProbeData:
        scale = Standardisation.of(train.features)
        scaled = [None if table is None else replace(table, features=scale(table.features)) for table in (train, val)]
        assert scaled[0] is not None
        return cls(scaled[0], scaled[1], scale)

    def evaluate(self, head: nn.Module) -> dict[str, float]:
        assert self.val is not None
        tally = Tally()
        device = next(head.parameters()).device
        tally.add(head(self.val.features[0].to(device)), self.val.targets[0].to(device))
        return _scores(tally)


def _feature_objective(head: nn.Module, batch: Batch) -> torch.Tensor:
    return cross_entropy(head(batch.inputs), batch.targets)


def _scores(tally: Tally) -> dict[str, float]:
    return {"val_accuracy": tally.accuracy, "val_loss": tally.loss}


def _rank(scores: Scores) -> tuple[float, ...]:
    return (scores["val_accuracy"], -scores["val_loss"])


def run_labelled(config: LabelledOptions, *, verb: str, mode: str, model_name: str, image_size: int | None,
                 recipe: Recipe, next_command: str) -> LabelledResult | dict[str, Any]:  # fmt: skip
    """adapt and finetune, whole: open, train, save, and say what came out."""
    sets = open_sets(config)
    if not sets.train:
        raise DataError(f"{config.data} has no training images")
    if config.dry_run:
        trials = [trial.name for trial in plan_trials(mode, config.lr, recipe)]
        return {"out": config.out, "model": model_name, "trials": trials, "num_train_images": len(sets.train),
                "num_val_images": len(sets.val), "classes": list(sets.class_names)}  # fmt: skip
    with entered_world(config.device) as world:
        refuse_own_input(config.out, model_name)
        model, info = make_model(model_name, class_names=sets.class_names, image_size=image_size, seed=config.seed)
        run = RunDirectory(config.out, config, verb=verb, overwrite=config.overwrite, resume=config.resume,
                           world=world)  # fmt: skip
        if (finished := run.finished()) is not None:
            return LabelledResult.from_json(finished)
        work = Supervised(config, mode=mode, recipe=recipe, sets=sets, model_name=model_name, model=model, info=info,
                          run=run, world=world)  # fmt: skip
        results = work.train()
        work.save(results)
        best = results[0]
        result = LabelledResult(
            out=config.out,
            model=model_name,
            mode=best.mode,
            lr=best.lr,
            val_accuracy=best.accuracy if sets.val else None,
            num_val_images=len(sets.val),
            num_train_images=len(sets.train),
            num_skipped=len(work.skipped.reasons),
            trials=tuple(dataclasses.asdict(one) for one in results),
            next_command=next_command,
        )
        run.finish(result.to_json())
        return result
