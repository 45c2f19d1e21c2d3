"""`--method clip`: an encoder learns from images with captions, together with a text tower (paper A.4, CLIP-Pretrain).

Code is tested; what such encoders are worth is unmeasured here, where there are no real pairs.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from reinforce.counting import counted
from reinforce.errors import UsageError

from train.options import TrainOptions, require
from train.results import finetune_command

if TYPE_CHECKING:
    from torch import Tensor, nn

    from train.batches import Batch

PAPER_LR = 5e-4
"""With batches of 65,536 pairs, for 200,000 steps (paper A.4)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairOptions(TrainOptions):
    """What clip and clip-affinity share."""

    model: str
    """The image tower: a timm name (bare: untrained), a catalog name or a directory."""
    text_tower: str = ""
    """Text half of an open_clip configuration, such as ViT-B-32 (default: ViT-S-32-alt)."""
    batch_size: int = 128
    """Pairs per step, over all devices; the others of a step are what a pair is told from."""
    lr: float = PAPER_LR
    """Peak learning rate."""
    weight_decay: float = 0.2
    """AdamW's weight decay; norms, biases, positions and the scale have none (0.2: Radford et al., table 18)."""
    image_size: int | None = None
    """Input size in px (default: the model's)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.lr > 0, "lr", self.lr, "above 0")
        require(self.batch_size >= 2, "batch_size", self.batch_size, "2 or more: a pair is told from the others")
        require(self.image_size is None or self.image_size >= 1, "image_size", self.image_size, "1 px or more")
        if self.model.startswith("open_clip:"):
            raise UsageError(f"--model {self.model} is the tower of a pair: type a timm name, such as fastvit_t8")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipConfig(PairOptions):
    method: Literal["clip"] = "clip"
    """This method."""
    transfer: str
    """Images with captions: a catalog name, a folder with a .txt beside each image, tars, or a CSV of path,caption."""
    limit: int | None = None
    """Only the first N pairs, for tries."""
    val_limit: int = 1000
    """Held-out pairs at most: what chooses the step that is kept; 0 for none."""
    crop_scale: tuple[float, ...] = (0.9, 1.0)
    """Range of a crop's share of the image."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.limit is None or self.limit >= 2, "limit", self.limit, "2 pairs or more")
        require(self.val_limit >= 0, "val_limit", self.val_limit, "0 or more")
        require(len(self.crop_scale) == 2 and 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1, "crop_scale",
                self.crop_scale, "two shares, such as 0.9,1")  # fmt: skip


@dataclasses.dataclass(frozen=True)
class PairResult:
    """`retrieval` (0..1): how often the nearest caption of a held-out image is its own, and the nearest image of a
    caption, averaged; `loss` in nats over all held-out pairs. None without held-out pairs."""

    out: str
    model: str
    method: str
    text_tower: str
    steps: int
    best_step: int
    num_pairs: int
    num_held_out: int
    num_skipped: int
    loss: float | None
    retrieval: float | None

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        measured = "" if self.retrieval is None else (
            f", finds {self.retrieval:.1%} of {counted(self.num_held_out, 'held-out pair')}")  # fmt: skip
        skipped = f", {counted(self.num_skipped, 'pair')} skipped" if self.num_skipped else ""
        return (f"wrote {self.out} ({self.model}, best at step {self.best_step} of {self.steps}{measured}{skipped})\n"
                f"next: {finetune_command(self.out)}")  # fmt: skip


def pretrain_clip(config: ClipConfig) -> PairResult | dict[str, Any]:
    """Train an encoder and a text tower to find each other's halves of pairs; the encoder is what is kept as a model.

    Raises DataError where an image has no caption, MissingExtraError without open_clip_torch.
    """
    from reinforce import catalog
    from reinforce.data import open_captioned
    from reinforce.data.licence import data_licence
    from reinforce.models.open_clip_text import DEFAULT_TEXT_TOWER, text_config

    from train.pretrain.clip_losses import clip_loss
    from train.pretrain.clip_pairs import HeldOutPairs, TrainingPairs, clip_policy
    from train.pretrain.clip_training import PairTraining, PairWork, entered_training
    from train.pretrain.transfer_images import hold_out, images_digest, list_images

    text = text_config(config.text_tower or DEFAULT_TEXT_TOWER)
    entry = catalog.resolve_data(config.transfer)
    source = open_captioned(str(entry.path))
    train, held_out = hold_out(list_images(source.images, config.limit), config.val_limit)
    if config.dry_run:
        return {"out": config.out, "model": config.model, "text_tower": text.name, "num_pairs": len(train),
                "num_held_out": len(held_out)}  # fmt: skip

    def work(training: PairTraining) -> PairWork:
        size_px = training.info.image_size
        policy = clip_policy(size_px, config.seed, (config.crop_scale[0], config.crop_scale[1]))

        def objective(model: nn.Module, batch: Batch) -> Tensor:
            images_BE, texts_BE, scale = model(training.preprocess(batch.inputs), batch.targets)
            return clip_loss(images_BE, texts_BE, scale, training.world)

        return PairWork(
            data=TrainingPairs(source, train, policy, text.tokenizer, seed=config.seed),
            held_out=HeldOutPairs(source, held_out, text.tokenizer, size_px=size_px) if held_out else None,
            num_pairs=len(train),
            objective=objective,
            binding={"pairs": images_digest(train)},
            provenance={"transfer": source.name, "transfer_license": data_licence(entry, source.images),
                        "num_pairs": len(train)},
        )

    with entered_training(config, text, config.method) as training:
        return training.run(work)
