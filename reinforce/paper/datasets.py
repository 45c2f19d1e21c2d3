"""The paper's target tasks (A.1), transfer sets (A.2) and galleries (B.1, B.2), under the names of its presets."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Dataset:
    name: str
    """What the presets expect it to be called in a catalog."""
    role: Literal["task", "transfer", "gallery"]
    """Target task (its training images are a transfer set, too), generic transfer set, or gallery to curate from."""
    what: str
    layout: str
    """What lies in the folder that the name stands for."""


DATASETS = (
    Dataset("places365", "task", "1.8M images, 365 scenes", "data_256/, val_256/, places365_val.txt"),
    Dataset("ham10k", "task", "10K images, 7 diseases", "ISIC2018_Task3_* or HAM10000_metadata"),
    Dataset("eurosat", "task", "27K images, 10 land covers", "2750/ or EuroSAT_RGB/ of class folders"),
    Dataset("imagenet", "task", "1.28M images, 1000 objects", "train/ and val/, or Kaggle's ILSVRC/"),
    Dataset("ade20k", "task", "22K images, 150-class masks", "images/training/, annotations/training/"),
    Dataset("cc3m", "transfer", "2.87M images, captions", "img2dataset's {00000..00331}.tar"),
    Dataset("yfcc15m", "gallery", "15M images, captions", "img2dataset's tars"),
    Dataset("datacomp", "gallery", "1.28B images, captions", "img2dataset's tars"),
)
