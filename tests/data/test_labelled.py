from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from reinforce.data import LabelledDataset, open_labelled
from reinforce.data.labelled import tar_split
from reinforce.errors import DataError, UnknownNameError

Tree = Callable[[Mapping[str, bytes]], str]
Encode = Callable[..., bytes]


def labels(dataset: LabelledDataset) -> dict[str, dict[str, str]]:
    """split -> key -> class name"""
    return {
        name: {sample.key: dataset.class_names[sample.label] for sample in samples}
        for name, samples in dataset.splits.items()
    }


def folders(paths: str) -> dict[str, bytes]:
    """ "a/1 b/2" -> a tree of such images, each with bytes of its own."""
    return {f"{path}.png": path.encode() for path in paths.split()}


class TestImageFolder:
    @pytest.mark.parametrize(
        ("paths", "classes", "split_sizes"),
        [
            pytest.param("cat/1 cat/2 cat/3 dog/1", "cat dog", {"train": 2, "val": 1, "test": 1}, id="no splits"),
            pytest.param(
                "train/a/1 train/b/2 val/a/3 test/b/4 test/a/5", "a b", {"train": 2, "val": 1, "test": 2}, id="all"
            ),
            pytest.param("train/a/1 train/a/2 test/a/3", "a", {"train": 1, "val": 1, "test": 1}, id="val is cut"),
            pytest.param("train/a/1 valid/a/2", "a", {"train": 1, "val": 1}, id="valid is val"),
            pytest.param("train/a/1 validation/a/2", "a", {"train": 1, "val": 1}, id="validation is val"),
            pytest.param("train/a/1 train/a/2 train/a/3", "a", {"train": 1, "val": 1, "test": 1}, id="train only"),
            pytest.param(
                "train/1 car/1 car/2", "car train", {"train": 2, "val": 1, "test": 0}, id="a class named train"
            ),
            pytest.param("a/x/1 a/y/2 b/3", "a b", {"train": 2, "val": 1, "test": 0}, id="nested class folders"),
            pytest.param("stray a/1 b/2", "a b", {"train": 2, "val": 0, "test": 0}, id="images outside of classes"),
            pytest.param(
                "train/a/1 train/a/2 extra/a/9", "a", {"train": 1, "val": 1, "test": 0}, id="folders beside train"
            ),
            pytest.param("B/1 a/2 A/3", "A B a", {"train": 3, "val": 0, "test": 0}, id="classes by code point"),
        ],
    )
    def test_layouts(self, tree: Tree, paths: str, classes: str, split_sizes: dict[str, int]) -> None:
        dataset = open_labelled(tree(folders(paths)))
        assert " ".join(dataset.class_names) == classes
        assert {name: len(samples) for name, samples in dataset.splits.items()} == split_sizes

    def test_data_to_evaluate_on_needs_no_train(self, tree: Tree) -> None:
        root = tree(folders("test/a/1 test/b/2"))
        dataset = open_labelled(root, needs_train=False)
        assert dataset.class_names == ("a", "b")
        assert labels(dataset) == {"test": {"test/a/1.png": "a", "test/b/2.png": "b"}}
        with pytest.raises(DataError, match="no train"):
            open_labelled(root)

    def test_samples_point_at_their_images(self, tree: Tree) -> None:
        dataset = open_labelled(tree(folders("train/a/1 train/b/2 val/a/3 test/b/4")))
        assert labels(dataset) == {
            "train": {"train/a/1.png": "a", "train/b/2.png": "b"},
            "val": {"val/a/3.png": "a"},
            "test": {"test/b/4.png": "b"},
        }
        for samples in dataset.splits.values():
            for sample in samples:
                assert dataset.source.read(sample.shard, sample.row) == sample.key.removesuffix(".png").encode()

    @pytest.mark.parametrize(
        ("paths", "message"),
        [
            pytest.param("1 2", "has no class folders", id="flat"),
            pytest.param("train/1 test/2", "has no class folders", id="flat splits"),
            pytest.param("train/a/1 test/b/2", "class 'b' has no image in train", id="class missing in train"),
            pytest.param("val/a/1 test/a/2", "has test and val but no train", id="no train"),
            pytest.param("train/a/1 val/a/2 valid/a/3", "has both val/ and valid/", id="two names of one split"),
        ],
    )
    def test_what_cannot_be_used(self, tree: Tree, paths: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            open_labelled(tree(folders(paths)))

    def test_an_unknown_split_lists_those_there_are(self, tree: Tree) -> None:
        dataset = open_labelled(tree(folders("train/a/1 val/a/2")))
        assert [sample.key for sample in dataset.split("val")] == ["val/a/2.png"]
        with pytest.raises(UnknownNameError, match=r"^unknown split of set 'test'; known: train, val$"):
            dataset.split("test")

    def test_survives_pickling(self, tree: Tree) -> None:
        dataset = open_labelled(tree(folders("a/1 a/2 b/3")))
        assert pickle.loads(pickle.dumps(dataset)) == dataset


class TestCsv:
    @pytest.mark.parametrize(
        ("text", "classes", "split_sizes"),
        [
            pytest.param("1.png,b\n2.png,a\n", "a b", {"train": 2, "val": 0, "test": 0}, id="two columns"),
            pytest.param("1.png,10\n2.png,9\n3.png,-1\n", "-1 9 10", {"train": 3, "val": 0, "test": 0}, id="integers"),
            pytest.param(
                "1.png,10\n2.png,9\n3.png,x\n", "10 9 x", {"train": 3, "val": 0, "test": 0}, id="not all integers"
            ),
            pytest.param("1.png,a,train\n2.png,a,Validation\n", "a", {"train": 1, "val": 1}, id="splits"),
            pytest.param(
                "split,path,label\ntrain,1.png,a\ntest,2.png,a\n", "a", {"train": 1, "val": 0, "test": 1}, id="header"
            ),
        ],
    )
    def test_lists(self, tree: Tree, text: str, classes: str, split_sizes: dict[str, int]) -> None:
        dataset = open_labelled(tree({"list.csv": text.encode()}) + "/list.csv")
        assert " ".join(dataset.class_names) == classes
        assert {name: len(samples) for name, samples in dataset.splits.items()} == split_sizes

    def test_labels_stay_with_their_paths(self, tree: Tree) -> None:
        dataset = open_labelled(tree({"list.csv": b"2.png,a,train\n1.png,b,train\n3.png,a,val\n"}) + "/list.csv")
        assert labels(dataset) == {"train": {"2.png": "a", "1.png": "b"}, "val": {"3.png": "a"}}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param("1.png\n", "'1.png' has no label", id="no label"),
            pytest.param("1.png,a,training\n", "has the split 'training': write one of train", id="unknown split"),
            pytest.param(
                "1.png,a,train\n2.png,a\n", "some rows have a split and some have none", id="half of a column"
            ),
        ],
    )
    def test_what_cannot_be_used(self, tree: Tree, text: str, message: str) -> None:
        with pytest.raises(DataError, match=message):
            open_labelled(tree({"list.csv": text.encode()}) + "/list.csv")


class TestTars:
    @pytest.fixture
    def members(self, image: Encode) -> dict[str, bytes]:
        return {"0.png": image(0), "0.cls": b"1", "1.png": image(1), "1.cls": b" 0\n", "2.cls": b"0", "2.png": image(2)}

    def test_numbered_classes(self, tree: Tree, tar: Encode, members: dict[str, bytes]) -> None:
        dataset = open_labelled(tree({"0.tar": tar(members)}))
        assert dataset.class_names == ("c0", "c1")
        merged = {key: name for part in labels(dataset).values() for key, name in part.items()}
        assert merged == {"0/0": "c1", "0/1": "c0", "0/2": "c0"}
        assert {name: len(samples) for name, samples in dataset.splits.items()} == {"train": 2, "val": 1, "test": 0}

    def test_named_classes_and_splits(self, tree: Tree, tar: Encode, members: dict[str, bytes]) -> None:
        location = tree(
            {
                "train-0.tar": tar(members),
                "test-0.tar": tar(members),
                "classes.txt": b"\xef\xbb\xbfankle boot\nt-shirt/top\n",
            }
        )
        dataset = open_labelled(location)
        assert dataset.class_names == ("ankle boot", "t-shirt/top")
        assert {name: len(samples) for name, samples in dataset.splits.items()} == {"train": 2, "val": 1, "test": 3}
        assert labels(dataset)["test"] == {
            "test-0/0": "t-shirt/top",
            "test-0/1": "ankle boot",
            "test-0/2": "ankle boot",
        }

    @pytest.mark.parametrize(
        ("name", "split"),
        [
            ("train-00000.tar", "train"),
            ("val_3.tar", "val"),
            ("test.tar", "test"),
            ("validation/00000.tar", "val"),
            ("imagenet1k-train-0001.tar", "train"),
            ("00000.tar", None),
            ("training-0.tar", None),
            ("retest-0.tar", None),
        ],
    )
    def test_split_of_a_tar(self, name: str, split: str | None) -> None:
        assert tar_split(name) == split

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param({"3.png": b""}, "'0/3' has no .cls member", id="no class"),
            pytest.param({"0.cls": b"cat"}, "the .cls of '0/0' is b'cat'", id="not a number"),
            pytest.param({"0.cls": b"104729031"}, "the .cls of '0/0' is b'104729031'", id="a number of no class"),
            pytest.param({"0.cls": b"3"}, "class 'c1' has no image in train .2 such", id="a gap in the ids"),
        ],
    )
    def test_what_cannot_be_used(
        self, tree: Tree, tar: Encode, members: dict[str, bytes], change: dict[str, bytes], message: str
    ) -> None:
        with pytest.raises(DataError, match=message):
            open_labelled(tree({"0.tar": tar(members | change)}))

    @pytest.mark.parametrize(
        ("names", "message"),
        [
            pytest.param(b"a\n", "class id 1 is beyond the 1 names in classes.txt", id="too few"),
            pytest.param(b"a\na\n", "names the class 'a' twice", id="twice"),
            pytest.param(b"a\n\nb\n", r"classes\.txt line 2 is empty: write the name of class 1", id="a gap"),
            pytest.param(b"\xff\xfe", r"classes\.txt is not UTF-8", id="UTF-16"),
            pytest.param(b"a\nb\nc\n", "class 'c' has no image in train", id="a name without images"),
        ],
    )
    def test_bad_class_names(
        self, tree: Tree, tar: Encode, members: dict[str, bytes], names: bytes, message: str
    ) -> None:
        with pytest.raises(DataError, match=message):
            open_labelled(tree({"0.tar": tar(members), "classes.txt": names}))

    def test_some_tars_with_a_split_and_some_without(self, tree: Tree, tar: Encode, members: dict[str, bytes]) -> None:
        with pytest.raises(DataError, match=r"'x\.tar' does not say its split"):
            open_labelled(tree({"train-0.tar": tar(members), "x.tar": tar(members)}))


def test_one_split_is_no_labelled_dataset(tree: Tree) -> None:
    whole = tree({"train/a/1.png": b"", "test/a/2.png": b""})
    with pytest.raises(DataError, match=r"labelled data are named whole.*leave @train out"):
        open_labelled(f"{whole}@train")


def test_unlabelled_and_labelled_see_the_same_images(tree: Tree) -> None:
    dataset = open_labelled(tree(folders("a/1 b/2 stray")))
    assert [key for shard in dataset.source.shards for key in shard.keys] == ["a/1.png", "b/2.png", "stray.png"]
    assert Path(dataset.name) == Path("set")
