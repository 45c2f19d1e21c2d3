"""Where images and their masks lie in a folder, from the names of its files alone.

    folders   [train|val|test/]images/NAME.jpg and [train|val|test/]masks/NAME.png; also images/train/ and masks/train/
    ADE20K    images/training/NAME.jpg and annotations/training/NAME.png; likewise validation,
              which is the test split here
    VOC       JPEGImages/NAME.jpg and SegmentationClass/NAME.png for the names in ImageSets/Segmentation/train.txt ...

NAME is the path below the folder, without suffix.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from reinforce.data.folder import FolderContents
from reinforce.data.splits import SPLIT_WORDS, check_no_split_twice
from reinforce.errors import DataError, MissingDataError

IMAGES = "images"
MASK_FOLDERS: Mapping[str, str] = {
    "masks": IMAGES,
    "annotations": IMAGES,
    "SegmentationClass": "JPEGImages",
    "SegmentationObject": "JPEGImages",
}
"""A folder of masks -> the folder of images beside it."""
IMAGE_FOLDERS = frozenset(MASK_FOLDERS.values())

ADE_SPLITS: Mapping[str, str] = {"training": "train", "validation": "test"}
"""The paper tests on the published validation images and cuts its own from the training images (A.1)."""
VOC_LISTS = "ImageSets/Segmentation"
ACCEPTED = "[train|val|test/]images/ and masks/ with files of the same names, or the layout of ADE20K or Pascal VOC"


class Layout(Enum):
    FOLDERS = "folders"
    ADE20K = "ADE20K"
    VOC = "Pascal VOC"


@dataclass(frozen=True, slots=True)
class Pair:
    """Paths relative to the folder, with "/"."""

    image: str
    mask: str
    split: str | None


def without_masks(contents: FolderContents) -> FolderContents:
    """Move each PNG below a folder of masks that has an image of its name in the folder beside it out of `images`."""
    if not any(f"{folder}/" in path for path in contents.images for folder in MASK_FOLDERS):
        return contents
    names = {_stem(path) for path in contents.images}
    masks = {path for path in contents.images if any(name in names for name in _image_names(path))}
    images = tuple(path for path in contents.images if path not in masks)
    return replace(contents, images=images, masks=tuple(path for path in contents.images if path in masks))


def find_pairs(root: Path, paths: Sequence[str]) -> tuple[Layout, list[Pair]]:
    """The layout of the images and masks at `paths` below `root`, and all pairs by the image's path.

    Reads nothing but the lists of VOC. Raises DataError where there are no masks, MissingDataError naming the first
    image without a mask or mask without an image.
    """
    top = {path.partition("/")[0] for path in paths}
    if {"JPEGImages", "SegmentationClass"} <= top:
        return Layout.VOC, list(_voc_pairs(root, paths))
    if any(path.startswith(tuple(f"annotations/{word}/" for word in ADE_SPLITS)) for path in paths):
        folders = [(f"{IMAGES}/{word}/", f"annotations/{word}/", split) for word, split in ADE_SPLITS.items()]
        return Layout.ADE20K, list(_match_all(root, paths, folders))
    if words := sorted({path.split("/")[0] for path in paths if _is_in_split(path)}):
        check_no_split_twice(words, str(root))
        folders = [(f"{word}/{IMAGES}/", f"{word}/masks/", SPLIT_WORDS[word]) for word in words]
        return Layout.FOLDERS, list(_match_all(root, paths, folders))
    if "masks" not in top:
        raise DataError(f"{root} has no masks: expected {ACCEPTED}")
    return Layout.FOLDERS, _with_inner_splits(root, list(_match(root, paths, f"{IMAGES}/", "masks/", None)))


def _is_in_split(path: str) -> bool:
    parts = path.split("/")
    return len(parts) > 2 and parts[0] in SPLIT_WORDS and parts[1] in (IMAGES, "masks")


def _match_all(root: Path, paths: Sequence[str], folders: Iterable[tuple[str, str, str]]) -> Iterator[Pair]:
    for images, masks, split in folders:
        yield from _match(root, paths, images, masks, split)


def _match(root: Path, paths: Iterable[str], images: str, masks: str, split: str | None) -> Iterator[Pair]:
    """Pairs of all files below two folders."""
    image_of, mask_of = _by_name(root, paths, images), _by_name(root, paths, masks)
    for name, image in image_of.items():
        if name not in mask_of:
            raise MissingDataError(f"{root / image} has no mask: expected {root / masks / name}.png")
        yield Pair(image, _checked_png(root, mask_of[name]), split)
    if alone := [mask for name, mask in mask_of.items() if name not in image_of]:
        raise MissingDataError(f"{root / alone[0]} has no image: expected one of that name in {root / images}")


def _by_name(root: Path, paths: Iterable[str], folder: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in paths:
        if path.startswith(folder):
            name = _stem(path.removeprefix(folder))
            if (other := found.setdefault(name, path)) != path:
                raise DataError(f"{root / other} and {root / path} have the same name but for the suffix: keep one")
    return found


def _checked_png(root: Path, mask: str) -> str:
    if not mask.lower().endswith(".png"):
        raise DataError(f"{root / mask} is not a PNG file: masks are PNG with one class id a pixel")
    return mask


def _with_inner_splits(root: Path, pairs: list[Pair]) -> list[Pair]:
    """images/train/x: declared where every image lies in a folder of such a name."""
    words = [pair.image.split("/")[1] if pair.image.count("/") > 1 else "" for pair in pairs]
    if not all(word in SPLIT_WORDS for word in words):
        return pairs
    check_no_split_twice(words, str(root / IMAGES))
    return [replace(pair, split=SPLIT_WORDS[word]) for pair, word in zip(pairs, words, strict=True)]


def _voc_pairs(root: Path, paths: Sequence[str]) -> Iterator[Pair]:
    images, masks = _by_name(root, paths, "JPEGImages/"), _by_name(root, paths, "SegmentationClass/")
    seen: dict[str, str] = {}
    for list_path, split, names in _voc_lists(root):
        for name in names:
            if (other := seen.setdefault(name, split or "")) != (split or ""):
                raise DataError(f"{list_path} lists '{name}', which {other}.txt lists too: keep it in one")
            if name not in images:
                raise MissingDataError(f"{list_path} lists '{name}', but {root / 'JPEGImages'} has no such image")
            if name not in masks:
                raise MissingDataError(f"{list_path} lists '{name}', but {root / 'SegmentationClass'} has no such mask")
            yield Pair(images[name], _checked_png(root, masks[name]), split)


def _voc_lists(root: Path) -> Iterator[tuple[Path, str | None, list[str]]]:
    """train.txt and val.txt; without either, trainval.txt, which declares no split."""
    folder = root / VOC_LISTS
    lists: list[tuple[Path, str | None]] = [(folder / f"{word}.txt", word) for word in ("train", "val")]
    found = [item for item in lists if item[0].exists()] or [(folder / "trainval.txt", None)]
    for path, split in found:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path} cannot be read: {error}") from error
        yield path, split, list(dict.fromkeys(line.strip() for line in lines if line.strip()))


def _image_names(path: str) -> Iterator[str]:
    """Where the image of a mask would be, without suffix; nothing for what cannot be a mask."""
    parts = _stem(path).split("/")
    for place, part in enumerate(parts[:-1]):
        if part in MASK_FOLDERS and path.lower().endswith(".png"):
            yield "/".join((*parts[:place], MASK_FOLDERS[part], *parts[place + 1 :]))


def _stem(path: str) -> str:
    return path.rpartition(".")[0]
