"""Datasets of images with masks: a source of images, class names, splits, and the class id of every pixel.

The layouts are those of `mask_layouts`, the lists of classes those of `mask_classes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reinforce.counting import counted
from reinforce.data.class_names import check_names, numbered_names
from reinforce.data.folder import FolderSource, folder_source, scan_folder
from reinforce.data.mask_classes import (
    IGNORE,
    MAX_CLASSES,
    MaskClasses,
    listed_classes,
)
from reinforce.data.mask_files import mask_values, oriented_size
from reinforce.data.mask_layouts import ACCEPTED, Layout, Pair, find_pairs, without_masks
from reinforce.data.sources import read_image_file
from reinforce.data.splits import TRAIN, LabelledSample, find_split, group_splits, make_splits, take, tenth
from reinforce.errors import DataError, MissingDataError
from reinforce.licences import UNKNOWN

ADE_NAMES_FILE, ADE_CLASSES = "objectInfo150.txt", 150
ADE_VAL_IMAGES = 1000
"""Of 20,210 training images the paper keeps 19.2K (A.1)."""
VOC_NAMES = ("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
             "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
             "tvmonitor")  # fmt: skip


@dataclass(frozen=True, slots=True)
class MaskedSample:
    """One image of a source that has a mask."""

    shard: int
    row: int
    key: str


MaskedSamples = tuple[MaskedSample, ...]


@dataclass(frozen=True)
class MaskedDataset:
    """Images with masks, in named splits ("train", "val", "test"; not every dataset has all three)."""

    name: str
    source: FolderSource
    """What `open_source` gives for the folder: all its images, without the masks."""
    classes: MaskClasses
    splits: Mapping[str, MaskedSamples]
    """Each in listing order; no key is in two of them."""
    mask_of: Mapping[str, str]
    """Key -> path of the mask, relative to the source's folder."""
    license: str = UNKNOWN
    """Of the images."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class id -> name."""
        return self.classes.names

    def split(self, name: str) -> MaskedSamples:
        """The samples of one split. Raises UnknownNameError."""
        return find_split(self.splits, name, self.name)

    def mask_path(self, sample: MaskedSample) -> Path:
        return Path(self.source.root, self.mask_of[sample.key])

    def read_mask(self, sample: MaskedSample) -> NDArray[np.uint8]:
        """Class ids, uint8 (H, W), IGNORE = 255, of the size of the image after its EXIF orientation.

        Raises DataError naming the file for a mask of another size or mode, a value that is no class, or a file that
        cannot be read.
        """
        return self.read_pair(sample)[1]

    def read_pair(self, sample: MaskedSample) -> tuple[bytes, NDArray[np.uint8]]:
        """The image's encoded bytes and its mask, see `read_mask`."""
        data = self.source.read(sample.shard, sample.row)
        size = oriented_size(data)
        if size == (0, 0):
            raise DataError(f"{Path(self.source.root, sample.key)} cannot be read as an image: write it again")
        path = self.mask_path(sample)
        return data, self.classes.to_ids(mask_values(read_image_file(path), path, size), path)


def open_masked(location: str, *, needs_train: bool = True) -> MaskedDataset:
    """Open a folder of images and masks, by a path as `catalog.resolve_data` gives it.

    Splits are those of the folders or lists; what is missing is cut from train by the keys' hashes, see `make_splits`.
    Of ADE20K the validation images are the test split, and 1,000 of the training images are val (paper A.1).
    `needs_train=False` also takes data to evaluate on that have a test or val split alone. Without a list of classes
    the masks of train are read once, for their highest value. Raises MissingDataError where a file of a pair is not
    there and DataError for what is no such folder; values and sizes are checked when a mask is read.
    """
    root = Path(location).expanduser()
    if not root.exists():
        raise MissingDataError(f"{location} is not there: expected a folder of {ACCEPTED}")
    if not root.is_dir():
        raise DataError(f"{location} has no masks: expected a folder of {ACCEPTED}")
    contents = scan_folder(root)
    layout, pairs = find_pairs(root, contents.images)
    if not pairs:
        raise DataError(f"{root} has no images: expected {ACCEPTED}")
    source = folder_source(root, without_masks(contents))
    splits = _split(source, pairs, str(root), needs_train, layout)
    mask_of = {pair.image: pair.mask for pair in pairs}
    return MaskedDataset(source.name, source, _classes(root, layout, splits, mask_of), splits, mask_of)


def take_masked(samples: Iterable[MaskedSample], *, num_labelled: int | None = None, limit: int | None = None,
                seed: int = 0) -> MaskedSamples:  # fmt: skip
    """A subset by seed, in the order of `samples`: N by the rank of `take`, so that a smaller one lies inside a larger
    one; then the first `limit`. Raises UsageError for numbers below 1.
    """
    ranked = [LabelledSample(sample.shard, sample.row, sample.key, 0) for sample in samples]
    return tuple(map(_masked, take(ranked, num_labelled=num_labelled, limit=limit, seed=seed)))


def _split(source: FolderSource, pairs: Iterable[Pair], where: str, needs_train: bool,
           layout: Layout) -> dict[str, MaskedSamples]:  # fmt: skip
    split_of = {pair.image: pair.split for pair in pairs}
    samples = [LabelledSample(number, row, key, 0)
               for number, shard in enumerate(source.shards)
               for row, key in enumerate(shard.keys) if key in split_of]  # fmt: skip
    declared = [split_of[sample.key] for sample in samples]
    if not needs_train and all(declared) and TRAIN not in declared:
        groups = group_splits(samples, declared)
    else:
        share = _ade_val if layout is Layout.ADE20K else tenth
        groups = make_splits(samples, declared, where, share=share)
    return {name: tuple(map(_masked, group)) for name, group in groups.items()}


def _ade_val(count: int) -> int:
    return min(ADE_VAL_IMAGES, tenth(count))


def _masked(sample: LabelledSample) -> MaskedSample:
    return MaskedSample(sample.shard, sample.row, sample.key)


def _classes(
    root: Path, layout: Layout, splits: Mapping[str, MaskedSamples], mask_of: Mapping[str, str]
) -> MaskClasses:
    first_value = 1 if layout is Layout.ADE20K else 0
    if (listed := listed_classes(root, first_value)) is not None:
        return listed
    if layout is Layout.ADE20K:
        return MaskClasses.of_names(_ade_names(root / ADE_NAMES_FILE), first_value)
    read = splits.get(TRAIN) or [sample for samples in splits.values() for sample in samples]
    count = _highest_value(root / mask_of[sample.key] for sample in read) + 1
    is_voc = layout is Layout.VOC and count == len(VOC_NAMES)
    return MaskClasses.of_names(VOC_NAMES if is_voc else numbered_names(count))


def _highest_value(masks: Iterable[Path]) -> int:
    highest = 0
    for path in masks:
        values_HW = mask_values(read_image_file(path), path)
        highest = max(highest, int(values_HW.max(where=values_HW != IGNORE, initial=0)))
        if highest >= MAX_CLASSES:
            raise DataError(f"{path} holds the value {highest}: list the values and their classes in "
                            f"{path.parent.parent / 'classes.csv'}")  # fmt: skip
    return highest


def _ade_names(path: Path) -> tuple[str, ...]:
    """The last column of objectInfo150.txt, whose first line names the columns; c0, c1, ... without the file."""
    if not path.exists():
        return numbered_names(ADE_CLASSES)
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8: {error}") from error
    names = tuple(line.split("\t")[-1].strip() for line in lines[1:])
    if len(names) != ADE_CLASSES or not all(names):
        named = counted(len(names), "class", "classes")
        raise DataError(f"{path} names {named}, expected {ADE_CLASSES} after a line of columns")
    return check_names(names, path)
