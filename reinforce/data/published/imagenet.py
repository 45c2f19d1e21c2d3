"""ImageNet-1k, ILSVRC 2012: 1.28M training and 50K validation images of 1000 classes (Deng et al. 2009).

    train/n01440764/n01440764_10026.JPEG
    val/n01440764/ILSVRC2012_val_00000293.JPEG      or flat, val/ILSVRC2012_val_00000293.JPEG, with one of
        LOC_val_solution.csv                        ImageId,PredictionString (Kaggle)
        ILSVRC2012_devkit_t12/data/ or data/        ILSVRC2012_validation_ground_truth.txt and meta.mat

The folder itself, or Kaggle's ILSVRC/Data/CLS-LOC/ below it, with the CSV beside ILSVRC/. Archives may lie there too.
Class ids are the ranks of the WordNet ids, as in every pretrained head.

Splits: the paper reports on the published validation images (A.1), which are the test split here. It does not say what
it chooses learning rates on; here 10 training images a class are val (10,000 in all; 10 % of a small class), by the
ranks of the hashes of file names, so that nothing is chosen on what is reported.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from pathlib import Path

from reinforce.counting import counted
from reinforce.data.folder import FolderSource, folder_source, scan_folder
from reinforce.data.published.layout import Published, first_file, listed_samples, need, read_lines, read_table
from reinforce.data.splits import TEST, TRAIN, VAL, LabelledSample, Samples, base_name, carve, tenth
from reinforce.errors import DataError, MissingDataError

KAGGLE = "ILSVRC/Data/CLS-LOC"
SOLUTION = "LOC_val_solution.csv"
TRUTH = "ILSVRC2012_validation_ground_truth.txt"
DEVKITS = ("", "data/", "ILSVRC2012_devkit_t12/data/", "devkit/data/")
VAL_PER_CLASS = 10
NUM_CLASSES = 1000
_WNID = re.compile(r"n\d{8}")
_FLAT = re.compile(r"ILSVRC2012_val_\d{8}\.JPEG")


def read(root: Path) -> Published | None:
    """See `open_published`."""
    prefix = KAGGLE + "/" if (root / KAGGLE).is_dir() else ""
    images = root / prefix
    train, val = _class_folders(images / TRAIN), _class_folders(images / VAL)
    is_flat = not val and _has_flat_images(images / VAL)
    if not (val or is_flat):
        if not prefix and len(train) < NUM_CLASSES:
            return None
        raise MissingDataError(f"{images / VAL} holds no images: unpack ILSVRC2012_img_val.tar there")
    if _class_folders(images / TEST):
        return None
    source = folder_source(root, scan_folder(root, [f"{prefix}{TRAIN}/{name}" for name in train] + [prefix + VAL]))
    if is_flat:
        path, wnid_of = _flat_classes(root, images)
        names = train or sorted(set(wnid_of.values()))
        label_of = {name: label for label, name in enumerate(names)}
        keys = {f"{prefix}{VAL}/{image}.JPEG": label_of.get(wnid, -1) for image, wnid in wnid_of.items()}
        test = listed_samples(source, keys, path)
    else:
        names = train or val
        test = _in_folders(source, f"{prefix}{VAL}/", names)
    splits = carve(_in_folders(source, f"{prefix}{TRAIN}/", names), {VAL: _val_share}, group=base_name) if train else {}
    return Published(source, tuple(names), {**splits, TEST: _known(test, images)}, f"{prefix}{TRAIN}/n01440764")


def _val_share(count: int) -> int:
    return min(VAL_PER_CLASS, tenth(count))


def _class_folders(folder: Path) -> list[str]:
    """WordNet ids of the folders below, sorted; [] where another folder or nothing is there."""
    if not folder.is_dir():
        return []
    names = sorted(entry.name for entry in folder.iterdir() if "." not in entry.name and entry.is_dir())
    return names if all(_WNID.fullmatch(name) for name in names) else []


def _has_flat_images(folder: Path) -> bool:
    return folder.is_dir() and any(_FLAT.fullmatch(entry.name) for entry in folder.iterdir())


def _in_folders(source: FolderSource, prefix: str, names: Iterable[str]) -> Samples:
    label_of = {name: label for label, name in enumerate(names)}
    return tuple(
        LabelledSample(number, row, key, label_of.get(key[len(prefix) :].partition("/")[0], -1))
        for number, shard in enumerate(source.shards)
        for row, key in enumerate(shard.keys)
        if key.startswith(prefix)
    )


def _known(test: Samples, images: Path) -> Samples:
    if strange := [sample.key for sample in test if sample.label < 0]:
        raise DataError(f"{images / TRAIN} has no folder of the class of {strange[0]} ({len(strange)} such): "
                        "unpack ILSVRC2012_img_train.tar again")  # fmt: skip
    return test


def _flat_classes(root: Path, images: Path) -> tuple[Path, dict[str, str]]:
    """The list, and the WordNet id of each image's name without suffix."""
    folders = (images, *images.parents[:3]) if images == root else (root, images)
    solution = next((folder / SOLUTION for folder in folders if (folder / SOLUTION).is_file()), None)
    if solution is not None:
        rows = read_table(solution, ("ImageId", "PredictionString"))
        return solution, {row["ImageId"]: row["PredictionString"].split(" ")[0] for row in rows}
    truth = need(first_file(root, (devkit + TRUTH for devkit in DEVKITS)), root / SOLUTION,
                 f"val/ is flat, so that file of Kaggle's or {DEVKITS[2]}{TRUTH} has to say its classes")  # fmt: skip
    meta = need(first_file(truth.parent, ("meta.mat",)), truth.parent / "meta.mat", "unpack it beside the ground truth")
    wnids = _devkit_classes(meta)
    numbers = [line.strip() for line in read_lines(truth)]
    if wrong := [number for number in numbers if not number.isdigit() or not 1 <= int(number) <= NUM_CLASSES]:
        raise DataError(f"{truth} has the line '{wrong[0][:40]}': expected class ids from 1 to {NUM_CLASSES}")
    return truth, {f"ILSVRC2012_val_{i:08d}": wnids[int(number) - 1] for i, number in enumerate(numbers, 1)}


def _devkit_classes(path: Path) -> list[str]:
    """WordNet ids by ILSVRC2012_ID, from 1: the order in which meta.mat (MATLAB 5, compressed elements) lists them.

    The 1000 classes come before the synsets above them, so the first 1000 ids in the file are they; characters have one
    or two bytes.
    """
    try:
        elements = _inflated(path.read_bytes()[128:])
    except (OSError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    found = [match.replace(b"\0", b"").decode() for match in re.findall(rb"n\0?(?:\d\0?){8}", elements)]
    wnids = list(dict.fromkeys(found))[:NUM_CLASSES]
    if len(wnids) < NUM_CLASSES:
        named = counted(len(wnids), "class", "classes")
        raise DataError(f"{path} names {named}, expected {NUM_CLASSES}: unpack the devkit again")
    return wnids


def _inflated(data: bytes) -> bytes:
    """The elements of a MATLAB 5 file behind its header: type and size, 4 bytes each; type 15 is zlib."""
    joined, start = b"", 0
    while start + 8 <= len(data):
        kind, size = (int.from_bytes(data[start + i : start + i + 4], "little") for i in (0, 4))
        body = data[start + 8 : start + 8 + size]
        joined += zlib.decompress(body) if kind == 15 else body
        start += 8 + size
    return joined
