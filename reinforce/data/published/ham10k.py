"""HAM10000: 10,015 dermatoscopic images of 7 skin diseases (Tschandl 2018), from either of two publishers.

As of task 3 of ISIC 2018, whose splits are the paper's (A.1: 10K train, 193 val, 1.5K test):

    ISIC2018_Task3_Training_Input/ISIC_0024306.jpg
    ISIC2018_Task3_Training_GroundTruth/ISIC2018_Task3_Training_GroundTruth.csv    image,MEL,NV,BCC,... of 1.0 and 0.0
    likewise Validation and Test; a missing one is cut from train, by lesion:
    ISIC2018_Task3_Training_LesionGroupings.csv                                    image,lesion_id,...

As of the Harvard Dataverse or Kaggle; with ISIC2018_Task3_Test_Images/ beside it that is the test split:

    HAM10000_metadata or HAM10000_metadata.csv                                     lesion_id,image_id,dx,...
    HAM10000_images_part_1/ISIC_0024306.jpg and HAM10000_images_part_2/

Many lesions were photographed more than once, so a split that is missing takes whole lesions: 10 % of each class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from reinforce.data.folder import FolderSource, folder_source, scan_folder
from reinforce.data.published.layout import Published, first_file, first_folder, listed_samples, need, read_table
from reinforce.data.splits import TEST, TRAIN, VAL, Samples, base_name, carve, tenth
from reinforce.errors import DataError, MissingDataError

CLASSES = ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
ISIC = "ISIC2018_Task3"
ISIC_SPLITS = {TRAIN: "Training", VAL: "Validation", TEST: "Test"}
LESIONS = f"{ISIC}_Training_LesionGroupings.csv"
METADATA = ("HAM10000_metadata.csv", "HAM10000_metadata", "HAM10000_metadata.tab")
PARTS = ("HAM10000_images_part_1", "HAM10000_images_part_2")
TEST_FOLDERS = (f"{ISIC}_Test_Images", f"{ISIC}_Test_Input")


class _Part(NamedTuple):
    """Folders of images and the file that says their classes."""

    folders: tuple[str, ...]
    truth: Path


def read(root: Path) -> Published | None:
    """See `open_published`."""
    if first_folder(root, (f"{ISIC}_{word}_Input" for word in ISIC_SPLITS.values())) is not None:
        lesions = first_file(root, (LESIONS, f"{ISIC}_Training_GroundTruth/{LESIONS}"))
        return _joined(root, _isic_parts(root), lesions, f"{ISIC}_Training_Input", "image")
    metadata = first_file(root, METADATA)
    if metadata is None and first_folder(root, PARTS) is None:
        return None
    metadata = need(metadata, root / METADATA[0], "download it beside the folders of images")
    return _joined(root, _harvard_parts(root, metadata), metadata, PARTS[0], "image_id")


def _isic_parts(root: Path) -> dict[str, _Part]:
    parts = {}
    for split, word in ISIC_SPLITS.items():
        folder, table = f"{ISIC}_{word}_Input", f"{ISIC}_{word}_GroundTruth"
        if (root / folder).is_dir():
            truth = first_file(root, (f"{table}/{table}.csv", f"{table}.csv"))
            parts[split] = _Part((folder,), need(truth, root / table / f"{table}.csv", f"unpack {table}.zip there"))
    return parts


def _harvard_parts(root: Path, metadata: Path) -> dict[str, _Part]:
    """Kaggle has each folder a second time in lower case, which is not read."""
    for name in PARTS:
        need(root / name if (root / name).is_dir() else None, root / name, f"unpack {name}.zip there")
    parts = {TRAIN: _Part(PARTS, metadata)}
    truth, folder = first_file(root, _test_tables()), first_folder(root, TEST_FOLDERS)
    return parts | ({TEST: _Part((folder,), truth)} if truth is not None and folder is not None else {})


def _test_tables() -> Iterable[str]:
    table = f"{ISIC}_Test_GroundTruth"
    return (f"{table}.csv", f"{table}/{table}.csv", f"{table}.tab")


def _joined(root: Path, parts: Mapping[str, _Part], lesions: Path | None, train_folder: str,
            image_column: str) -> Published:  # fmt: skip
    source = folder_source(root, scan_folder(root, [folder for part in parts.values() for folder in part.folders]))
    splits = {name: listed_samples(source, _labels(source, part), part.truth) for name, part in parts.items()}
    missing = [name for name in (VAL, TEST) if name not in splits]
    if TRAIN in splits and missing:
        path = need(lesions, root / LESIONS,
                    f"without {ISIC}_{ISIC_SPLITS[missing[0]]}_Input/ the split is cut from train by it")  # fmt: skip
        lesion_of = {row[image_column]: row["lesion_id"] for row in read_table(path, (image_column, "lesion_id"))}
        splits |= _carved(splits[TRAIN], missing, lesion_of, path)
    return Published(source, CLASSES, {name: splits[name] for name in ISIC_SPLITS if name in splits}, train_folder)


def _labels(source: FolderSource, part: _Part) -> dict[str, int]:
    """Key -> class id. An image that is listed and not there is given the first folder."""
    folder_of = {base_name(key).rpartition(".")[0]: key for shard in source.shards for key in shard.keys
                 if key.rpartition("/")[0] in part.folders}  # fmt: skip
    return {
        folder_of.get(image, f"{part.folders[0]}/{image}.jpg"): CLASSES.index(name)
        for image, name in _diagnoses(part.truth)
    }


def _diagnoses(path: Path) -> Iterable[tuple[str, str]]:
    """(image, class name) of a table with a column dx, or with a column of 1.0 and 0.0 for each class."""
    columns = [name.upper() for name in CLASSES]
    for row in read_table(path, ("image_id", "dx"), ("image", *columns)):
        if "dx" in row:
            image, names = row["image_id"], [name for name in CLASSES if name == row["dx"]]
        else:
            image, names = row["image"], [name.lower() for name in columns if row[name] in ("1", "1.0")]
        if len(names) != 1:
            raise DataError(f"{path}: '{image}' has {len(names)} of the classes {', '.join(CLASSES)}: expected one")
        yield image, names[0]


def _carved(train: Samples, missing: Iterable[str], lesion_of: Mapping[str, str], path: Path) -> dict[str, Samples]:
    images = [base_name(sample.key).rpartition(".")[0] for sample in train]
    if absent := [image for image in images if image not in lesion_of]:
        raise MissingDataError(f"{path} does not list '{absent[0]}': download it again")
    group_of = {sample.key: lesion_of[image] for sample, image in zip(train, images, strict=True)}
    label_of: dict[str, int] = {}
    for sample in train:
        if label_of.setdefault(group_of[sample.key], sample.label) != sample.label:
            raise DataError(f"{path}: lesion '{group_of[sample.key]}' has images of two classes: download it again")
    return carve(train, dict.fromkeys(missing, tenth), group=group_of.__getitem__)
