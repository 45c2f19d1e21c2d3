"""Places365-Standard: 1.8M training and 36.5K validation images of 365 scenes (Zhou et al. 2014).

    data_256/a/airfield/00000001.jpg         or data_large/; with torchvision data_256_standard/, data_large_standard/
    val_256/Places365_val_00000001.jpg       or val_large/
    categories_places365.txt                 "/a/airfield 0"; these three also inside of filelist_places365-standard/
    places365_train_standard.txt             "/a/airfield/00000001.jpg 0"
    places365_val.txt                        "Places365_val_00000001.jpg 165"

Of two sizes the small one is read: the paper's input has 256 px. Splits (A.1): 10 of a class's 100 validation images
are val (3.65K), the others test (32.85K), by the ranks of the hashes of file names: the same in every layout and size.
"""

from __future__ import annotations

from pathlib import Path

from reinforce.data.folder import folder_source, scan_folder
from reinforce.data.published.layout import Published, first_file, first_folder, listed_samples, need, read_lines
from reinforce.data.splits import TEST, TRAIN, VAL, base_name, carve, tenth
from reinforce.errors import DataError

TRAIN_FOLDERS = ("data_256", "data_256_standard", "data_large", "data_large_standard")
VAL_FOLDERS = ("val_256", "val_large")
LIST_FOLDERS = ("", "filelist_places365-standard/")
CATEGORIES, TRAIN_LIST, VAL_LIST = "categories_places365.txt", "places365_train_standard.txt", "places365_val.txt"
_UNPACK_LISTS = "unpack filelist_places365-standard.tar there"


def read(root: Path) -> Published | None:
    """See `open_published`."""
    train = first_folder(root, TRAIN_FOLDERS)
    if train is None and first_folder(root, VAL_FOLDERS) is None:
        return None
    if train is None and first_file(root, [folder + VAL_LIST for folder in LIST_FOLDERS]) is None:
        return None
    if train is not None and not (root / train / "a" / "airfield").is_dir():
        return None
    val = _val_folder(root, train)
    source = folder_source(root, scan_folder(root, [folder for folder in (train, val) if folder is not None]))
    names = _class_names(_list(root, CATEGORIES))
    splits = {}
    if train is not None:
        path = _list(root, TRAIN_LIST)
        splits[TRAIN] = listed_samples(source, _labels(path, train, len(names)), path)
    path = _list(root, VAL_LIST)
    published_val = listed_samples(source, _labels(path, val, len(names)), path)
    splits |= carve(published_val, {VAL: tenth}, group=base_name, rest=TEST)
    return Published(source, names, {name: splits[name] for name in (TRAIN, VAL, TEST) if name in splits}, "data_256")


def _val_folder(root: Path, train: str | None) -> str:
    """The one of the training images' size where there is one."""
    wanted = "val_large" if train is not None and "large" in train else "val_256"
    found = first_folder(root, (wanted, *VAL_FOLDERS))
    return need(root / found if found else None, root / wanted, f"unpack {wanted}.tar beside {train}/").name


def _list(root: Path, name: str) -> Path:
    return need(first_file(root, [folder + name for folder in LIST_FOLDERS]), root / name, _UNPACK_LISTS)


def _class_names(path: Path) -> tuple[str, ...]:
    """ "/a/apartment_building/outdoor 8" -> class 8 is called apartment_building/outdoor."""
    labels = _labels(path, "", None)
    names = {label: name.removeprefix("/").partition("/")[2] for name, label in labels.items()}
    if sorted(names) != list(range(len(labels))):
        raise DataError(f"{path} does not number its {len(labels)} classes from 0: {_UNPACK_LISTS}")
    return tuple(names[label] for label in range(len(names)))


def _labels(path: Path, folder: str, num_classes: int | None) -> dict[str, int]:
    """Lines of a path and a class id -> key below `folder`, class id."""
    prefix = folder and folder + "/"
    labels: dict[str, int] = {}
    for line in read_lines(path):
        name, _, label = line.rstrip().rpartition(" ")
        if not name or not label.isascii() or not label.isdigit():
            raise DataError(f"{path} has the line '{line[:60]}': expected a path and a class id such as 7")
        labels[prefix + name.lstrip("/") if folder else name] = int(label)
    if num_classes is not None and labels and max(labels.values()) >= num_classes:
        raise DataError(
            f"{path} holds class {max(labels.values())}, but {CATEGORIES} names {num_classes}: {_UNPACK_LISTS}"
        )
    return labels
