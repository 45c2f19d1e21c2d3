"""Captions of images: every layout passes CaptionedContract; below it, what each adds and what is refused."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from reinforce.data import CaptionedSource, open_captioned, open_source
from reinforce.data.captions import MAX_CAPTION_BYTES, captions_sha256, parse_captions
from reinforce.errors import DataError, MissingDataError

Tree = Callable[[Mapping[str, bytes]], str]
Encode = Callable[..., bytes]

CAPTIONS = {"a": ("a red square",), "b": ("zwei Hände",), "c": ("first", "second")}
"""Image -> captions; those of "a" in plain text, of "c" several."""


def as_json(*captions: str) -> bytes:
    return json.dumps({"key": "7", "caption": list(captions), "status": "success"}).encode()


def all_captions(source: CaptionedSource) -> dict[str, tuple[str, ...]]:
    return {
        key: source.captions(number, row)
        for number, shard in enumerate(source.images.shards)
        for row, key in enumerate(shard.keys)
    }


class CaptionedContract:
    """Subclasses give `location`: where the three images of CAPTIONS lie, and `keys`: their keys in that order."""

    keys: tuple[str, str, str]

    def test_every_image_has_its_captions(self, location: str) -> None:
        assert all_captions(open_captioned(location)) == dict(zip(self.keys, CAPTIONS.values(), strict=True))

    def test_the_images_are_those_of_the_plain_source(self, location: str) -> None:
        assert open_captioned(location).images.shards == open_source(location).shards

    def test_survives_pickling(self, location: str) -> None:
        source = open_captioned(location)
        assert all_captions(pickle.loads(pickle.dumps(source))) == all_captions(source)

    def test_a_digest_of_its_captions_can_be_computed_by_anyone(self, location: str) -> None:
        content = "".join(f"{key}\0{texts[0]}\0" for key, texts in zip(self.keys, CAPTIONS.values(), strict=True))
        expected = hashlib.sha256(content.encode()).hexdigest()
        assert captions_sha256(open_captioned(location), 3) == expected
        assert captions_sha256(open_captioned(location), 2) != expected


class TestFolder(CaptionedContract):
    keys = ("a.png", "b.v2.jpg", "x/c.png")

    @pytest.fixture
    def location(self, tree: Tree, image: Encode) -> str:
        texts = {
            "a.txt": b"a red square\n",
            "b.v2.txt": "\ufeffzwei Hände".encode(),
            "x/c.json": as_json("first", "second"),
        }
        return tree({**{key: image(i) for i, key in enumerate(self.keys)}, **texts, "a.json": as_json("not this")})


class TestTars(CaptionedContract):
    keys = ("set/a", "set/b", "set/x/c")

    @pytest.fixture
    def location(self, tree: Tree, image: Encode, tar: Encode) -> str:
        members = {
            "a.png": image(0),
            "a.json": as_json("not this"),
            "a.txt": b"a red square",
            "b.v2.jpg": image(1),
            "b.v2.txt": "zwei Hände".encode(),
            "./x/c.json": as_json("first", "second"),
            "./x/c.png": image(2),
        }
        return tree({"set.tar": tar(members)}) + "/set.tar"

    def test_another_field_of_the_same_key_is_no_caption(self, tree: Tree, image: Encode, tar: Encode) -> None:
        """WebDataset: a key ends at the first dot, so that 1.seg.txt is the field "seg.txt" of sample 1."""
        location = tree({"set.tar": tar({"1.png": image(), "1.seg.txt": b"no caption"})})
        with pytest.raises(DataError, match="image 'set/1' of set has no caption"):
            open_captioned(location)

    def test_a_name_with_dots_may_have_the_caption_of_its_key(self, tree: Tree, image: Encode, tar: Encode) -> None:
        location = tree({"set.tar": tar({"1.txt": b"one", "1.v2.png": image()})})
        assert all_captions(open_captioned(location)) == {"set/1": ("one",)}


class TestSplitOfAFolder(CaptionedContract):
    """Images without captions belong to other splits."""

    keys = ("train/x/a.png", "train/x/b.png", "train/y/c.png")

    @pytest.fixture
    def location(self, tree: Tree, image: Encode) -> str:
        texts = {"train/x/a.txt": b"a red square", "train/x/b.txt": "zwei Hände".encode(),
                 "train/y/c.json": as_json("first", "second")}  # fmt: skip
        images = {key: image(i) for i, key in enumerate(("test/x/0.png", *self.keys, "val/x/1.png"))}
        return tree({**images, **texts}) + "@train"

    def test_an_image_without_a_caption_is_named(self, location: str) -> None:
        Path(location.removesuffix("@train"), "train/x/b.txt").unlink()
        with pytest.raises(DataError, match=r"image 'train/x/b\.png' of set-train has no caption"):
            open_captioned(location)


class TestSplitOfTars(CaptionedContract):
    keys = ("train-0/a", "train-0/b", "train-1/c")

    @pytest.fixture
    def location(self, tree: Tree, image: Encode, tar: Encode) -> str:
        first = {"a.png": image(0), "a.cls": b"0", "a.txt": b"a red square",
                 "b.png": image(1), "b.cls": b"0", "b.txt": "zwei Hände".encode()}  # fmt: skip
        second = {"c.png": image(2), "c.cls": b"1", "c.json": as_json("first", "second")}
        other = {"d.png": image(3), "d.cls": b"0"}
        return tree({"test-0.tar": tar(other), "train-0.tar": tar(first), "train-1.tar": tar(second),
                     "val-0.tar": tar(other)}) + "@train"  # fmt: skip


class TestSplitOfACsv(CaptionedContract):
    keys = ("a.png", "b.png", "x/c.png")

    @pytest.fixture
    def location(self, tree: Tree, image: Encode) -> str:
        rows = ("path,label,split,caption\n0.png,p,test,\na.png,p,train,a red square\n1.png,p,val,\n"
                "b.png,p,train,zwei Hände\nx/c.png,q,train,first\nx/c.png,q,train,second\n")  # fmt: skip
        images = {key: image(i) for i, key in enumerate(self.keys)}
        return tree({**images, "pairs.csv": rows.encode()}) + "/pairs.csv@train"


class TestCsv(CaptionedContract):
    keys = ("a.png", "b.png", "x/c.png")

    @pytest.fixture
    def location(self, tree: Tree, image: Encode) -> str:
        rows = "path,caption\na.png, a red square \nb.png,zwei Hände\nx/c.png,first\na.png,\nx/c.png,second\n"
        return tree({**{key: image(i) for i, key in enumerate(self.keys)}, "pairs.csv": rows.encode()}) + "/pairs.csv"

    def test_a_caption_may_hold_commas_and_lines(self, tree: Tree) -> None:
        location = tree({"pairs.csv": b'caption,path\n"one, two\nthree",a.png\n'}) + "/pairs.csv"
        assert all_captions(open_captioned(location)) == {"a.png": ("one, two\nthree",)}


@pytest.mark.parametrize(
    ("files", "key"),
    [
        pytest.param({"a.png": b"", "a.txt": b"x", "b.png": b"", "c.png": b""}, "b.png", id="folder"),
        pytest.param({"cat/1.png": b"", "dog/2.png": b""}, "cat/1.png", id="a folder of classes"),
        pytest.param({"pairs.csv": b"path,label\na.png,cat\n"}, "a.png", id="csv without captions"),
        pytest.param({"pairs.csv": b"path,caption\na.png,x\nb.png,\n"}, "b.png", id="csv, an empty cell"),
    ],
)
def test_the_first_image_without_a_caption_is_named(tree: Tree, files: Mapping[str, bytes], key: str) -> None:
    location = tree(files) + ("/pairs.csv" if "pairs.csv" in files else "")
    with pytest.raises(DataError, match=rf"^image '{key}' of \w+ has no caption: expected .*path,caption$") as caught:
        open_captioned(location)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "data", "message"),
    [
        pytest.param("txt", b"caf\xe9", r"the \.txt of 'k' is not UTF-8 \(byte 3\)", id="latin-1"),
        pytest.param("txt", b" \n", "'k' has an empty caption", id="white space"),
        pytest.param("txt", b"x" * (MAX_CAPTION_BYTES + 1), "more than a caption has", id="a large file"),
        pytest.param("json", b"{", r"the \.json of 'k' is not JSON", id="cut off"),
        pytest.param("json", b"[" * 100_000, r"the \.json of 'k' is not JSON", id="deep nesting"),
        pytest.param("json", b"[]", "'k' has an empty caption", id="no object"),
        pytest.param("json", b'{"caption": null}', "'k' has an empty caption", id="null, as img2dataset writes"),
        pytest.param("json", b'{"caption": [1]}', "neither a string nor a list of strings", id="a number"),
        pytest.param("json", b'{"caption": "\\ud800"}', "'k' is not valid Unicode", id="a lone surrogate"),
    ],
)
def test_what_is_no_caption_is_one_line_with_the_key(suffix: str, data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        parse_captions(data, suffix, "k")
    assert "\n" not in str(caught.value)


def test_a_caption_that_has_gone_since_is_named(tree: Tree, image: Encode) -> None:
    location = tree({"a.png": image(), "a.txt": b"x"})
    source = open_captioned(location)
    Path(location, "a.txt").unlink()
    with pytest.raises(DataError, match=r"image 'a\.png' of set has no caption"):
        source.captions(0, 0)


def test_a_location_that_is_not_there_is_missing_data(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="not there"):
        open_captioned(f"{tmp_path}/gone")
