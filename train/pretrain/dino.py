"""`train pretrain --method dino`: self-distillation without labels on the transfer set (Caron et al. 2021; paper A.4).

The student learns from all crops what its own average, the teacher, says of the large ones. What is kept is the
teacher's encoder; the projection heads stay beside it, in extra.safetensors.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reinforce.counting import counted

from train.pretrain.dino_config import DinoConfig
from train.results import finetune_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor, nn

    from train.loop import LoopPlan, TrainingLoop
    from train.rundir import RunDirectory
    from train.world import World

PAPER_EPOCHS = 100
"""On CC3M (A.4)."""
HEAD_PREFIX = "dino_head."


@dataclasses.dataclass(frozen=True)
class DinoResult:
    """Entropies in nats and feature_std of the teacher on held-out images (see `dino_signs`); None without any."""

    out: str
    model: str
    method: str
    steps: int
    num_images: int
    num_held_out: int
    num_skipped: int
    teacher_entropy: float | None = None
    prototype_entropy: float | None = None
    feature_std: float | None = None

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        measured = "" if self.feature_std is None else (
            f", feature std {self.feature_std:.2f}, teacher entropy {self.teacher_entropy:.2f} nats on "
            f"{counted(self.num_held_out, 'held-out image')}")  # fmt: skip
        skipped = f", {counted(self.num_skipped, 'image')} skipped" if self.num_skipped else ""
        images = counted(self.num_images, "image")
        return (f"wrote {self.out} ({self.model}, dino, {counted(self.steps, 'step')} on {images}{measured}{skipped})\n"
                f"next: {finetune_command(self.out)}")  # fmt: skip


def pretrain_dino(config: DinoConfig) -> DinoResult | dict[str, Any]:
    """Pretrain an encoder on images alone."""
    from reinforce import catalog
    from reinforce.data import open_source
    from reinforce.data.licence import data_licence
    from reinforce.errors import DataError
    from reinforce.models import check_model

    from train.pretrain.transfer_images import hold_out, list_images
    from train.rundir import RunDirectory, refuse_own_input
    from train.world import entered_world

    entry = catalog.resolve_data(config.transfer)
    source = open_source(str(entry.path))
    images, held_out = hold_out(list_images(source, config.limit), config.val_limit)
    if not images:
        raise DataError(f"{config.transfer} has no images to learn from")
    if config.dry_run:
        return {"out": config.out, "model": config.model, "method": config.method, "num_images": len(images),
                "num_held_out": len(held_out), "steps": _total_steps(config, len(images))}  # fmt: skip
    check_model(config.model)
    origin = {"transfer": entry.name, "transfer_license": data_licence(entry, source)}
    with entered_world(config.device) as world:
        refuse_own_input(config.out, config.model)
        run = RunDirectory(config.out, config, verb="pretrain", overwrite=config.overwrite, resume=config.resume,
                           world=world)  # fmt: skip
        if (finished := run.finished()) is not None:
            return DinoResult(**finished)
        with run.reported():
            result = Dino(config, source, images, held_out, run, world, origin).train()
            run.finish(result.to_json())
        return result


class Dino:
    """One run: model, crops, objective and what is written of them."""

    def __init__(self, config: DinoConfig, source: Any, images: Any, held_out: Any, run: RunDirectory, world: World,
                 origin: Mapping[str, str]) -> None:  # fmt: skip
        """`origin`: name and licence of the images. Raises UnknownNameError, UsageError, ModelError."""
        from reinforce.views import resolve_multi_crop

        from train.optim import AveragedModel, rising
        from train.passes import Pass
        from train.pretrain.dino_loss import DinoObjective
        from train.pretrain.dino_model import add_head, flexible, small_size
        from train.pretrain.dino_views import CropViews, Pixels, PlainViews
        from train.pretrain.transfer_images import images_digest
        from train.students import default_image_size, make_model
        from train.world import World

        self.config, self.run, self.world, self.origin = config, run, world, origin
        encoder, self.info = make_model(config.model, class_names=(), seed=config.seed,
                                        image_size=config.image_size or default_image_size(config.model))  # fmt: skip
        encoder = flexible(encoder, self.info) if config.num_local else encoder
        small_px = small_size(encoder, self.info.image_size, config.local_size)
        crops = resolve_multi_crop(size_px=self.info.image_size, local_px=small_px, seed=config.seed,
                                   scale=_pair(config.crop_scale), local_scale=_pair(config.local_scale))  # fmt: skip
        model = add_head(encoder, width=config.head_width, num_prototypes=config.prototypes)
        self.model = world.synchronised(model.to(world.device))
        self.pixels = Pixels.of(self.info, small_px)
        self.data = CropViews(source, images, crops, num_small=config.num_local, seed=config.seed)
        self.held_out = Pass(PlainViews(source, held_out, size_px=self.info.image_size), config.batch_size,
                             world=World(world.device), workers=config.workers, keeps=True)  # fmt: skip
        self.plan = _plan(config, len(images), images_digest(images))
        self.teacher = AveragedModel(self.model, rising(config.ema, self.plan.total_steps))
        self.objective = DinoObjective(config, self.teacher, self.pixels, world=world,
                                       steps_per_epoch=_steps_per_epoch(config, len(images)),
                                       total_steps=self.plan.total_steps)  # fmt: skip

    def train(self) -> DinoResult:
        """Raises TrainingStoppedError, TrainingDivergedError, WorkerDiedError."""
        self.run.resolve(architecture=self.info.architecture, image_size=self.info.image_size,
                         local_size=self.data.crops.local.size_px, device=str(self.world.device),
                         loop=dataclasses.asdict(self.plan))  # fmt: skip
        loop = self._loop()
        outcome = loop.run(resume=self.config.resume)
        loop.load_best()
        if self.world.is_main:
            self._save(self.run.path, loop.model, outcome.scores)
        return DinoResult(self.config.out, self.info.architecture, self.config.method, self.plan.total_steps,
                          len(self.data), self.held_out.num_rows, len(loop.skipped.reasons),
                          **outcome.scores)  # fmt: skip

    def _loop(self) -> TrainingLoop:
        from train.batches import SkippedImages
        from train.loop import TrainingLoop, Validation

        shown = ("feature_std", "teacher_entropy")
        validation = Validation(self.signs, None, shown) if self.held_out.num_rows else None
        return TrainingLoop(self.model, self.data, self.objective, self.plan, world=self.world,
                            folder=self.run.checkpoints, log=self.run.metrics,
                            skipped=SkippedImages(quiet=self.config.quiet),
                            validation=validation, average=self.teacher,
                            keep=lambda model, folder: self._save(folder, model, {}))  # fmt: skip

    def signs(self, teacher: nn.Module) -> dict[str, float]:
        """Whether the teacher collapses, on the held-out images."""
        from train.pretrain.dino_signs import signs_of

        return signs_of(self._answers(teacher))

    def _answers(self, teacher: Any) -> Iterator[tuple[Tensor, Tensor]]:
        from train.pretrain.dino_loss import teacher_probs

        for batch in self.held_out:
            if len(batch):
                features_BD = teacher.encoder(self.pixels.large(batch.inputs, self.world.device))
                logits_BK = teacher.head(features_BD)
                yield teacher_probs(logits_BK, self.objective.centre_K, self.objective.temperature), features_BD

    def _save(self, folder: Path, model: Any, scores: Mapping[str, float]) -> None:
        """A model directory of the encoder; the head, beside it, has names that begin with HEAD_PREFIX."""
        from reinforce.models import save_model, short_name

        from train.students import grown

        config = self.config
        training = {"verb": "pretrain", "method": config.method, "model": short_name(config.model),
                    **self.origin, "num_images": len(self.data), "lr": config.peak_lr,
                    "seed": config.seed}  # fmt: skip
        info = dataclasses.replace(self.info, provenance=grown(self.info.provenance, training),
                                   metrics={f"held_out_{name}": value for name, value in scores.items()})  # fmt: skip
        head = {HEAD_PREFIX + name: tensor for name, tensor in model.head.state_dict().items()}
        save_model(folder, model.encoder, info, extra=head)


def _plan(config: DinoConfig, num_images: int, digest: str) -> LoopPlan:
    from train.loop import LoopPlan

    return LoopPlan.of(config, lr=config.peak_lr, total_steps=_total_steps(config, num_images),
                       batch_size=config.batch_size, final_weight_decay=config.weight_decay_end,
                       binding={"list_of_images": digest})  # fmt: skip


def _steps_per_epoch(config: DinoConfig, num_images: int) -> int:
    from train.batches import steps_in_epoch

    return steps_in_epoch(num_images, config.batch_size)


def _total_steps(config: DinoConfig, num_images: int) -> int:
    from train.options import num_steps

    return num_steps(config, _steps_per_epoch(config, num_images), PAPER_EPOCHS)


def _pair(bounds: tuple[float, ...]) -> tuple[float, float]:
    return bounds[0], bounds[1]
