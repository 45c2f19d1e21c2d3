"""The paper's datasets as they are published: real names of files and folders, real formats of lists, tiny images."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from reinforce.data import LabelledDataset, masked, open_labelled, open_masked, open_source
from reinforce.data.published import LAYOUTS
from reinforce.errors import DataError, MissingDataError

Files = dict[str, bytes]
Tree = Callable[[Mapping[str, bytes]], str]

SCENES = ("/a/airfield", "/a/apartment_building/outdoor", "/z/zen_garden")
PLACES_LISTS = "filelist_places365-standard/"
PLACES_VAL = 30


def images(paths: Iterable[str]) -> Files:
    return {path: path.encode() for path in paths}


def sizes(dataset: LabelledDataset) -> dict[str, int]:
    return {name: len(samples) for name, samples in dataset.splits.items()}


def class_of(dataset: LabelledDataset) -> dict[str, str]:
    return {s.key: dataset.class_names[s.label] for samples in dataset.splits.values() for s in samples}


def base_names(dataset: LabelledDataset) -> dict[str, set[str]]:
    return {name: {Path(s.key).name for s in samples} for name, samples in dataset.splits.items()}


def places365(train: str = "data_256", val: str = "val_256", lists: str = PLACES_LISTS) -> Files:
    """Two training images a scene; 10 validation images a scene, in an order of their own."""
    trained = [(f"{scene}/{number:08d}.jpg", label) for label, scene in enumerate(SCENES) for number in (1, 2)]
    validated = [(f"Places365_val_{number:08d}.jpg", number * 7 % 3) for number in range(1, PLACES_VAL + 1)]
    return {
        **images(f"{train}{path}" for path, _ in trained),
        **images(f"{val}/{path}" for path, _ in validated),
        f"{lists}categories_places365.txt": "".join(f"{s} {i}\n" for i, s in enumerate(SCENES)).encode(),
        f"{lists}places365_train_standard.txt": "".join(f"{path} {label}\n" for path, label in trained).encode(),
        f"{lists}places365_val.txt": "".join(f"{path} {label}\n" for path, label in validated).encode(),
        f"{lists}places365_test.txt": b"Places365_test_00000001.jpg\n",
    }


DX = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
ISIC_IMAGES = 7 * 24


def isic_truth(numbers: Iterable[int]) -> bytes:
    rows = [f"ISIC_{n:07d}," + ",".join("1.0" if n % 7 == i else "0.0" for i in range(7)) for n in numbers]
    return "\n".join([f"image,{','.join(DX)}", *rows, ""]).encode()


def lesion(number: int) -> str:
    """Three images a lesion, all of one class."""
    return f"HAM_{number % 7 + number // 21 * 7:07d}"


def isic2018(*, val: int = 14, test: int = 21, lesions: bool = True) -> Files:
    files: Files = {"ATTRIBUTION.txt": b"", "LICENSE.txt": b""}
    for word, first, count in (("Training", 0, ISIC_IMAGES), ("Validation", 1000, val), ("Test", 2000, test)):
        if count:
            numbers = range(first, first + count)
            files |= images(f"ISIC2018_Task3_{word}_Input/ISIC_{n:07d}.jpg" for n in numbers)
            files[f"ISIC2018_Task3_{word}_GroundTruth/ISIC2018_Task3_{word}_GroundTruth.csv"] = isic_truth(numbers)
    if lesions:
        rows = "".join(f"ISIC_{n:07d},{lesion(n)},histopathology\n" for n in range(ISIC_IMAGES))
        files["ISIC2018_Task3_Training_LesionGroupings.csv"] = (
            f"image,lesion_id,diagnosis_confirm_type\n{rows}".encode()
        )
    return files


def harvard(metadata: str = "HAM10000_metadata.csv", separator: str = ",") -> Files:
    columns = ("lesion_id", "image_id", "dx", "dx_type", "age", "sex", "localization")
    rows = [
        (lesion(n), f"ISIC_{n:07d}", DX[n % 7].lower(), "histo", "80.0", "male", "scalp") for n in range(ISIC_IMAGES)
    ]
    half = ISIC_IMAGES // 2
    return {
        metadata: "".join(separator.join(row) + "\n" for row in (columns, *rows)).encode(),
        **images(f"HAM10000_images_part_{1 + n // half}/ISIC_{n:07d}.jpg" for n in range(ISIC_IMAGES)),
    }


LAND = ("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop",
        "Residential", "River", "SeaLake")  # fmt: skip


def eurosat(folder: str = "2750/", per_class: int = 20) -> Files:
    return images(f"{folder}{name}/{name}_{number}.jpg" for name in LAND for number in range(1, per_class + 1))


WNIDS = ("n01440764", "n01443537", "n02119789")
"""By rank. In the devkit n02119789, the kit fox, is class 1."""
DEVKIT_ORDER = ("n02119789", "n01440764", "n01443537", *(f"n9{number:07d}" for number in range(997)), "n00000001")


def imagenet_train(folder: str = "train/", per_class: int = 20) -> Files:
    return images(f"{folder}{wnid}/{wnid}_{number}.JPEG" for wnid in WNIDS for number in range(1, per_class + 1))


def imagenet_val(folder: str = "val/", flat: bool = True) -> Files:
    names = [(WNIDS[number % 3], f"ILSVRC2012_val_{number:08d}.JPEG") for number in range(1, 10)]
    return images(f"{folder}{name}" if flat else f"{folder}{wnid}/{name}" for wnid, name in names)


def kaggle_solution() -> bytes:
    """Not in order; with several boxes an image."""
    rows = [f"ILSVRC2012_val_{n:08d},{WNIDS[n % 3]} 85 1 499 272 {WNIDS[n % 3]} 1 2 3 4 " for n in range(9, 0, -1)]
    return "\n".join(["ImageId,PredictionString", *rows, ""]).encode()


def devkit(*, compressed: bool = True) -> Files:
    """meta.mat as MATLAB 5 writes it: a 1-column array of structs, whose first 1000 are the classes."""
    fields = [("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("num_children", object)]
    synsets = np.array(
        [[(i, wnid, "kit fox, n1", int(i > 1000))] for i, wnid in enumerate(DEVKIT_ORDER, 1)], dtype=fields
    )
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"synsets": synsets}, do_compression=compressed)
    numbers = [DEVKIT_ORDER.index(WNIDS[number % 3]) + 1 for number in range(1, 10)]
    return {
        "ILSVRC2012_devkit_t12/data/meta.mat": buffer.getvalue(),
        "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt": "".join(
            f"{n}\n" for n in numbers
        ).encode(),
    }


CLS_LOC = "ILSVRC/Data/CLS-LOC/"
KAGGLE = {
    **imagenet_train(f"{CLS_LOC}train/"), **imagenet_val(f"{CLS_LOC}val/"),
    **images(f"{CLS_LOC}test/ILSVRC2012_test_{n:08d}.JPEG" for n in range(1, 4)),
    "LOC_val_solution.csv": kaggle_solution(), "LOC_synset_mapping.txt": b"n01440764 tench, Tinca tinca\n",
}  # fmt: skip
LEFT_ARCHIVE = {"train_256_places365standard.tar": b"a tar of 24 GB", "ILSVRC2012_img_train.tar": b"a tar of 138 GB"}

PLACES_SIZES = {"train": 6, "val": 3, "test": 27}
ISIC_SIZES = {"train": 168, "val": 14, "test": 21}
CARVED_SIZES = {"train": 126, "val": 21, "test": 21}
EUROSAT_SIZES = {"train": 20, "val": 40, "test": 140}
IMAGENET_SIZES = {"train": 54, "val": 6, "test": 9}


LAYOUTS_AND_SIZES: dict[str, tuple[Files, dict[str, int]]] = {
    "Places365, small": (places365(), PLACES_SIZES),
    "Places365, large": (places365("data_large", "val_large"), PLACES_SIZES),
    "Places365, torchvision": (places365("data_256_standard", "val_256", "") | LEFT_ARCHIVE, PLACES_SIZES),
    "Places365, both sizes": (places365() | places365("data_large", "val_large"), PLACES_SIZES),
    "ISIC 2018": (isic2018(), ISIC_SIZES),
    "ISIC 2018 without lesions": (isic2018(lesions=False), ISIC_SIZES),
    "ISIC 2018 without val": (isic2018(val=0), {"train": 147, "val": 21, "test": 21}),
    "ISIC 2018, train alone": (isic2018(val=0, test=0), CARVED_SIZES),
    "HAM10000": (harvard(), CARVED_SIZES),
    "HAM10000, tabs": (harvard("HAM10000_metadata", "\t"), CARVED_SIZES),
    "HAM10000, Kaggle": (
        harvard() | images(f"ham10000_images_part_1/ISIC_{n:07d}.jpg" for n in range(84)),
        CARVED_SIZES,
    ),
    "HAM10000 with the test images": (
        harvard()
        | images(f"ISIC2018_Task3_Test_Images/ISIC_{n:07d}.jpg" for n in range(2000, 2021))
        | {"ISIC2018_Task3_Test_GroundTruth.csv": isic_truth(range(2000, 2021))},
        {"train": 147, "val": 21, "test": 21},
    ),
    "EuroSAT.zip": (eurosat(), EUROSAT_SIZES),
    "EuroSAT_RGB": (eurosat("EuroSAT_RGB/"), EUROSAT_SIZES),
    "EuroSAT/2750": (eurosat("EuroSAT/2750/"), EUROSAT_SIZES),
    "EuroSAT, torchvision": (eurosat("eurosat/2750/"), EUROSAT_SIZES),
    "EuroSAT, the folder itself": (eurosat(""), EUROSAT_SIZES),
    "ImageNet": (imagenet_train() | imagenet_val(flat=False) | LEFT_ARCHIVE, IMAGENET_SIZES),
    "ImageNet, flat": (imagenet_train() | imagenet_val() | {"LOC_val_solution.csv": kaggle_solution()}, IMAGENET_SIZES),
    "ImageNet, devkit": (imagenet_train() | imagenet_val() | devkit(), IMAGENET_SIZES),
    "ImageNet, devkit uncompressed": (imagenet_train() | imagenet_val() | devkit(compressed=False), IMAGENET_SIZES),
    "ImageNet, Kaggle": (KAGGLE, IMAGENET_SIZES),
}


@pytest.mark.parametrize(("files", "expected"), LAYOUTS_AND_SIZES.values(), ids=LAYOUTS_AND_SIZES)
def test_a_layout_has_the_papers_splits(tree: Tree, files: Files, expected: dict[str, int]) -> None:
    dataset = open_labelled(tree(files))
    assert sizes(dataset) == expected
    keys = [sample.key for samples in dataset.splits.values() for sample in samples]
    assert len(set(keys)) == len(keys)
    for samples in dataset.splits.values():
        assert {sample.label for sample in samples} == set(range(len(dataset.class_names)))
        for sample in samples:
            assert dataset.source.read(sample.shard, sample.row) == sample.key.encode()


class TestSameSplitsEverywhere:
    """A number found on one layout means the same on another."""

    @pytest.mark.parametrize(
        "layouts",
        [
            (places365(), places365("data_large_standard", "val_large", "")),
            (eurosat(), eurosat("EuroSAT_RGB/"), eurosat("")),
            (imagenet_train() | imagenet_val(flat=False), imagenet_train() | imagenet_val() | devkit(), KAGGLE),
            (harvard(), isic2018(val=0, test=0)),
        ],
        ids=["Places365", "EuroSAT", "ImageNet", "HAM10K"],
    )
    def test_by_file_names(self, tmp_path: Path, layouts: tuple[Files, ...]) -> None:
        found = []
        for number, files in enumerate(layouts):
            for name, data in files.items():
                path = tmp_path / str(number) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            found.append(open_labelled(str(tmp_path / str(number))))
        assert all(base_names(other) == base_names(found[0]) for other in found)
        assert all(other.class_names == found[0].class_names for other in found)


class TestClasses:
    def test_places365(self, tree: Tree) -> None:
        dataset = open_labelled(tree(places365()))
        assert dataset.class_names == ("airfield", "apartment_building/outdoor", "zen_garden")
        classes = class_of(dataset)
        assert classes["data_256/a/apartment_building/outdoor/00000002.jpg"] == "apartment_building/outdoor"
        assert classes["val_256/Places365_val_00000004.jpg"] == "apartment_building/outdoor"
        assert Counter(s.label for s in dataset.split("val")) == {0: 1, 1: 1, 2: 1}

    @pytest.mark.parametrize("files", [isic2018(), harvard()], ids=["ISIC", "Harvard"])
    def test_ham10k(self, tree: Tree, files: Files) -> None:
        dataset = open_labelled(tree(files))
        assert dataset.class_names == ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")
        assert all(DX[int(Path(key).stem[5:]) % 7].lower() == name for key, name in class_of(dataset).items())

    def test_ham10k_never_parts_the_images_of_a_lesion(self, tree: Tree) -> None:
        dataset = open_labelled(tree(harvard()))
        where = {name: {lesion(int(Path(s.key).stem[5:])) for s in samples} for name, samples in dataset.splits.items()}
        assert {name: len(lesions) for name, lesions in where.items()} == {"train": 42, "val": 7, "test": 7}
        assert not where["train"] & where["val"] | where["train"] & where["test"] | where["val"] & where["test"]

    def test_eurosat_is_cut_class_by_class(self, tree: Tree) -> None:
        dataset = open_labelled(tree(eurosat()))
        assert dataset.class_names == LAND
        counts = {name: set(Counter(s.label for s in samples).values()) for name, samples in dataset.splits.items()}
        assert counts == {"train": {2}, "val": {4}, "test": {14}}

    @pytest.mark.parametrize(
        "files",
        [imagenet_train() | imagenet_val() | devkit(), KAGGLE, imagenet_train() | imagenet_val(flat=False)],
        ids=["devkit", "Kaggle", "folders"],
    )
    def test_imagenet(self, tree: Tree, files: Files) -> None:
        dataset = open_labelled(tree(files))
        assert dataset.class_names == WNIDS
        tested = {Path(s.key).stem: dataset.class_names[s.label] for s in dataset.split("test")}
        assert tested == {f"ILSVRC2012_val_{number:08d}": WNIDS[number % 3] for number in range(1, 10)}
        assert Counter(s.label for s in dataset.split("val")) == {0: 2, 1: 2, 2: 2}

    def test_imagenet_leaves_ten_images_of_a_large_class_to_val(self, tree: Tree) -> None:
        dataset = open_labelled(tree(imagenet_train(per_class=130) | imagenet_val(flat=False)))
        assert sizes(dataset) == {"train": 360, "val": 30, "test": 9}

    @pytest.mark.parametrize(
        ("files", "left"),
        [
            (imagenet_val() | {"LOC_val_solution.csv": kaggle_solution()}, {"test": 9}),
            (imagenet_val(flat=False), {"test": 9}),
            ({p: d for p, d in places365().items() if "data_256" not in p}, {"val": 3, "test": 27}),
            ({p: d for p, d in isic2018().items() if "Training" not in p}, {"val": 14, "test": 21}),
        ],
        ids=["ImageNet", "ImageNet in folders", "Places365", "ISIC"],
    )
    def test_to_evaluate_needs_no_training_images(self, tree: Tree, files: Files, left: dict[str, int]) -> None:
        location = tree(files)
        assert sizes(open_labelled(location, needs_train=False)) == left
        with pytest.raises(MissingDataError, match="unpack the training images"):
            open_labelled(location)


def without(files: Files, part: str) -> Files:
    return {path: data for path, data in files.items() if part not in path}


MISSING: dict[str, tuple[Files, str]] = {
    "Places365, an image": (
        without(places365(), "zen_garden/00000002"),
        r"data_256/z/zen_garden/00000002\.jpg of places365_train_standard",
    ),
    "Places365, a folder": (without(places365(), "data_256/z"), r"zen_garden/00000001\.jpg and 1 others of"),
    "Places365, val": (without(places365(), "val_256"), r"val_256 is not there: unpack val_256\.tar"),
    "Places365, lists": (
        without(places365(), "filelist"),
        r"categories_places365\.txt is not there: unpack filelist_places365-standard",
    ),
    "Places365, val list": (without(places365(), "places365_val.txt"), r"places365_val\.txt is not there"),
    "Places365, a list without labels": (
        places365() | {f"{PLACES_LISTS}places365_val.txt": b"Places365_val_00000001.jpg\n"},
        "has the line 'Places365_val_00000001.jpg': expected a path and a class id",
    ),
    "Places365, an unknown class": (
        places365() | {f"{PLACES_LISTS}places365_val.txt": b"Places365_val_00000001.jpg 3\n"},
        "holds class 3, but categories_places365.txt names 3",
    ),
    "ISIC, truth": (without(isic2018(), "Training_GroundTruth.csv"), r"Training_GroundTruth\.csv is not there"),
    "ISIC, an image": (without(isic2018(), "Input/ISIC_0000007"), r"ISIC_0000007\.jpg of .* not there"),
    "ISIC, neither val nor lesions": (
        isic2018(val=0, lesions=False),
        r"LesionGroupings\.csv is not there: without ISIC2018_Task3_Validation_Input/",
    ),
    "ISIC, another table": (
        isic2018() | {"ISIC2018_Task3_Test_GroundTruth/ISIC2018_Task3_Test_GroundTruth.csv": b"image,MEL\n1,1.0\n"},
        "is not the table that was published: expected rows under image_id,dx or image,AKIEC",
    ),
    "HAM10000, metadata": (without(harvard(), "metadata"), r"HAM10000_metadata\.csv is not there"),
    "HAM10000, part": (without(harvard(), "part_2"), r"images_part_2 is not there: unpack HAM10000_images_part_2\.zip"),
    "HAM10000, a cell without end": (
        harvard() | {"HAM10000_metadata.csv": b'lesion_id,image_id,dx\n"' + b"x" * 200_000 + b'"\n'},
        "cannot be read as CSV: field larger than field limit",
    ),
    "HAM10000, no text": (harvard() | {"HAM10000_metadata.csv": b"\xff\xfe"}, "cannot be read: 'utf-8' codec"),
    "HAM10000, an unknown dx": (
        harvard() | {"HAM10000_metadata.csv": harvard()["HAM10000_metadata.csv"].replace(b",nv,", b",scar,", 1)},
        "has 0 of the classes akiec",
    ),
    "HAM10000, a lesion of two classes": (
        harvard() | {"HAM10000_metadata.csv": harvard()["HAM10000_metadata.csv"].replace(b",nv,", b",mel,", 1)},
        "has images of two classes",
    ),
    "EuroSAT, a class": (without(eurosat(), "River"), "2750/River is not there: EuroSAT has the 10 classes"),
    "ImageNet, flat": (imagenet_train() | imagenet_val(), r"LOC_val_solution\.csv is not there: val/ is flat"),
    "Kaggle, val": (without(KAGGLE, "/val/"), r"CLS-LOC/val holds no images: unpack"),
    "ImageNet, a class": (
        without(imagenet_train(), WNIDS[0]) | imagenet_val(flat=False),
        "has no folder of the class of",
    ),
    "ImageNet, an image": (
        imagenet_train() | without(imagenet_val(), "00000003") | devkit(),
        r"val_00000003\.JPEG of .* not there",
    ),
    "Kaggle, a cut list": (
        KAGGLE | {"LOC_val_solution.csv": kaggle_solution().rpartition(b",")[0]},
        r"LOC_val_solution\.csv line \d+ has not one cell a column",
    ),
    "ImageNet, half a devkit": (
        imagenet_train() | imagenet_val() | without(devkit(), "meta.mat"),
        r"meta\.mat is not there",
    ),
    "ImageNet, a damaged devkit": (
        imagenet_train() | imagenet_val() | devkit() | {"ILSVRC2012_devkit_t12/data/meta.mat": b"MATLAB" * 30},
        "meta.mat names 0 classes, expected 1000",
    ),
}


@pytest.mark.parametrize(("files", "message"), MISSING.values(), ids=MISSING)
def test_what_is_missing_is_named_on_one_line(tree: Tree, files: Files, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_labelled(tree(files))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "paths",
    [
        "train/cat/1.jpg train/dog/2.jpg val/cat/3.jpg",
        "Forest/1.jpg River/2.jpg",
        "train/n01440764/images/1.JPEG val/images/val_1.JPEG",
        "train/n01440764/1.JPEG val/n01440764/2.JPEG test/n01440764/3.JPEG",
        "data_256/1/2.jpg",
        "2749/1.jpg 2750/2.jpg",
    ],
    ids=["folders", "two of EuroSAT's classes", "Tiny ImageNet", "own test folder", "a name alone", "numbers"],
)
def test_other_folders_are_not_taken_for_them(tree: Tree, paths: str) -> None:
    root = Path(tree(images(paths.split())))
    assert all(layout.read(root) is None for layout in LAYOUTS)


@pytest.mark.parametrize(
    "files",
    [places365(), isic2018(), harvard(), eurosat(), imagenet_train() | imagenet_val(flat=False)],
    ids=["Places365", "ISIC", "HAM10000", "EuroSAT", "ImageNet"],
)
def test_keys_are_those_of_the_same_folder_as_a_transfer_set(tree: Tree, files: Files) -> None:
    location = tree(files)
    transfer = {key for shard in open_source(location).shards for key in shard.keys}
    assert class_of(open_labelled(location)).keys() <= transfer


@pytest.mark.parametrize(("most", "val"), [(1000, 4), (3, 3)], ids=["a tenth", "a thousand at most"])
def test_ade20k_keeps_training_images_for_val(
    tree: Tree, image: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, most: int, val: int
) -> None:
    assert masked.ADE_VAL_IMAGES == 1000
    monkeypatch.setattr(masked, "ADE_VAL_IMAGES", most)
    data = image()
    names = [(f"training/ADE_train_{n:08d}", n) for n in range(1, 41)] + [
        (f"validation/ADE_val_{n:08d}", n) for n in (1, 2)
    ]
    files = {f"images/{name}.jpg": data for name, _ in names}
    files |= {f"annotations/{name}.png": data for name, _ in names}
    dataset = open_masked(tree(files))
    assert {name: len(samples) for name, samples in dataset.splits.items()} == {
        "train": 40 - val,
        "val": val,
        "test": 2,
    }
    assert all(sample.key.startswith("images/validation/") for sample in dataset.split("test"))


class TestImg2datasetTars:
    """CC3M, YFCC15M and DataComp as img2dataset writes them: 00000.tar with x.jpg, x.txt and x.json, and beside them
    00000_stats.json and 00000.parquet."""

    @pytest.fixture
    def location(self, tree: Tree, tar: Callable[..., bytes]) -> str:
        def members(shard: int) -> Files:
            keys = [f"{shard:05d}{row:04d}" for row in range(3)]
            return {f"{key}.{kind}": f"{kind} of {key}".encode() for key in keys for kind in ("jpg", "txt", "json")}

        beside = {"00000_stats.json": b"{}", "00000.parquet": b"PAR1", "00001_stats.json": b"{}"}
        return tree({f"{shard:05d}.tar": tar(members(shard)) for shard in range(3)} | beside)

    @pytest.mark.parametrize("pattern", ["", "/{00000..00002}.tar"], ids=["folder", "pattern"])
    def test_images_are_found_by_key(self, location: str, pattern: str) -> None:
        source = open_source(location + pattern)
        assert [shard.name for shard in source.shards] == ["00000.tar", "00001.tar", "00002.tar"]
        assert source.shards[1].keys == ("00001/000010000", "00001/000010001", "00001/000010002")
        assert source.read(2, 1) == b"jpg of 000020001"

    def test_a_pattern_beyond_what_was_downloaded(self, location: str) -> None:
        with pytest.raises(MissingDataError, match=r"329 of 332 tars not there, the first is .*00003\.tar"):
            open_source(location + "/{00000..00331}.tar")
