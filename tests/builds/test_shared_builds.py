"""Stores of real builds on an object store: trained from in place, and parts of them, to the last pixel."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from faulty_proxy import CUT, FAIL
from s3_server import Bucket
from test_remote_transfer import call
from tiny_builds import ROWS_ONLY, digest_of, run

from reinforce.audit import VerifyConfig
from reinforce.audit import verify as verify_verb
from reinforce.command import run_group
from reinforce.dataset import ReinforcedDataset, open_dataset
from reinforce.errors import ReplayDriftError, TransferMismatchError, UsageError
from reinforce.inspect_store import InspectConfig, inspect
from reinforce.pack import PackConfig, pack
from reinforce.pull import PullConfig, pull
from reinforce.push import PushConfig, push
from reinforce.store import Store
from train.cli import command as train_command

VIEWS = 3


@pytest.fixture(scope="module")
def packed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four tars."""
    folder = tmp_path_factory.mktemp("transfer") / "packed"
    pack(PackConfig(transfer=str(images), out=str(folder), shard_size=20, quiet=True))
    return folder


@pytest.fixture(scope="module")
def whole(teacher: Path, packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of them, several units a tar."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REINFORCE_HOME", str(folder / "home"))
        run(teacher, packed, out=str(folder / "out.zarr"))
    return folder / "out.zarr"


@pytest.fixture
def far(whole: Path, bucket: Bucket) -> str:
    url = f"{bucket.url}/out.zarr"
    push(PushConfig(store=str(whole), destination=url, quiet=True))
    return url


def check_pairs(part: ReinforcedDataset, whole: ReinforcedDataset, first_view: int, first_row: int) -> None:
    """Every image and target of the part is the whole's."""
    rows = np.flatnonzero(part.states == 0)
    for view in range(part.num_views):
        for row in rows.tolist():
            epoch = next(e for e in range(part.num_views) if part.view_index(np.array([row]), e)[0] == view)
            found = part.load(np.array([row]), epoch)
            unit, local = divmod(first_row + row, whole.store.unit_rows)
            old_view = first_view + view
            assert np.array_equal(found.images[0], whole.replayer(unit).view(local, old_view))
            expected = whole.targets.read(np.array([first_row + row]), np.array([old_view]))
            assert np.array_equal(found.targets.reshape(expected.shape), expected)


class TestInPlace:
    def test_batches_are_those_of_the_folder(self, whole: Path, far: str, packed: Path, bucket: Bucket) -> None:
        here, there = open_dataset(whole, str(packed)), open_dataset(far, str(packed))
        bucket.proxy.faults.extend(["", FAIL, "", CUT])
        for expected, found in zip(here.batches(1, 16), pickle.loads(pickle.dumps(there)).batches(1, 16), strict=True):
            assert np.array_equal(expected.images, found.images)
            assert np.array_equal(expected.targets, found.targets)

    def test_objects_are_asked_for_once(self, far: str, packed: Path, bucket: Bucket) -> None:
        bucket.proxy.requests.clear()
        dataset = open_dataset(far, str(packed))
        for epoch in range(VIEWS):
            for _ in dataset.batches(epoch, 16):
                pass
        asked = [path for path, _ in bucket.requests() if "?" not in path]
        assert sorted(set(asked)) == sorted(asked)

    @ROWS_ONLY
    def test_a_student_learns_from_it(self, far: str, packed: Path, capsys: pytest.CaptureFixture[str]) -> None:
        argv = ["distill", "--cache", far, "--transfer", str(packed), "--student", "mobilevitv2_050",
                "--image-size", "32", "--steps", "2", "--batch-size", "8", "--workers", "1", "--out", "student",
                "--quiet", "--json"]  # fmt: skip
        assert run_group(train_command, argv) == 0
        assert json.loads(capsys.readouterr().out)["store_digest"] == Store.open(far).manifest.digest

    def test_inspect_and_verify(self, whole: Path, far: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert call(["inspect", far], capsys)[0] == 0
        seen = [inspect(InspectConfig(store=store)).to_json() for store in (str(whole), far)]
        assert [one.pop("path") for one in seen] == [str(whole), far]
        assert seen[0] == seen[1]
        assert verify_verb(VerifyConfig(store=far)).ok

    def test_it_is_repaired_where_it_was_built(self, far: str, capsys: pytest.CaptureFixture[str]) -> None:
        status, err = call(["verify", far, "--repair"], capsys)
        assert status == 2
        assert "repair the store where it was built, then push it there with --repair" in err


class TestParts:
    @pytest.mark.parametrize(("views", "shards"), [("1:3", None), ("0:2", "1:3"), ("2:3", "3:4"), (None, "2:4")])
    def test_pixels_and_targets_are_the_wholes(
        self, whole: Path, far: str, packed: Path, teacher: Path, views: str | None, shards: str | None
    ) -> None:
        pull(PullConfig(source=far, out="part.zarr", views=views, shards=shards, quiet=True))
        first_view, first_shard = int((views or "0")[0]), int((shards or "0")[0])
        source = open_dataset(whole, str(packed))
        first_unit = next(unit for unit, (shard, _, _) in enumerate(source.store.units) if shard == first_shard)
        part = open_dataset("part.zarr", str(packed))
        assert part.check_replay(exact=True).is_identical
        check_pairs(part, source, first_view, first_unit * source.store.unit_rows)
        report = verify_verb(VerifyConfig(store="part.zarr", deep=True, transfer=str(packed), teacher=str(teacher)))
        assert report.problems == []

    @ROWS_ONLY
    def test_the_kept_tars_are_enough(self, far: str, packed: Path, bucket: Bucket, tmp_path: Path) -> None:
        pull(PullConfig(source=far, out="part.zarr", shards="1:3", quiet=True))
        (tmp_path / "some").mkdir()
        for tar in ("00001.tar", "00002.tar"):
            shutil.copy(packed / tar, tmp_path / "some")
        of_some, of_all = open_dataset("part.zarr", str(tmp_path / "some")), open_dataset("part.zarr", str(packed))
        remote = open_dataset("part.zarr", f"{bucket.url}/packed") if upload(bucket, packed) else of_all
        for one, two, three in zip(of_some.batches(0, 8), of_all.batches(0, 8), remote.batches(0, 8), strict=True):
            assert np.array_equal(one.images, two.images)
            assert np.array_equal(one.images, three.images)

    @ROWS_ONLY
    def test_other_tars_are_refused(self, far: str, packed: Path, tmp_path: Path) -> None:
        pull(PullConfig(source=far, out="part.zarr", shards="1:3", quiet=True))
        (tmp_path / "some").mkdir()
        for tar in ("00000.tar", "00001.tar"):
            shutil.copy(packed / tar, tmp_path / "some")
        with pytest.raises(TransferMismatchError, match="images missing"):
            open_dataset("part.zarr", str(tmp_path / "some"))

    @ROWS_ONLY
    def test_few_probes(self, teacher: Path, packed: Path, monkeypatch: pytest.MonkeyPatch, bucket: Bucket) -> None:
        """Of two, in shards 0 and 2, the pixels of one were kept."""
        monkeypatch.setattr("reinforce.planning.PROBES", 2)
        monkeypatch.setattr("reinforce.planning.KEPT_PROBES", 1)
        run(teacher, packed)
        kept_first, other = (Store.open("out.zarr").units[p["unit"]][0] for p in probes_of("out.zarr"))
        assert {kept_first, other} == {0, 2}
        with pytest.raises(UsageError, match=r"shards 3:4 hold none of the views .* such as 2:4"):
            pull(PullConfig(source="out.zarr", out="none.zarr", shards="3:4", quiet=True))
        pull(PullConfig(source="out.zarr", out="part.zarr", shards=f"{other}:{other + 1}", quiet=True))
        report = open_dataset("part.zarr", str(packed)).check_replay()
        assert (report.num_probes, report.is_identical) == (1, True)
        monkeypatch.setattr("reinforce.views.fingerprint.pixels_checksum", lambda pixels: "0" * 16)
        with pytest.raises(ReplayDriftError, match="by an unknown amount"):
            open_dataset("part.zarr", str(packed)).check_replay()

    @ROWS_ONLY
    def test_a_part_cannot_be_built_on(self, far: str, packed: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
                                       ) -> None:  # fmt: skip
        pull(PullConfig(source=far, out="part.zarr", views="0:2", quiet=True))
        before = digest_of(Path("part.zarr"))
        argv = ["build", "--teacher", str(teacher), "--transfer", str(packed), "--views", "2", "--batch-size", "16",
                "--out", "part.zarr", "--workers", "0", "--quiet", "--resume"]  # fmt: skip
        status, err = call(argv, capsys)
        assert status == 1
        assert "is a part of another one" in err
        assert digest_of(Path("part.zarr")) == before
        status, err = call([*argv[:-2], "--out", "new.zarr", "--like", "part.zarr"], capsys)
        assert status == 2
        assert "--like part.zarr: it is a part of another store" in err


def probes_of(store: str) -> list[dict[str, int]]:
    found = Store.open(store).probes()
    assert found is not None
    probes: list[dict[str, int]] = found[0]["probes"]
    return probes


def upload(bucket: Bucket, folder: Path) -> str:
    return bucket.upload({path.name: path.read_bytes() for path in folder.iterdir()}, "packed/")
