"""`build --like STORE`: another teacher over the very views of a store, ready to be averaged with it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_builds import digest_of, make_images, make_teacher, run

from reinforce.dataset import open_dataset
from reinforce.ensemble import average_logits
from reinforce.errors import MissingStoreError, TransferMismatchError, UsageError
from reinforce.store import Store

FIRST = {"views": 2, "seed": 7, "policy": "randaugment", "image_size": 24, "temperature": 2.0, "limit": 50}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_teacher(tmp_path_factory.mktemp("models") / "tiny-teacher")


@pytest.fixture(scope="module")
def first(teacher: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REINFORCE_HOME", str(folder / "home"))
        run(teacher, images, out=str(folder / "first.zarr"), **FIRST)
    return folder / "first.zarr"


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return make_teacher(tmp_path / "other", poison=2.0)


class TestLike:
    def test_gives_what_the_same_options_give(self, first: Path, other: Path, images: Path) -> None:
        """Nothing is new in the store: it saves remembering and typing."""
        run(other, images, out="like.zarr", like=str(first), views=10)
        run(other, images, out="typed.zarr", **FIRST)
        assert digest_of(Path("like.zarr")) == digest_of(Path("typed.zarr"))

    def test_gives_the_units_of_the_store(
        self, first: Path, other: Path, images: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("reinforce.planning.choose_unit_rows", lambda *_: 20)
        run(other, images, out="like.zarr", like=str(first), views=10)
        assert Store.open("like.zarr").units == Store.open(first).units

    def test_gives_an_ensemble(self, first: Path, other: Path, images: Path) -> None:
        run(other, images, out="like.zarr", like=str(first), views=10)
        together = open_dataset((first, "like.zarr"), str(images))
        alone = [open_dataset(store, str(images)) for store in (first, "like.zarr")]
        rows = together.epoch_order(0)[:20]
        expected = average_logits([dataset.load(rows, 0).targets for dataset in alone], 2.0)
        np.testing.assert_array_equal(together.load(rows, 0).targets, expected)

    def test_of_a_store_that_is_being_built_and_resumed(self, first: Path, other: Path, images: Path) -> None:
        shutil.copytree(first, "begun.zarr")
        Path("begun.zarr/manifest.json").unlink()
        for part in ("1/2", "2/2"):
            run(other, images, out="like.zarr", like="begun.zarr", views=10, shard=part)
        assert Store.open("like.zarr").units == Store.open(first).units

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"policy": "crops"}, "--policy is what --like .* says: leave it out"),
            ({"image_size": 24}, "--image-size is what --like"),
            ({"views": 3}, "--views 3 contradicts --like .*, which has 2"),
            ({"seed": 8}, "--seed 8 contradicts"),
            ({"target": "text-features", "views": 10}, "--like is of views, and captions have none"),
        ],
    )
    def test_contradictions_are_refused(
        self, changes: dict[str, Any], words: str, first: Path, other: Path, images: Path
    ) -> None:
        with pytest.raises(UsageError, match=words):
            run(other, images, **{"like": str(first), "views": 10, **changes})

    def test_another_transfer_set_is_refused(self, first: Path, other: Path, tmp_path: Path) -> None:
        fewer = make_images(tmp_path / "fewer", num=49)
        with pytest.raises(TransferMismatchError, match=r"is not that of .*first\.zarr"):
            run(other, fewer, like=str(first), views=10)
        assert not Path("out.zarr").exists()

    def test_units_that_memory_does_not_hold_are_refused(
        self, first: Path, other: Path, images: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("reinforce.units.BYTES_PER_TARGET", 1 << 22)
        with pytest.raises(UsageError, match=r"rows: type --unit-budget-mb \d+ or more"):
            run(other, images, like=str(first), views=10)

    def test_a_store_that_is_not_there(self, other: Path, images: Path) -> None:
        with pytest.raises(MissingStoreError):
            run(other, images, like="nowhere.zarr", views=10)
