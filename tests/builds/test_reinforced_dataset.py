"""The join of pixels and targets: an order that nobody can change, and images that must be the teacher's."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_builds import VIEWS, make_images, run

from reinforce.dataset import HELD_OUT_SHARE, ReinforcedDataset, open_dataset
from reinforce.errors import MissingDataError, TransferMismatchError, UnfinishedStoreError
from reinforce.store import STATE_OK
from reinforce.views.fingerprint import pixels_checksum


@pytest.fixture(scope="module")
def place(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a transfer set and its store."""
    folder = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REINFORCE_HOME", str(folder / "home"))
        run(teacher, make_images(folder / "mine"), out=str(folder / "mine.zarr"))
    return folder


@pytest.fixture
def dataset(place: Path) -> ReinforcedDataset:
    return open_dataset(place / "mine.zarr", str(place / "mine"))


@pytest.fixture
def changed(place: Path, tmp_path: Path) -> Path:
    """A copy of the transfer set, to be spoiled."""
    return Path(shutil.copytree(place / "mine", tmp_path / "mine"))


class TestOrder:
    @pytest.mark.parametrize("window", [1, 2, 8])
    def test_every_training_row_comes_once(self, dataset: ReinforcedDataset, window: int) -> None:
        order = dataset.epoch_order(epoch=3, seed=1, window=window)
        rows = np.flatnonzero(dataset.states == STATE_OK)
        assert sorted(order.tolist()) == sorted(set(rows.tolist()) - set(dataset.held_out().tolist()))

    def test_it_depends_on_seed_and_epoch_alone(self, dataset: ReinforcedDataset) -> None:
        again = pickle.loads(pickle.dumps(dataset))
        assert dataset.epoch_order(2, seed=5).tolist() == again.epoch_order(2, seed=5).tolist()
        assert dataset.epoch_order(2, seed=5).tolist() != dataset.epoch_order(3, seed=5).tolist()
        assert dataset.epoch_order(2, seed=5).tolist() != dataset.epoch_order(2, seed=6).tolist()

    @pytest.mark.parametrize("batch_size", [1, 7, 1000])
    def test_batches_are_the_order_cut_up(self, dataset: ReinforcedDataset, batch_size: int) -> None:
        batches = list(dataset.batches(epoch=2, batch_size=batch_size, seed=3))
        order = dataset.epoch_order(2, seed=3)
        assert np.concatenate([batch.rows for batch in batches]).tolist() == order.tolist()
        assert {len(batch.rows) for batch in batches[:-1]} <= {batch_size}
        some = batches[len(batches) // 2]
        again = dataset.load(some.rows, epoch=2)
        np.testing.assert_array_equal(some.images, again.images)
        np.testing.assert_array_equal(some.targets, again.targets)

    def test_few_units_hold_out_every_twentieth_row(self, dataset: ReinforcedDataset) -> None:
        assert len(dataset.held_out()) == dataset.num_samples // HELD_OUT_SHARE

    def test_the_views_of_a_row_take_turns(self, dataset: ReinforcedDataset) -> None:
        rows = dataset.epoch_order(0)
        seen = np.stack([dataset.view_index(rows, epoch) for epoch in range(VIEWS)])
        assert (np.sort(seen, axis=0) == np.arange(VIEWS)[:, None]).all()


class TestPixels:
    def test_batches_do_not_depend_on_how_they_are_cut(self, dataset: ReinforcedDataset) -> None:
        rows = dataset.epoch_order(1)[:24]
        whole = dataset.load(rows, epoch=1)
        for part in np.split(np.arange(24), 6):
            batch = pickle.loads(pickle.dumps(dataset)).load(rows[part], epoch=1)
            assert (batch.images == whole.images[part]).all()
            assert (batch.targets == whole.targets[part]).all()

    def test_probe_views_replay(self, dataset: ReinforcedDataset) -> None:
        report = dataset.check_replay(num=100, exact=True)
        assert report.is_identical
        assert report.num_probes > 30


REPLAY = """
import json, sys
import numpy as np
from reinforce.dataset import open_dataset
from reinforce.views.fingerprint import pixels_checksum
dataset = open_dataset(sys.argv[1], sys.argv[2])
pairs = [(epoch, row) for epoch in range(dataset.num_views) for row in np.flatnonzero(dataset.states == 0).tolist()]
pairs = sorted(pairs, key=lambda pair: hash(pair))[::-1]
sums = {f"{epoch}:{row}": pixels_checksum(dataset.load(np.array([row]), epoch).images[0]) for epoch, row in pairs}
json.dump(sums, sys.stdout)
"""


def test_a_thousand_views_replay_in_another_process_in_another_order(teacher: Path, tmp_path: Path) -> None:
    images = make_images(tmp_path / "many", num=125)
    run(teacher, images, views=8, image_size=48)
    argv = [sys.executable, "-c", REPLAY, "out.zarr", str(images)]
    elsewhere = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True).stdout)
    dataset = open_dataset("out.zarr", str(images))
    rows = np.flatnonzero(dataset.states == STATE_OK)
    here = {}
    for epoch in range(8):
        views = dataset.load(rows, epoch).images
        here |= {f"{epoch}:{row}": pixels_checksum(view) for row, view in zip(rows, views, strict=True)}
    assert len(here) == 1000
    assert sum(elsewhere[pair] == checksum for pair, checksum in here.items()) == 1000


class TestTheWrongSet:
    def test_a_replaced_image_is_named_when_it_is_read(self, place: Path, changed: Path) -> None:
        shutil.copy(changed / "a" / "000.png", changed / "b" / "037.png")
        dataset = open_dataset(place / "mine.zarr", str(changed))
        with pytest.raises(TransferMismatchError, match=r"b/037\.png"):
            dataset.load(np.flatnonzero(dataset.states == STATE_OK), epoch=0)

    @pytest.mark.parametrize("how", ["removed", "added", "renamed"])
    def test_another_listing_is_refused_when_it_is_opened(self, how: str, place: Path, changed: Path) -> None:
        image = changed / "b" / "037.png"
        {
            "removed": lambda: image.unlink(),
            "added": lambda: shutil.copy(image, image.with_name("999.png")),
            "renamed": lambda: image.rename(image.with_name("998.png")),
        }[how]()
        with pytest.raises(TransferMismatchError, match={"added": "b/999.png"}.get(how, "b/037.png")):
            open_dataset(place / "mine.zarr", str(changed))

    def test_an_unknown_place_says_what_to_type(self, place: Path) -> None:
        with pytest.raises(MissingDataError, match="--transfer"):
            open_dataset(place / "mine.zarr")

    def test_an_unfinished_store_says_what_to_type(self, teacher: Path, images: Path) -> None:
        run(teacher, images, shard="1/2")
        with pytest.raises(UnfinishedStoreError, match="--resume"):
            open_dataset("out.zarr", str(images))


def test_a_build_remembers_where_its_transfer_set_lies(teacher: Path, images: Path) -> None:
    run(teacher, images)
    Path("out.zarr").rename("moved.zarr")
    assert open_dataset("moved.zarr").source.name == "shapes"
