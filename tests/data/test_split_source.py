"""`DATA@SPLIT`: one split of a dataset as a transfer set."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from reinforce import catalog
from reinforce.data import freeze, open_labelled, open_source
from reinforce.errors import DataError, MissingDataError, UnknownNameError

Files = Mapping[str, bytes]
Tree = Callable[[Files], str]


def images(paths: str) -> dict[str, bytes]:
    return {f"{path}.png": path.encode() for path in paths.split()}


def keys(location: str) -> list[str]:
    return [key for shard in open_source(location).shards for key in shard.keys]


SPLITS = images("train/a/1 train/b/2 val/a/3 test/a/4 test/b/5")
MASKED = images("train/images/1 train/masks/1 test/images/2 test/masks/2 test/images/3 test/masks/3")
MASKED["classes.txt"] = b"ground\nthing\n"
LAND = ("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop",
        "Residential", "River", "SeaLake")  # fmt: skip
EUROSAT = images(" ".join(f"2750/{name}/{name}_{number}" for name in LAND for number in range(10)))


@pytest.mark.parametrize(
    ("files", "suffix", "expected"),
    [
        (SPLITS, "@train", ["train/a/1.png", "train/b/2.png"]),
        (SPLITS, "@val", ["val/a/3.png"]),
        (SPLITS, "@test", ["test/a/4.png", "test/b/5.png"]),
        (MASKED, "@test", ["test/images/2.png", "test/images/3.png"]),
    ],
    ids=["train", "val", "test", "masks"],
)
def test_it_has_the_images_of_the_split(tree: Tree, files: Files, suffix: str, expected: list[str]) -> None:
    source = open_source(tree(files) + suffix)
    assert [key for shard in source.shards for key in shard.keys] == expected
    for number, shard in enumerate(source.shards):
        assert [source.read(number, row) for row in range(len(shard.keys))] == [files[key] for key in shard.keys]
    assert source.name == f"set-{suffix[1:]}"
    assert pickle.loads(pickle.dumps(source)) == source
    assert freeze(source).keys == tuple(expected)


def test_the_papers_split_leaves_out_what_is_tested_on(tree: Tree) -> None:
    location = tree(EUROSAT)
    dataset = open_labelled(location)
    assert keys(f"{location}@train") == [sample.key for sample in dataset.split("train")]
    assert len(keys(f"{location}@train")) == len(EUROSAT) // 10


def test_of_tars(tree: Tree, tar: Callable[[Files], bytes]) -> None:
    members = {"0.png": b"0", "0.cls": b"0", "1.png": b"1", "1.cls": b"1"}
    location = tree({"train-0.tar": tar(members), "train-1.tar": tar(members), "test-0.tar": tar(members)})
    source = open_source(f"{location}@test")
    assert [shard.name for shard in source.shards] == ["test-0.tar"]
    assert source.read(0, 1) == b"1"


class TestCatalog:
    @pytest.fixture
    def work(self, tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))
        tree(SPLITS)
        (tmp_path / "reinforce.toml").write_text('[data]\nland = "set"\nland-train = "set@train"\ngone = "gone"\n')
        monkeypatch.chdir(tmp_path)
        return tmp_path

    @pytest.mark.parametrize(
        ("name", "short"),
        [
            ("land@train", "land-train"),
            ("land-train", "land-train"),
            ("set@train", "set-train"),
            ("./set@train", "set-train"),
        ],
        ids=["a name", "an entry", "a folder", "a path"],
    )
    def test_a_split_can_be_typed_or_registered(self, work: Path, name: str, short: str) -> None:
        entry = catalog.resolve_data(name)
        assert entry.name == short
        assert keys(str(entry.path)) == ["train/a/1.png", "train/b/2.png"]

    def test_a_place_is_remembered_with_its_split(self, work: Path) -> None:
        catalog.remember_location("d", "set@test")
        location = catalog.locate("d")
        assert location is not None
        assert catalog.is_there(location)
        assert keys(location) == ["test/a/4.png", "test/b/5.png"]

    def test_a_folder_of_that_very_name_is_itself(self, work: Path) -> None:
        (work / "set").rename(work / "x@train")
        assert catalog.resolve_data("./x@train").name == "x@train"
        assert len(keys(str(work / "x@train"))) == 5

    @pytest.mark.parametrize(
        ("name", "error", "message"),
        [
            ("nowhere@train", UnknownNameError, "unknown data 'nowhere'"),
            ("gone@train", MissingDataError, "is not there"),
            ("./gone@test", MissingDataError, "is not there"),
        ],
    )
    def test_what_is_not_there(self, work: Path, name: str, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            catalog.resolve_data(name)


@pytest.mark.parametrize(
    ("paths", "suffix", "error", "message"),
    [
        ("train/a/1 val/a/2", "@test", UnknownNameError, "unknown split of set 'test'; known: train, val"),
        ("a/1", "@val", DataError, "has no images in its split val"),
        ("1 2", "@train", DataError, "has no class folders"),
    ],
    ids=["no such split", "an empty split", "no labels"],
)
def test_a_split_that_is_not_there(tree: Tree, paths: str, suffix: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        open_source(tree(images(paths)) + suffix)
