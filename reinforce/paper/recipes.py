"""The paper's recipes (A.4) as tables of numbers, and the presets that they make.

    TASK-LABELS         of adapt (VFM finetuning) and finetune (target model finetuning): eurosat-10, imagenet-1pct
    TASK-TRANSFER       of distill, logits of a finetuned VFM: eurosat-cc3m, eurosat-related, eurosat-curated
    features-TRANSFER   of distill, features of a VFM that knows no task: features-cc3m, features-eurosat
    METHOD-DATA         of pretrain: supervised-imagenet, dino-cc3m; clip and clip-affinity of a set of one's own

"related" is the task's own training images, such as eurosat@train, "curated" what was retrieved for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Literal

Verb = Literal["adapt", "distill", "finetune", "pretrain"]

LRS = (7e-6, 2.4e-5, 8e-5, 2.7e-4, 9e-4, 3e-3)
"""A.4: "several learning rates from 7e-6 to 3e-3", the best kept. It does not say which: here six at equal ratios."""
CLASSIFICATION_PX, SEGMENTATION_PX = 256, 512
"""A.4: input resolutions."""
VFM_CLASSIFICATION_PX = 252
"""Of 256 px, what the patches of 14 px of both VFMs cover; 256 itself is refused rather than cropped silently."""

TASKS: Mapping[str, Mapping[str, Any]] = {
    "places365": {"val_limit": 3650},
    "ham10k": {},
    "eurosat": {"val_limit": 5400},
    "imagenet": {"val_limit": 10_000},
    "ade20k": {"task": "segmentation"},
}
"""Options of every labelled training of a task: all of its validation images choose (A.1; the default is 1000)."""

LABELS: Mapping[str, tuple[str, int]] = {
    "1pct": ("num_labelled", 12_812),
    "10pct": ("num_labelled", 128_117),
    "25pct": ("num_labelled", 320_292),
    "50pct": ("num_labelled", 640_584),
}
"""Of ImageNet's 1,281,167 training images."""

# A.4, "VFM finetuning" and "Target model finetuning"; labels: images a class, for ADE20K images in all.
#    task         labels   VFM: epochs, batch   target model: epochs, batch
LABELLED = (
    ("places365", "50", 200, 512, 200, 512),
    ("places365", "250", 100, 512, 100, 512),
    ("places365", "1000", 100, 512, 100, 512),
    ("ham10k", "100", 200, 128, 200, 128),
    ("ham10k", "250", 200, 128, 200, 128),
    ("ham10k", "500", 200, 128, 200, 128),
    ("ham10k", "1000", 200, 128, 200, 128),
    ("eurosat", "5", 500, 50, 800, 50),
    ("eurosat", "10", 400, 100, 600, 100),
    ("eurosat", "25", 300, 128, 400, 128),
    ("imagenet", "1pct", 100, 1024, 50, 512),  # the VFM's head alone
    ("imagenet", "10pct", 25, 512, 50, 512),
    ("imagenet", "25pct", 25, 512, 50, 512),
    ("imagenet", "50pct", 25, 512, 50, 512),
    ("ade20k", "1200", 300, 32, 500, 32),
    ("ade20k", "2401", 250, 32, 400, 32),
    ("ade20k", "4802", 200, 32, 300, 32),
    ("ade20k", "9605", 100, 32, 200, 32),
)

# A.4, "Distillation of finetuned VFM".
#    task         transfer   length              batch  learning rate
DISTILLED = (
    ("places365", "cc3m", ("epochs", 100), 512, 7e-4),
    ("places365", "related", ("epochs", 200), 512, 7e-4),
    ("ham10k", "cc3m", ("epochs", 100), 512, 7e-4),
    ("ham10k", "related", ("epochs", 7000), 128, 7e-4),
    ("ham10k", "curated", ("steps", 550_000), 128, 7e-4),
    ("eurosat", "cc3m", ("epochs", 100), 1024, 7e-4),
    ("eurosat", "related", ("epochs", 10_000), 1024, 7e-4),
    ("eurosat", "curated", ("steps", 30_000), 1024, 7e-4),
    ("imagenet", "cc3m", ("epochs", 150), 1024, 3e-3),
    ("imagenet", "related", ("epochs", 300), 1024, 3e-3),
    ("ade20k", "cc3m", ("epochs", 15), 128, 7e-4),
    ("ade20k", "related", ("epochs", 2000), 128, 7e-4),
    ("ade20k", "curated", ("steps", 200_000), 128, 7e-4),
)

# A.4, "Task-agnostic VFM feature distillation" (learning rate 1e-3) and "DINO pretraining" (3e-3, batches of 1024).
#    transfer     features: epochs, batch   DINO: epochs
AGNOSTIC = (
    ("cc3m", 100, 2048, 100),
    ("places365", 200, 2048, 200),
    ("imagenet", 200, 2048, 300),
    ("eurosat", 10_000, 2048, 10_000),
    ("ade20k", 10_000, 1024, 15_000),
    ("ham10k", 20_000, 1024, 20_000),
)

# A.4, "ImageNet pretraining" and "CLIP pretraining" (65.5K pairs; by affinity mimicking, footnote 1).
SUPERVISED = {"epochs": 300, "batch_size": 1024, "lr": 2e-3}
CLIP = {"steps": 200_000, "batch_size": 65_536, "lr": 5e-4}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A preset of one verb."""

    name: str
    verb: Verb
    values: Mapping[str, Any]
    """Option -> what it is unless something else is typed."""
    needs: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    """Option -> the values that this recipe is for."""
    source: str = "paper A.4"


def _labelled() -> Iterator[Recipe]:
    for task, labels, vfm_epochs, vfm_batch, epochs, batch in LABELLED:
        name, dense = f"{task}-{labels}", task == "ade20k"
        kind, number = LABELS.get(labels) or ("num_labelled" if dense else "shots", int(labels))
        shared = {"data": task, **TASKS[task], kind: number, "lr": LRS}
        head_alone = {"mode": "linear-probe"} if name == "imagenet-1pct" else {}
        px = SEGMENTATION_PX if dense else VFM_CLASSIFICATION_PX
        vfm = {"epochs": vfm_epochs, "batch_size": vfm_batch, "image_size": px, **head_alone}
        px = SEGMENTATION_PX if dense else CLASSIFICATION_PX
        student = {"epochs": epochs, "batch_size": batch, "image_size": px}
        yield Recipe(name, "adapt", shared | vfm, source="paper A.4, VFM finetuning")
        yield Recipe(name, "finetune", shared | student, source="paper A.4, target model finetuning")


def _distilled() -> Iterator[Recipe]:
    for task, transfer, length, batch, lr in DISTILLED:
        px = SEGMENTATION_PX if task == "ade20k" else CLASSIFICATION_PX
        values = {length[0]: length[1], "batch_size": batch, "lr": lr, "image_size": px}
        yield Recipe(f"{task}-{transfer}", "distill", values, {"loss": ("kl",)},
                     "paper A.4, distillation of finetuned VFM")  # fmt: skip


def _agnostic() -> Iterator[Recipe]:
    for transfer, epochs, batch, _ in AGNOSTIC:
        values = {"epochs": epochs, "batch_size": batch, "lr": 1e-3, "image_size": CLASSIFICATION_PX}
        yield Recipe(f"features-{transfer}", "distill", values, {"loss": ("contrastive", "cosine")},
                     "paper A.4, task-agnostic VFM feature distillation")  # fmt: skip


def _pretrained() -> Iterator[Recipe]:
    def recipe(name: str, method: str, source: str, values: Mapping[str, Any]) -> Recipe:
        values = {"method": method, **values, "image_size": CLASSIFICATION_PX}
        return Recipe(name, "pretrain", values, {"method": (method,)}, f"paper A.4, {source}")

    yield recipe("supervised-imagenet", "supervised", "ImageNet pretraining", {"data": "imagenet", **SUPERVISED})
    for transfer, _, _, epochs in AGNOSTIC:
        images = transfer if transfer == "cc3m" else f"{transfer}@train"
        values = {"transfer": images, "epochs": epochs, "batch_size": 1024, "lr": 3e-3}
        yield recipe(f"dino-{transfer}", "dino", "DINO pretraining", values)
    for method in ("clip", "clip-affinity"):
        yield recipe(method, method, "CLIP pretraining", CLIP)


RECIPES = (*_labelled(), *_distilled(), *_agnostic(), *_pretrained())
