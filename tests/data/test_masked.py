from __future__ import annotations

import io
import pickle
import struct
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from reinforce.data import (
    IGNORE,
    FolderSource,
    MaskedDataset,
    MaskedSample,
    freeze,
    hash64,
    open_labelled,
    open_masked,
    open_source,
    take_masked,
)
from reinforce.errors import DataError, MissingDataError, UnknownNameError, UsageError

Tree = Callable[[Mapping[str, bytes]], str]
Encode = Callable[..., bytes]

WIDTH, HEIGHT = 5, 3
"""Of the image that the fixture `image` encodes."""


def mask_png(values: object, mode: str = "L") -> bytes:
    """A PNG of this mode with these values, a number for all pixels or an array (H, W)."""
    levels_HW = np.broadcast_to(np.asarray(values), (HEIGHT, WIDTH)) if np.ndim(values) == 0 else np.asarray(values)
    if mode in ("L", "P"):
        picture = Image.fromarray(levels_HW.astype(np.uint8))
    else:
        picture = Image.fromarray(levels_HW.astype({"I;16": np.uint16, "1": bool}[mode]))
    if mode == "P":
        picture.putpalette([255 - number // 3 for number in range(768)])
    assert picture.mode == mode
    return as_png(picture)


def as_png(picture: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", **options)
    return buffer.getvalue()


def packed_grey_png(values_HW: list[list[int]], bits: int) -> bytes:
    """Grey of 1, 2 or 4 bits, which Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b""
    for row in values_HW:
        digits = "".join(f"{value:0{bits}b}" for value in row)
        digits += "0" * (-len(digits) % 8)
        rows += b"\0" + int(digits, 2).to_bytes(len(digits) // 8, "big")
    header = struct.pack(">IIBBBBB", len(values_HW[0]), len(values_HW), bits, 0, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def keys(dataset: MaskedDataset) -> dict[str, str]:
    """split -> its keys"""
    return {name: " ".join(sample.key for sample in samples) for name, samples in dataset.splits.items()}


@pytest.fixture
def files(image: Encode) -> Callable[[str], dict[str, bytes]]:
    """ "images/1.jpg masks/1.png images/ids.txt=a,b" -> files; `masks` and the like hold masks of class 1."""

    def make(paths: str) -> dict[str, bytes]:
        found = {}
        for path in paths.split():
            name, is_text, text = path.partition("=")
            is_mask = {"masks", "annotations", "SegmentationClass", "SegmentationObject"} & set(name.split("/"))
            content = mask_png(1) if is_mask else image(hash64(name) % 256)
            found[name] = text.replace(",", "\n").encode() if is_text else content
        return found

    return make


class TestLayouts:
    @pytest.mark.parametrize(
        ("paths", "expected"),
        [
            pytest.param(
                "train/images/1.jpg train/masks/1.png val/images/2.png val/masks/2.png test/images/3.webp "
                "test/masks/3.png",
                {"train": "train/images/1.jpg", "val": "val/images/2.png", "test": "test/images/3.webp"},
                id="all splits",
            ),
            pytest.param(
                "train/images/1.jpg train/masks/1.png train/images/2.jpg train/masks/2.png test/images/3.jpg "
                "test/masks/3.png",
                {"train": "train/images/2.jpg", "val": "train/images/1.jpg", "test": "test/images/3.jpg"},
                id="val is cut",
            ),
            pytest.param(
                "train/images/1.jpg train/masks/1.png valid/images/2.jpg valid/masks/2.png",
                {"train": "train/images/1.jpg", "val": "valid/images/2.jpg"},
                id="valid is val",
            ),
            pytest.param(
                "images/1.jpg masks/1.png images/2.jpg masks/2.png images/3.jpg masks/3.png",
                {"train": "images/2.jpg", "val": "images/1.jpg", "test": "images/3.jpg"},
                id="no splits",
            ),
            pytest.param(
                "images/a/1.jpg masks/a/1.png images/b/1.jpg masks/b/1.png",
                {"train": "images/b/1.jpg", "val": "images/a/1.jpg", "test": ""},
                id="nested",
            ),
            pytest.param(
                "images/train/1.jpg masks/train/1.png images/val/1.jpg masks/val/1.png",
                {"train": "images/train/1.jpg", "val": "images/val/1.jpg"},
                id="splits inside",
            ),
            pytest.param(
                "images/training/1.jpg annotations/training/1.png images/training/4.jpg annotations/training/4.png "
                "images/validation/2.jpg annotations/validation/2.png images/testing/3.jpg",
                {"train": "images/training/4.jpg", "val": "images/training/1.jpg", "test": "images/validation/2.jpg"},
                id="ADE20K",
            ),
            pytest.param(
                "JPEGImages/1.jpg JPEGImages/2.jpg JPEGImages/3.jpg SegmentationClass/1.png SegmentationClass/2.png "
                "SegmentationObject/1.png ImageSets/Segmentation/train.txt=1 ImageSets/Segmentation/val.txt=2, "
                "ImageSets/Segmentation/trainval.txt=1,2 ImageSets/Segmentation/test.txt=3",
                {"train": "JPEGImages/1.jpg", "val": "JPEGImages/2.jpg"},
                id="VOC",
            ),
            pytest.param(
                "JPEGImages/1.jpg JPEGImages/2.jpg SegmentationClass/1.png SegmentationClass/2.png "
                "ImageSets/Segmentation/trainval.txt=1,2",
                {"train": "JPEGImages/2.jpg", "val": "JPEGImages/1.jpg", "test": ""},
                id="VOC, one list",
            ),
        ],
    )
    def test_splits(
        self, tree: Tree, files: Callable[[str], dict[str, bytes]], paths: str, expected: dict[str, str]
    ) -> None:
        root = tree(files(paths))
        dataset = open_masked(root)
        assert keys(dataset) == expected
        assert dataset.source == open_source(root)
        for samples in dataset.splits.values():
            for sample in samples:
                assert dataset.source.shards[sample.shard].keys[sample.row] == sample.key
                assert dataset.mask_path(sample).stem == Path(sample.key).stem
                assert dataset.read_mask(sample).shape == (HEIGHT, WIDTH)

    @pytest.mark.parametrize(
        ("paths", "message"),
        [
            pytest.param("1.jpg", "has no masks: expected .train.val.test/.images/ and masks/", id="flat"),
            pytest.param("cat/1.jpg dog/2.jpg", "has no masks", id="class folders"),
            pytest.param(
                "images/1.jpg images/2.jpg masks/1.png", r"images/2\.jpg has no mask: .*masks/2\.png", id="no mask"
            ),
            pytest.param("images/1.jpg masks/1.png masks/2.png", r"masks/2\.png has no image", id="no image"),
            pytest.param("masks/2.png", r"masks/2\.png has no image: expected one of that name in", id="masks alone"),
            pytest.param(
                "train/images/1.jpg train/masks/1.png test/images/2.jpg",
                r"test/images/2\.jpg has no mask: .*test/masks/2\.png",
                id="a split without masks",
            ),
            pytest.param(
                "images/1.jpg images/1.png masks/1.png", "1.jpg and .*1.png have the same name", id="a name twice"
            ),
            pytest.param("images/1.jpg masks/1.jpg", r"masks/1\.jpg is not a PNG file", id="a JPEG"),
            pytest.param(
                "val/images/1.jpg val/masks/1.png test/images/1.jpg test/masks/1.png", "but no train", id="no train"
            ),
            pytest.param(
                "train/images/1.jpg train/masks/1.png val/images/1.jpg val/masks/1.png valid/images/1.jpg "
                "valid/masks/1.png",
                "has both val/ and valid/",
                id="two names of one split",
            ),
            pytest.param(
                "images/training/1.jpg annotations/training/1.png images/validation/2.jpg",
                r"2\.jpg has no mask: .*annotations/validation/2\.png",
                id="ADE20K, no mask",
            ),
            pytest.param(
                "JPEGImages/1.jpg SegmentationClass/1.png", r"trainval\.txt cannot be read", id="VOC, no lists"
            ),
            pytest.param(
                "JPEGImages/1.jpg SegmentationClass/1.png ImageSets/Segmentation/train.txt=1,../../2",
                r"train\.txt lists '\.\./\.\./2', but .*JPEGImages has no such image",
                id="VOC, no image",
            ),
            pytest.param(
                "JPEGImages/1.jpg JPEGImages/2.jpg SegmentationClass/1.png ImageSets/Segmentation/train.txt=2",
                r"train\.txt lists '2', but .*SegmentationClass has no such mask",
                id="VOC, no mask",
            ),
            pytest.param(
                "JPEGImages/1.jpg SegmentationClass/1.png ImageSets/Segmentation/train.txt=1 "
                "ImageSets/Segmentation/val.txt=1",
                r"val\.txt lists '1', which train\.txt lists too",
                id="VOC, in two splits",
            ),
        ],
    )
    def test_what_cannot_be_used(
        self, tree: Tree, files: Callable[[str], dict[str, bytes]], paths: str, message: str
    ) -> None:
        with pytest.raises(DataError, match=message):
            open_masked(tree(files(paths)))

    def test_no_folder(self, tree: Tree, files: Callable[[str], dict[str, bytes]]) -> None:
        root = tree(files("images/1.jpg list.csv=images/1.jpg"))
        with pytest.raises(MissingDataError, match="nowhere is not there"):
            open_masked(f"{root}/nowhere")
        with pytest.raises(DataError, match=r"list\.csv has no masks: expected a folder"):
            open_masked(f"{root}/list.csv")

    def test_data_to_evaluate_on_needs_no_train(self, tree: Tree, files: Callable[[str], dict[str, bytes]]) -> None:
        root = tree(files("test/images/1.jpg test/masks/1.png"))
        dataset = open_masked(root, needs_train=False)
        assert keys(dataset) == {"test": "test/images/1.jpg"}
        assert dataset.class_names == ("c0", "c1")
        with pytest.raises(UnknownNameError, match=r"^unknown split of set 'val'; known: test$"):
            dataset.split("val")

    def test_links_are_followed_and_must_lead_somewhere(
        self, tree: Tree, files: Callable[[str], dict[str, bytes]], tmp_path: Path
    ) -> None:
        root = Path(tree(files("images/1.jpg masks/1.png")))
        (root / "masks").rename(tmp_path / "elsewhere")
        (root / "masks").symlink_to(tmp_path / "elsewhere")
        dataset = open_masked(str(root))
        assert dataset.read_mask(dataset.split("train")[0]).tolist() == [[1] * WIDTH] * HEIGHT
        (root / "images" / "2.jpg").symlink_to(tmp_path / "gone.jpg")
        with pytest.raises(MissingDataError, match=r"2\.jpg is a link to a file that is not there"):
            open_masked(str(root))


class TestUnlabelledUse:
    @pytest.mark.parametrize(
        ("paths", "images"),
        [
            ("images/1.jpg masks/1.png images/2.jpg", "images/1.jpg images/2.jpg"),
            ("train/images/1.jpg train/masks/1.png", "train/images/1.jpg"),
            ("a/images/b/1.png a/masks/b/1.png", "a/images/b/1.png"),
            ("images/training/1.jpg annotations/training/1.png", "images/training/1.jpg"),
            (
                "JPEGImages/1.jpg JPEGImages/2.jpg SegmentationClass/1.png SegmentationObject/1.png",
                "JPEGImages/1.jpg JPEGImages/2.jpg",
            ),
            pytest.param("images/1.jpg masks/2.png", "images/1.jpg masks/2.png", id="no mask of any image"),
            pytest.param("images/1.jpg masks/1.jpg", "images/1.jpg masks/1.jpg", id="a JPEG is no mask"),
            pytest.param("cat/1.jpg masks/1.png", "cat/1.jpg masks/1.png", id="no images beside"),
        ],
    )
    def test_masks_are_left_out(
        self, tree: Tree, files: Callable[[str], dict[str, bytes]], paths: str, images: str
    ) -> None:
        source = open_source(tree(files(paths)))
        assert isinstance(source, FolderSource)
        assert " ".join(key for shard in source.shards for key in shard.keys) == images
        assert {*images.split(), *source.masks} == set(paths.split())

    def test_a_listing_is_that_of_the_images_alone(
        self, tree: Tree, files: Callable[[str], dict[str, bytes]], tmp_path: Path
    ) -> None:
        root = tree(files("images/1.jpg masks/1.png images/2.jpg masks/2.png"))
        with_masks = freeze(open_masked(root).source).digest
        (tmp_path / "set" / "masks").rename(tmp_path / "masks")
        assert freeze(open_source(root)).digest == with_masks

    def test_classification_points_at_the_task(self, tree: Tree, files: Callable[[str], dict[str, bytes]]) -> None:
        for paths in ("images/1.jpg masks/1.png", "train/images/1.jpg train/masks/1.png"):
            with pytest.raises(DataError, match="images and masks, no class folders: type --task segmentation"):
                open_labelled(tree(files(paths)))


VALUES_HW = [[0, 1, 2, 3, 255], [3, 3, 3, 3, 3], [0, 0, 255, 255, 1]]
LISTS = [
    pytest.param({"classes.txt": b"a\nb\nc\nd\n"}, "a b c d", VALUES_HW, id="names"),
    pytest.param({"classes.txt": b"\xef\xbb\xbfa\r\nb\r\nc\r\nd\r\ne\r\n\r\n"}, "a b c d e", VALUES_HW, id="more"),
    pytest.param({}, "c0 c1 c2 c3", VALUES_HW, id="no list"),
    pytest.param(
        {"classes.csv": b"value,name\n0,\n1,x\n2,y\n3,x\n"},
        "x y",
        [[255, 0, 1, 0, 255], [0, 0, 0, 0, 0], [255, 255, 255, 255, 0]],
        id="map",
    ),
    pytest.param(
        {"classes.csv": b'Value, Name\n3,"x, or y"\n2,z\n\n1,z\n0,z\n255,\n70,rare\n'},
        "x, or y|z|rare",
        [[1, 1, 1, 0, 255], [0, 0, 0, 0, 0], [1, 1, 255, 255, 1]],
        id="map in another order",
    ),
]


class TestValues:
    @pytest.mark.parametrize(("lists", "names", "expected_HW"), LISTS)
    @pytest.mark.parametrize("mode", ["L", "P", "I;16"])
    def test_class_ids(
        self, tree: Tree, image: Encode, lists: dict[str, bytes], names: str, expected_HW: list[list[int]], mode: str
    ) -> None:
        root = tree({"images/1.png": image(), "masks/1.png": mask_png(VALUES_HW, mode), **lists})
        dataset = open_masked(root)
        assert dataset.class_names == tuple(names.split("|" if "|" in names else " "))
        mask_HW = dataset.read_mask(dataset.split("train")[0])
        assert mask_HW.dtype == np.uint8
        assert mask_HW.tolist() == expected_HW

    @pytest.mark.parametrize("bits", [1, 2, 4])
    def test_grey_of_few_bits_holds_numbers_not_levels(self, tree: Tree, image: Encode, bits: int) -> None:
        values_HW = [[(x + y) % 2**bits for x in range(WIDTH)] for y in range(HEIGHT)]
        root = tree({"images/1.png": image(), "masks/1.png": packed_grey_png(values_HW, bits)})
        dataset = open_masked(root)
        assert dataset.read_mask(dataset.split("train")[0]).tolist() == values_HW

    def test_values_beyond_a_byte_need_a_map(self, tree: Tree, image: Encode) -> None:
        files = {"images/1.png": image(), "masks/1.png": mask_png([[0, 1000, 65535, 0, 255]] * 3, "I;16")}
        with pytest.raises(DataError, match=r"masks/1\.png holds the value 65535: list .*set/classes\.csv"):
            open_masked(tree(files))
        dataset = open_masked(tree(files | {"classes.csv": b"value,name\n0,a\n1000,b\n65535,c\n"}))
        assert dataset.read_mask(dataset.split("train")[0])[0].tolist() == [0, 1, 2, 0, IGNORE]

    def test_ade20k_counts_from_one_and_zero_is_ignored(self, tree: Tree, image: Encode) -> None:
        names = [f"thing {number}" for number in range(1, 151)]
        rows = "".join(f"{number}\t0.1\t2\t1\t{name}   \n" for number, name in enumerate(names, 1))
        files = {
            "images/training/1.jpg": image(),
            "annotations/training/1.png": mask_png([[0, 1, 2, 150, 255]] * 3),
            "images/validation/2.jpg": image(),
            "annotations/validation/2.png": mask_png(151),
        }
        numbered = open_masked(tree(files))
        assert numbered.class_names == tuple(f"c{label}" for label in range(150))
        dataset = open_masked(tree(files | {"objectInfo150.txt": f"Idx\tRatio\tTrain\tVal\tName\n{rows}".encode()}))
        assert dataset.class_names == tuple(names)
        assert dataset.read_mask(dataset.split("train")[0])[0].tolist() == [255, 0, 1, 149, 255]
        with pytest.raises(DataError, match=r"annotations/validation/2\.png holds the value 151"):
            dataset.read_mask(dataset.split("test")[0])
        with pytest.raises(DataError, match=r"objectInfo150\.txt names 1 class, expected 150"):
            open_masked(tree({"objectInfo150.txt": b"Idx\tName\n1\twall\n"}))

    @pytest.mark.parametrize(("highest", "first", "count"), [(20, "background", 21), (4, "c0", 5)])
    def test_voc_names_where_there_are_as_many(
        self, tree: Tree, image: Encode, highest: int, first: str, count: int
    ) -> None:
        root = tree(
            {
                "JPEGImages/1.jpg": image(),
                "SegmentationClass/1.png": mask_png([[0, 1, highest, 255, 0]] * 3, "P"),
                "ImageSets/Segmentation/train.txt": b"1\n",
                "ImageSets/Segmentation/val.txt": b"",
            }
        )
        dataset = open_masked(root)
        assert (dataset.class_names[0], len(dataset.class_names)) == (first, count)

    def test_only_train_is_read_to_count_the_classes(self, tree: Tree, image: Encode) -> None:
        files = {f"{split}/images/1.png": image() for split in ("train", "val")}
        files |= {"train/masks/1.png": mask_png(2), "val/masks/1.png": b"not read"}
        assert open_masked(tree(files)).class_names == ("c0", "c1", "c2")


class TestWrongMasks:
    @pytest.mark.parametrize(
        ("mask", "message"),
        [
            pytest.param(mask_png(2), "holds the value 2, which is none of the 2 classes and not 255", id="value"),
            pytest.param(mask_png(254), "holds the value 254", id="254"),
            pytest.param(mask_png(300, "I;16"), "holds the value 300", id="16 bit"),
            pytest.param(mask_png([[0, 0]]), "is 2x1 px, its image 5x3 px", id="size"),
            pytest.param(mask_png(np.zeros((5, 3))), "is 3x5 px, its image 5x3 px", id="turned"),
            pytest.param(
                as_png(Image.new("RGB", (WIDTH, HEIGHT))),
                r"is RGB, a mask holds one class id a pixel: look up .* Image\.fromarray",
                id="RGB",
            ),
            pytest.param(as_png(Image.new("RGBA", (WIDTH, HEIGHT))), "is RGBA", id="RGBA"),
            pytest.param(as_png(Image.new("LA", (WIDTH, HEIGHT))), "is LA", id="LA"),
            pytest.param(b"", "is not a PNG file", id="empty"),
            pytest.param(b"\xff\xd8\xff\xe0", "is not a PNG file", id="JPEG named PNG"),
            pytest.param(mask_png(1)[:20], "cannot be read as a PNG", id="header cut off"),
            pytest.param(mask_png(np.arange(15).reshape(3, 5) % 2)[:-30], "cannot be read as a PNG", id="cut off"),
        ],
    )
    def test_names_the_file(self, tree: Tree, image: Encode, mask: bytes, message: str) -> None:
        root = tree({"images/x.png": image(), "masks/x.png": mask, "classes.txt": b"a\nb\n"})
        dataset = open_masked(root)
        with pytest.raises(DataError, match=rf"^{root}/masks/x\.png {message}") as caught:
            dataset.read_mask(dataset.split("train")[0])
        assert "\n" not in str(caught.value)

    def test_an_unreadable_image(self, tree: Tree) -> None:
        dataset = open_masked(tree({"images/x.png": b"no image", "masks/x.png": mask_png(1)}))
        with pytest.raises(DataError, match=r"images/x\.png cannot be read as an image"):
            dataset.read_mask(dataset.split("train")[0])

    def test_gone_since(self, tree: Tree, image: Encode) -> None:
        root = tree({"images/x.png": image(), "masks/x.png": mask_png(1)})
        dataset = open_masked(root)
        Path(root, "masks", "x.png").unlink()
        with pytest.raises(MissingDataError, match=r"masks/x\.png is not there"):
            dataset.read_mask(dataset.split("train")[0])

    @pytest.mark.parametrize(
        ("lists", "message"),
        [
            ({"classes.txt": b"a\nb\na\n"}, "names the class 'a' twice"),
            ({"classes.txt": b"a\n\nb\n"}, r"classes\.txt line 2 is empty: write the name of class 1"),
            ({"classes.txt": b"\n"}, "names no class|is empty"),
            ({"classes.txt": b"\xff\xfe"}, "is not UTF-8"),
            ({"classes.txt": "".join(f"n{n}\n" for n in range(256)).encode()}, "names 256 classes: 255 is the most"),
            ({"classes.txt": b"a\n", "classes.csv": b"value,name\n0,a\n"}, r"both classes\.txt and classes\.csv"),
            ({"classes.csv": b"0,a\n"}, "first line must be value,name"),
            ({"classes.csv": b""}, "first line must be value,name"),
            ({"classes.csv": b"value,name\n0,a\nx,b\n"}, "line 3 is 'x,b': write value,name"),
            ({"classes.csv": b"value,name\n0\n"}, "line 2 is '0': write value,name"),
            ({"classes.csv": b"value,name\n-1,a\n"}, "line 2 is '-1,a'"),
            ({"classes.csv": b"value,name\n70000,a\n"}, r"value of 0\.\.65535"),
            ({"classes.csv": b"value,name\n0,a,b\n"}, "quote names with commas"),
            ({"classes.csv": b"value,name\n0,a\n0,b\n"}, "line 3 lists the value 0 again"),
            ({"classes.csv": b"value,name\n255,void\n"}, "names 255, which always means ignored"),
            ({"classes.csv": b"value,name\n0,\n"}, "names no class"),
        ],
    )
    def test_lists(self, tree: Tree, image: Encode, lists: dict[str, bytes], message: str) -> None:
        with pytest.raises(DataError, match=message):
            open_masked(tree({"images/x.png": image(), "masks/x.png": mask_png(0), **lists}))


ORIENTATIONS = range(1, 9)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_mask_fits_the_image_as_it_is_decoded(tree: Tree, orientation: int, format_name: str) -> None:
    from reinforce.views import decode_image, named_policy

    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, format_name, exif=exif)
    width, height = decode_image(buffer.getvalue(), named_policy("center", size_px=32)).size
    assert (width < height) == (orientation >= 5)
    suffix = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "TIFF": "tif"}[format_name]
    dataset = open_masked(
        tree({f"images/1.{suffix}": buffer.getvalue(), "masks/1.png": mask_png(np.ones((height, width)))})
    )
    assert dataset.read_mask(dataset.split("train")[0]).shape == (height, width)


def test_a_pair_is_image_and_mask(tree: Tree, image: Encode) -> None:
    root = tree({"images/1.png": image(7), "masks/1.png": mask_png(3)})
    dataset = open_masked(root)
    data, mask_HW = dataset.read_pair(dataset.split("train")[0])
    assert data == image(7)
    assert np.array_equal(mask_HW, dataset.read_mask(dataset.split("train")[0]))


def test_survives_pickling(tree: Tree, image: Encode) -> None:
    dataset = open_masked(tree({"images/1.png": image(), "masks/1.png": mask_png(3)}))
    again = pickle.loads(pickle.dumps(dataset))
    assert again == dataset
    assert again.read_mask(again.split("train")[0]).tolist() == [[3] * WIDTH] * HEIGHT


NAMES = st.sets(st.text("abxy.0_", min_size=1, max_size=6).filter(lambda name: name[0] != "."), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(images=NAMES, masks=NAMES, data=st.data())
def test_pairs_are_the_names_in_both_folders(
    tmp_path_factory: pytest.TempPathFactory, images: set[str], masks: set[str], data: st.DataObject
) -> None:
    """All pair, or the first that does not is named; a dot inside a name is no suffix."""
    masks = images if data.draw(st.booleans()) else masks
    root = tmp_path_factory.mktemp("pairs")
    for folder, names, suffixes in (("images", images, ("jpg", "png", "JPEG")), ("masks", masks, ("png", "PNG"))):
        (root / folder).mkdir()
        for name in names:
            (root / folder / f"{name}.{data.draw(st.sampled_from(suffixes))}").write_bytes(mask_png(1))
    if images != masks:
        with pytest.raises(MissingDataError, match=r"has no (mask|image)") as caught:
            open_masked(str(root))
        named = Path(str(caught.value).split(" has no ")[0]).stem
        assert named in (images - masks or masks - images)
        return
    dataset = open_masked(str(root))
    samples = [sample for split in dataset.splits.values() for sample in split]
    assert sorted(Path(sample.key).stem for sample in samples) == sorted(images)
    for sample in samples:
        assert dataset.mask_path(sample).stem == Path(sample.key).stem
        assert dataset.mask_path(sample).is_file()


class TestTakeMasked:
    SAMPLES = tuple(MaskedSample(0, row, f"key{row}") for row in range(20))

    @pytest.mark.parametrize(
        ("options", "count"), [({}, 20), ({"num_labelled": 7}, 7), ({"num_labelled": 99}, 20), ({"limit": 3}, 3)]
    )
    def test_counts(self, options: dict[str, int], count: int) -> None:
        assert len(take_masked(self.SAMPLES, **options)) == count

    def test_takes_the_lowest_ranks_in_listing_order(self) -> None:
        for seed in range(3):
            ranked = sorted(self.SAMPLES, key=lambda sample: hash64(f"{seed}:{sample.key}"))
            expected = tuple(sample for sample in self.SAMPLES if sample in ranked[:6])
            assert take_masked(self.SAMPLES, num_labelled=6, seed=seed) == expected
            assert take_masked(self.SAMPLES, num_labelled=6, limit=2, seed=seed) == expected[:2]

    @pytest.mark.parametrize("options", [{"num_labelled": 0}, {"limit": -1}])
    def test_bad_numbers(self, options: dict[str, int]) -> None:
        with pytest.raises(UsageError, match="leaves no samples"):
            take_masked(self.SAMPLES, **options)
