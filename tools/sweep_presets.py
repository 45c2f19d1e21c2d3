"""How large a sweep is: smoke for tests, small for an hour a seed, results for docs, the paper's as a plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from stages import Stage
from sweep_plan import Preset, Recipe, Task, Words

from reinforce.paper.recipes import CLASSIFICATION_PX, VFM_CLASSIFICATION_PX

CROPS = ("--policy", "crops", "--crop-scale", "0.5,1")
SMOKE_COLOURS = {
    "related": {"blue": (30, 40, 200), "green": (40, 180, 50), "red": (200, 50, 40)},
    "generic": {"cyan": (40, 190, 190), "grey": (120, 120, 120), "pink": (230, 130, 170), "sand": (210, 190, 120)},
}


def smoke(folder: Path) -> Preset:
    """Everything, in minutes, on images that are made here and with a network of some thousand weights."""
    data = {name: str(_coloured(folder / "data" / name, name)) for name in SMOKE_COLOURS}
    vfm = folder / "runs" / "vfm"
    task = Task(data=data["related"], budgets=_shots(2, 6), labelled=data["generic"],
                transfers={"related": f"{data['related']}/train"}, student=("--image-size", "32"))  # fmt: skip
    batch = ("--batch-size", "12", "--precision", "fp32", "--workers", "0")
    short = ("--steps", "4", "--lr", "1e-3", "--ema", "0.9", *batch)
    recipe = Recipe(
        adapt=("--val-limit", "6", "--probe-views", "1", *batch),
        modes={"linear-probe": ("--steps", "20", "--lr", "3e-3"), "full": ("--steps", "4", "--lr", "1e-3")},
        build=("--workers", "0", "--dtype", "float32", *CROPS),
        distill=short,
        features=short,
        pretrain={"supervised": (*short, "--val-limit", "6", *CROPS), "dino": (*short, *_DINO_SMOKE)},
        finetune=("--steps", "6", "--lr", "1e-3", "--val-limit", "6", "--probe-views", "1", *batch, *CROPS),
        scratch=("--steps", "10", "--lr", "1e-3", "--val-limit", "6", *batch, *CROPS),
    )
    make_vfm = ("train", "pretrain", "--method", "supervised", "--model", "test_vit", "--data", data["generic"],
                "--image-size", "32", *short, *CROPS, "--resume", "--out", str(vfm))  # fmt: skip
    prelude = (Stage("vfm", make_vfm, (), (data["generic"],), vfm),)
    return Preset(tasks={"colours": task}, vfms={str(vfm): ("--image-size", "32")}, student="test_efficientnet",
                  recipe=recipe, prelude=prelude, seeds=(0, 1), views=2, view_counts=(1, 2),
                  kept_steps=(2,))  # fmt: skip


_DINO_SMOKE = ("--prototypes", "32", "--local-size", "16", "--num-local", "2")


def small(folder: Path) -> Preset:
    """About an hour a seed and task on 2 cores: one VFM, transfer sets of the task."""
    return _real(limit=3000, steps=600, budgets=(5, 10), vfms=("dinov2-vits14",), transfers=("related",), seeds=(0,),
                 test_limit=4000, view_counts=(1, 2, 4, 8, 16))  # fmt: skip


def factors(folder: Path) -> Preset:
    """The recipes of small with every VFM, transfer set and label budget, to change one of them at a time."""
    return _real(limit=3000, steps=600, budgets=(5, 10), vfms=("dinov2-vits14", "efficientnet-lite0"),
                 transfers=("related", "generic"), seeds=(0, 1, 2), test_limit=4000)  # fmt: skip


def results(folder: Path) -> Preset:
    """What docs/results.md reports: hours a seed and task."""
    return _real(limit=8000, steps=2000, budgets=(5, 10), vfms=("dinov2-vits14", "efficientnet-lite0"),
                 transfers=("related", "generic"), seeds=(0, 1, 2), test_limit=10000, view_counts=(1, 2, 4, 8, 16),
                 kept_steps=(500, 1000))  # fmt: skip


def paper(folder: Path) -> Preset:
    """The paper's own scale, by the presets of its recipes: to be looked at with --dry-run, and run on GPUs."""
    return Preset(
        tasks={
            "eurosat": _paper_task("eurosat", (5, 10, 25)),
            "ham10k": _paper_task("ham10k", (100, 250, 500, 1000)),
            "places365": _paper_task("places365", (50, 250, 1000)),
            "imagenet": _paper_task(
                "imagenet", ("1pct", "10pct", "25pct", "50pct"), labelled=None, head_alone=("1pct",)
            ),
        },
        vfms=dict.fromkeys(
            ("dinov2-vitl14", "open_clip:ViT-L-14/datacomp_xl_s13b_b90k"), ("--image-size", str(VFM_CLASSIFICATION_PX))
        ),
        student="fastvit_s12",
        views=10,
        recipe=Recipe(
            adapt=("--preset", "{task}-{budget}"),
            modes={"linear-probe": (), "full": ()},
            build=(),
            logits=("--image-size", str(CLASSIFICATION_PX)),
            distill=("--preset", "{task}-{transfer}"),
            features=("--preset", "features-{set}"),
            pretrain={"supervised": ("--preset", "supervised-imagenet"), "dino": ("--preset", "dino-{set}")},
            finetune=("--preset", "{task}-{budget}"),
            scratch=("--preset", "{task}-{budget}"),
        ),
    )


PRESETS: dict[str, Callable[[Path], Preset]] = {
    preset.__name__: preset for preset in (smoke, small, factors, results, paper)
}


def _real(*, limit: int, steps: int, budgets: tuple[int, ...], vfms: tuple[str, ...], transfers: tuple[str, ...],
          seeds: tuple[int, ...], test_limit: int, view_counts: tuple[int, ...] = (),
          kept_steps: tuple[int, ...] = ()) -> Preset:  # fmt: skip
    """Fashion-MNIST and classes of Open Clip Art at 32 px, and all of Open Clip Art's folders at 64 px."""
    sets = {"fashion-mnist": {"related": "fashion-mnist-train", "generic": "openclipart"},
            "clipart-classes": {"related": "clipart-gallery", "generic": "photographs"},
            "openclipart": {"related": "openclipart@train", "generic": "photographs"}}  # fmt: skip
    others = {"fashion-mnist": "openclipart", "clipart-classes": "fashion-mnist", "openclipart": "fashion-mnist"}
    px = {"fashion-mnist": "32", "clipart-classes": "32", "openclipart": "64"}
    tasks = {data: Task(data=data, budgets=_shots(*budgets), labelled=others[data],
                        student=("--image-size", px[data]), limits={"fashion-mnist-train": limit},
                        transfers={name: found for name, found in sets[data].items() if name in transfers})
             for data in sets}  # fmt: skip
    sizes: dict[str, Words] = {"dinov2-vits14": ("--image-size", "84"), "efficientnet-lite0": ("--image-size", "96")}
    training = ("--steps", str(steps), "--batch-size", "64")
    labelled = ("--batch-size", "20", "--val-limit", "300", *CROPS)
    recipe = Recipe(
        adapt=labelled,
        modes={"linear-probe": (), "full": ("--lr", "1e-5,3e-5", "--epochs", "24")},
        build=CROPS,
        distill=(*training, "--lr", "1e-3"),
        features=(*training, "--lr", "1e-3"),
        pretrain={"supervised": (*training, "--lr", "2e-3", "--val-limit", "300", *CROPS),
                  "dino": (*training, "--lr", "1e-3")},
        finetune=("--epochs", "30", "--lr", "1e-4,5e-4", *labelled),
        scratch=("--epochs", "80", "--lr", "1e-3,3e-3", *labelled),
        evaluate=("--limit", str(test_limit)),
    )  # fmt: skip
    return Preset(tasks=tasks, vfms={vfm: sizes[vfm] for vfm in vfms}, student="fastvit_t8", recipe=recipe, seeds=seeds,
                  view_counts=view_counts, kept_steps=kept_steps)  # fmt: skip


def _shots(*counts: int) -> dict[str, Words]:
    return {str(count): ("--shots", str(count)) for count in counts}


def _paper_task(name: str, budgets: tuple[object, ...], labelled: str | None = "imagenet",
                head_alone: tuple[str, ...] = ()) -> Task:  # fmt: skip
    return Task(data=name, budgets={str(budget): () for budget in budgets}, labelled=labelled, head_alone=head_alone,
                transfers={"related": f"{name}@train", "cc3m": "cc3m"})  # fmt: skip


def _coloured(folder: Path, name: str) -> Path:
    """An ImageFolder of noisy squares, 36 px; the same bytes every time."""
    rng = np.random.default_rng(len(name))
    for split, count in {"train": 16, "val": 4, "test": 10}.items():
        for colour, rgb in SMOKE_COLOURS[name].items():
            for index in range(count):
                path = folder / split / colour / f"{split}-{colour}-{index}.png"
                pixels = np.clip(np.array(rgb) + rng.normal(0, 40, (36, 36, 3)), 0, 255).astype(np.uint8)
                if not path.exists():
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).save(path)
    return folder
