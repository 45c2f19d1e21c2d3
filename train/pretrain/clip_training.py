"""What clip and clip-affinity share: two towers in the one training loop, held-out retrieval, the encoder as a model.

B pairs of a batch, N held-out pairs, E dimensions of the joint space.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from reinforce.errors import DataError
from reinforce.models import ModelInfo, Preprocess, save_model, short_name
from reinforce.models.open_clip_text import TextConfig
from torch import Tensor, nn

from train.batches import Batch, SkippedImages, TrainingData, steps_in_epoch
from train.feature_matching import retrieval_rate
from train.loop import LoopPlan, Outcome, TrainingLoop, Validation
from train.optim import autocast_dtype
from train.options import num_steps
from train.passes import Pass, readable
from train.pretrain.clip import PairOptions, PairResult
from train.pretrain.clip_losses import clip_loss
from train.pretrain.clip_model import ClipModel
from train.rundir import RunDirectory, refuse_own_input
from train.students import default_image_size, grown, make_model
from train.world import World, entered_world

DEFAULT_EPOCHS = 32
"""Radford et al. 2021, section 2.5."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairWork:
    """What is particular to a method."""

    data: TrainingData
    held_out: TrainingData | None
    """Its batches have tokens as targets."""
    num_pairs: int
    objective: Callable[[nn.Module, Batch], Tensor]
    binding: Mapping[str, Any]
    """See LoopPlan."""
    provenance: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairTraining:
    """One run: its model, where it is written and by which processes."""

    config: PairOptions
    method: str
    text: TextConfig
    model: ClipModel
    info: ModelInfo
    run_directory: RunDirectory
    world: World

    @property
    def preprocess(self) -> Preprocess:
        return Preprocess.from_info(self.info)

    def run(self, make_work: Callable[[PairTraining], PairWork]) -> PairResult:
        """Train, save and say what came out; a run that --resume finds complete says it again."""
        if (finished := self.run_directory.finished()) is not None:
            return PairResult(**finished)
        work, skipped = make_work(self), SkippedImages(quiet=self.config.quiet)
        plan = self._plan(work)
        self.run_directory.resolve(architecture=self.info.architecture, image_size=self.info.image_size,
                                   text_tower=self.text.name, device=str(self.world.device),
                                   loop=dataclasses.asdict(plan))  # fmt: skip
        loop = TrainingLoop(
            self.model,
            work.data,
            work.objective,
            plan,
            world=self.world,
            folder=self.run_directory.checkpoints,
            log=self.run_directory.metrics,
            skipped=skipped,
            validation=self._validation(work, skipped),
            keep=lambda model, folder: self._save(folder, model, work, {}),
        )
        outcome = loop.run(resume=self.config.resume)
        loop.load_best()
        if self.world.is_main:
            self._save(self.run_directory.path, self.model, work, outcome.scores)
        result = self._result(work, plan, outcome, len(skipped.reasons))
        self.run_directory.finish(result.to_json())
        return result

    def _plan(self, work: PairWork) -> LoopPlan:
        config = self.config
        per_epoch = steps_in_epoch(len(work.data.epoch_order(0)), config.batch_size)
        total = num_steps(config, per_epoch, DEFAULT_EPOCHS)
        # By the encoder: the text tower is a transformer, but would not pay for convolutions in bf16 on a CPU.
        dtype = autocast_dtype(config.precision, self.model.encoder, self.world.device)
        return LoopPlan.of(config, lr=config.lr, total_steps=total, batch_size=config.batch_size,
                           precision="fp32" if dtype is None else "bf16", binding=work.binding)  # fmt: skip

    def _validation(self, work: PairWork, skipped: SkippedImages) -> Validation | None:
        """By the loss: retrieval is coarse where pairs are few."""
        held_out = work.held_out
        if held_out is None:
            return None

        rows = Pass(held_out, self.config.batch_size, world=World(self.world.device), workers=self.config.workers,
                    keeps=True)  # fmt: skip

        def evaluate(model: nn.Module) -> dict[str, float]:
            return _scores(cast(ClipModel, model), self.preprocess, readable(rows, skipped), self.world.device)

        return Validation(evaluate, lambda scores: (-scores["val_loss"],), ("val_loss", "val_retrieval"))

    def _save(self, folder: Path, model: nn.Module, work: PairWork, scores: Mapping[str, float]) -> None:
        pair, config = cast(ClipModel, model), self.config
        scale = float(pair.eval().scale().detach())
        training = {"verb": "pretrain", "method": self.method, "model": short_name(config.model), "lr": config.lr,
                    "seed": config.seed, "text_tower": self.text.name, "logit_scale": scale,
                    **work.provenance}  # fmt: skip
        info = replace(self.info, provenance=grown(self.info.provenance, training), metrics=dict(scores))
        save_model(folder, pair.encoder, info, pair.beside_encoder())

    def _result(self, work: PairWork, plan: LoopPlan, outcome: Outcome, num_skipped: int) -> PairResult:
        return PairResult(
            out=self.config.out,
            model=self.info.architecture,
            method=self.method,
            text_tower=self.text.name,
            steps=plan.total_steps,
            best_step=outcome.step,
            num_pairs=work.num_pairs,
            num_held_out=0 if work.held_out is None else len(work.held_out.epoch_order(0)),
            num_skipped=num_skipped,
            loss=outcome.scores.get("val_loss"),
            retrieval=outcome.scores.get("val_retrieval"),
        )


@contextlib.contextmanager
def entered_training(config: PairOptions, text: TextConfig, method: str,
                     image_size: int | None = None) -> Iterator[PairTraining]:  # fmt: skip
    """Processes joined, model made, run directory opened. `image_size`: where none is typed (default: the model's).

    Raises as those do.
    """
    with entered_world(config.device) as world:
        refuse_own_input(config.out, config.model)
        size = config.image_size or image_size or default_image_size(config.model)
        encoder, info = make_model(config.model, class_names=(), image_size=size, seed=config.seed)
        model = ClipModel(encoder, text, seed=config.seed)
        run = RunDirectory(config.out, config, verb="pretrain", overwrite=config.overwrite, resume=config.resume,
                           world=world)  # fmt: skip
        with run.reported():
            yield PairTraining(config=config, method=method, text=text, model=model, info=info, run_directory=run,
                               world=world)  # fmt: skip


def _scores(model: ClipModel, preprocess: Preprocess, batches: Iterator[Batch],
            device: torch.device) -> dict[str, float]:  # fmt: skip
    """val_loss and val_retrieval over all held-out pairs at once."""
    images, texts, scale = [], [], model.scale()
    for batch in batches:
        moved = batch.to(device)
        images_BE, texts_BE, scale = model(preprocess(moved.inputs), moved.targets)
        images.append(images_BE.float())
        texts.append(texts_BE.float())
    if not images:
        raise DataError("none of the held-out pairs can be read: mend them, or type --val-limit 0")
    return pair_scores(torch.cat(images), torch.cat(texts), scale)


def pair_scores(images_NE: Tensor, texts_NE: Tensor, scale: Tensor) -> dict[str, float]:
    """val_loss, see `clip_loss`; val_retrieval: share (0..1) of images whose nearest text by cosine is their own,
    averaged with that of texts. In float32 whatever the autocast."""
    loss = clip_loss(images_NE, texts_NE, scale, World(images_NE.device))
    found = [retrieval_rate(images_NE, texts_NE), retrieval_rate(texts_NE, images_NE)]
    return {"val_loss": float(loss), "val_retrieval": sum(found) / 2}
