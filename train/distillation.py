"""One distillation: the student that is made, how it is compared with the store's targets, the loop, what is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reinforce.dataset import ReinforcedDataset
from reinforce.errors import ReplayDriftError
from reinforce.models import Preprocess, save_model, short_name, side_multiple
from reinforce.store import Store
from torch import Tensor, nn

from train.batches import Batch, steps_in_epoch
from train.cached import CachedViews, HeldOutViews
from train.distill import Aim, DistillConfig, DistillResult
from train.feature_matching import ContrastiveMatching, CosineMatching
from train.loop import LoopPlan, TrainingLoop, Validation
from train.matching import LogitMatching, Matching
from train.options import num_steps
from train.pace import Pace, PaceWatch, shorter_distillation, shorter_side
from train.passes import Pass
from train.projections import ProjectedStudent, kept_parts, take_over
from train.rundir import RunDirectory
from train.students import grown, make_model
from train.world import World

if TYPE_CHECKING:
    from train.online import LiveTeacher

DEFAULT_EPOCHS = 100


class Distillation:
    """A student made for a store's targets, and its training."""

    def __init__(self, config: DistillConfig, aim: Aim, dataset: ReinforcedDataset, world: World) -> None:
        """Raises UsageError, ModelError, UnknownNameError for a student or teacher that cannot be used."""
        self.config, self.aim, self.dataset, self.world = config, aim, dataset, world
        self.teacher = self._open_teacher()
        self.encoder, self.info = make_model(
            config.student, class_names=dataset.store.class_names, image_size=config.image_size or dataset.size_px,
            seed=config.seed, init_from=config.init_from, task=aim.task, head=config.head,
        )  # fmt: skip
        self.student, self.matching = self._matched()
        self.preprocess = Preprocess.from_info(self.info)

    def train(self, run: RunDirectory) -> DistillResult:
        """To the end; the best student is kept. Raises ReplayDriftError and what `TrainingLoop.run` raises."""
        config, store = self.config, self.dataset.store
        replay = self._checked_replay()
        data = CachedViews(self.dataset, seed=config.seed)
        plan = _loop_plan(config, len(data.epoch_order(0)), self._digests())
        run.resolve(student=self.info.architecture, image_size=self.info.image_size, loss=self.aim.loss,
                    temperature=self.aim.temperature, device=str(self.world.device),
                    loop=dataclasses.asdict(plan))  # fmt: skip
        loop = TrainingLoop(self.student, data, self._loss, plan, world=self.world, folder=run.checkpoints,
                            log=run.metrics,
                            validation=self._validation(), keep=partial(self._write, replay, {}),
                            pace=None if config.json else PaceWatch(self._said_of_long))  # fmt: skip
        outcome = loop.run(resume=config.resume)
        loop.load_best()
        if self.world.is_main:
            self._write(replay, outcome.scores, loop.model, run.path)
        return DistillResult(out=config.run_directory, student=self.info.architecture,
                             store_digest=store.manifest.digest, steps=plan.total_steps, best_step=outcome.step,
                             loss=self.aim.loss, task=self.info.task, other_store_digests=self._digests()[1:],
                             **outcome.scores)  # fmt: skip

    def _said_of_long(self, pace: Pace) -> str:
        multiple = side_multiple(self.encoder, self.info)
        side = None if multiple is None else shorter_side(self.info.image_size, multiple)
        num_parameters = sum(weights.numel() for weights in self.encoder.parameters())
        return shorter_distillation(pace, self.config, self.info, num_parameters, side_px=side)

    def _digests(self) -> tuple[str, ...]:
        """Of the store's manifest, or of those of an ensemble."""
        return tuple(store.manifest.digest for store in self.dataset.stores)

    def _matched(self) -> tuple[nn.Module, Matching]:
        """What is trained, and the loss that it is trained by."""
        if self.aim.projections is None:
            assert self.aim.temperature is not None
            return self.encoder, LogitMatching(self.aim.temperature)
        student = ProjectedStudent(self.encoder, self.aim.projections, self.info.image_size)
        take_over(student, self.aim.projections, self.config.init_from or self.config.student)
        if self.aim.temperature is None:
            return student, CosineMatching()
        return student, ContrastiveMatching(self.aim.temperature, self.world)

    def _open_teacher(self) -> LiveTeacher | None:
        """Of --online-teacher. Raises UsageError for another than the store's."""
        if self.config.online_teacher is None:
            return None
        from train.online import LiveTeacher

        return LiveTeacher.open(self.config.online_teacher, self.dataset.store, self.world.device)

    def _loss(self, student: nn.Module, batch: Batch) -> Tensor:
        labelled = batch if self.teacher is None else self.teacher.relabelled(batch)
        return self.matching.loss(student, self.preprocess(batch.inputs), labelled)

    def _checked_replay(self) -> dict[str, Any]:
        """What replaying the store's probe views here showed; goes into the student's provenance."""
        try:
            return self.dataset.check_replay(accept_drift=self.config.accept_drift).to_json()
        except ReplayDriftError as error:
            raise ReplayDriftError(f"{error}; --accept-drift trains all the same") from None

    def _validation(self) -> Validation | None:
        """The student against the stored targets of held-out rows: "best" needs no labels."""
        views, config, device = HeldOutViews(self.dataset), self.config, self.world.device
        if len(views.rows) == 0:
            return None
        rows = Pass(views, config.batch_size, world=World(device), workers=config.workers, keeps=True)

        def evaluate(student: nn.Module) -> dict[str, float]:
            tally = self.matching.tally()
            for batch in rows:
                moved = batch.to(device)
                tally.add(student, self.preprocess(moved.inputs), moved)
            return tally.figures()

        return Validation(evaluate, self.matching.rank, self.matching.figures)

    def _write(self, replay: Mapping[str, Any], scores: Mapping[str, float], student: nn.Module, folder: Path) -> None:
        """A model directory of what was trained; projections lie beside the encoder."""
        encoder, extra = kept_parts(student)
        provenance = grown(self.info.provenance, self._training(replay))
        metrics = {f"held_out_{name}": value for name, value in scores.items()}
        save_model(folder, encoder, dataclasses.replace(self.info, provenance=provenance, metrics=metrics), extra)

    def _training(self, replay: Mapping[str, Any]) -> dict[str, Any]:
        """What provenance says of this training."""
        config, aim, store = self.config, self.aim, self.dataset.store
        init_from = short_name(config.init_from) if config.init_from else None
        targets: dict[str, Any] = {"targets": "stored"}
        if self.teacher is not None:
            targets = {"targets": "online", "online": self.teacher.provenance}
        projections = {} if aim.projections is None else {"projections": aim.projections.to_json()}
        others = [_record(other) for other in self.dataset.stores[1:]]
        stores = {"store": _record(store)} | ({"other_stores": others} if others else {})
        return {"verb": "distill", "student": short_name(config.student), "init_from": init_from, "lr": config.lr,
                "loss": aim.loss, "temperature": aim.temperature, "seed": config.seed, **targets, **projections,
                **stores, "replay": dict(replay)}  # fmt: skip


def _record(store: Store) -> dict[str, Any]:
    return {"manifest_digest": store.manifest.digest, "target": store.target,
            "transfer": store.plan["transfer"]["name"],
            "transfer_license": store.plan["transfer"].get("license", "unknown"),
            "teacher": store.plan["teacher"]}  # fmt: skip


def _loop_plan(config: DistillConfig, num_rows: int, digests: Sequence[str]) -> LoopPlan:
    total = num_steps(config, steps_in_epoch(num_rows, config.batch_size), DEFAULT_EPOCHS)
    return LoopPlan.of(config, lr=config.lr, total_steps=total, batch_size=config.batch_size,
                       binding={"store_digest": "+".join(digests)})  # fmt: skip
