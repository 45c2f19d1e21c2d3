"""Some views and some shards of a store as a store of its own: equal targets, few bytes, whole or not a store."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_stores
from make_golden import STORES
from s3_server import Bucket
from stopped_objects import KilledError, StoppedObjects
from test_push import change, fetch, flipped, kill_after, put
from tiny_stores import NUM_VIEWS, build_at, contents_of, targets_of

from reinforce import run_log
from reinforce.cli import command
from reinforce.command import run_group
from reinforce.errors import CorruptStoreError, OutputExistsError, StoreError, UnfinishedStoreError, UsageError
from reinforce.store import Objects, Schema, Store, UnitMarker, commit_unit, verify
from reinforce.store.schema import MANIFEST, PLAN

SHARDS = [{"name": "0.tar", "samples": 6, "digest": "a" * 64}, {"name": "1.tar", "samples": 4, "digest": "b" * 64}]
VALUES = "targets/values/c/0/1/0"


@pytest.fixture(scope="module", params=STORES)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store of every kind, of a transfer set of two shards."""
    codec, shape = STORES[request.param]
    real = tiny_stores.plan_of
    with pytest.MonkeyPatch.context() as patch, targets_of(shape):
        patch.setattr("os.fsync", lambda descriptor: None)
        transfer = {"name": "tiny", "digest": "1" * 64, "shards": SHARDS}
        patch.setattr(tiny_stores, "plan_of", lambda codec: real(codec, transfer=transfer))
        yield build_at(tmp_path_factory.mktemp("whole") / "tiny.zarr", codec).root


@pytest.fixture(params=[0, 1 << 30], ids=["by ranges", "small objects whole"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reinforce.partial.WHOLE_BYTES", request.param)


def check_equal(part: Store, whole: Store, views: range, units: list[int]) -> None:
    """Bit for bit, wherever the whole has a target."""
    assert (part.num_views, part.num_units) == (len(views), len(units))
    assert part.first_view == views.start
    for unit, old_unit in enumerate(units):
        for view, old_view in enumerate(views):
            assert np.array_equal(part.read_targets(unit, view), whole.read_targets(old_unit, old_view))
    first, stop = whole.units[units[0]][1], whole.units[units[-1]][2]
    assert part.keys(0, part.num_samples) == whole.keys(first, stop)
    assert np.array_equal(part.sha64(), whole.sha64()[first:stop])
    assert np.array_equal(part.image_sizes(), whole.image_sizes()[first:stop])
    rows = np.concatenate([np.arange(whole.unit_rows) + unit * whole.unit_rows for unit in units])
    assert np.array_equal(part.states(), whole.states()[rows])


class TestEveryKind:
    @pytest.mark.usefixtures("way", "bucket")
    @pytest.mark.parametrize(
        ("views", "shards", "kept_views", "units"),
        [
            ("0:2", None, range(2), [0, 1, 2]),
            ("1:3", None, range(1, 3), [0, 1, 2]),
            ("2:3", "1:2", range(2, 3), [2]),
            (None, "0:1", range(3), [0, 1]),
            (None, "1:2", range(3), [2]),
        ],
    )
    def test_a_part_is_a_store_with_the_same_targets(
        self, whole: Path, views: str | None, shards: str | None, kept_views: range, units: list[int]
    ) -> None:
        pulled = fetch(str(whole), views=views, shards=shards)
        part, source = Store.open("here.zarr"), Store.open(whole)
        check_equal(part, source, kept_views, units)
        assert verify("here.zarr", "full").ok
        assert pulled.to_json()["manifest_digest"] == part.manifest.digest
        assert part.plan["part_of"]["manifest_digest"] == source.manifest.digest

    @pytest.mark.usefixtures("bucket")
    def test_a_part_of_a_part(self, whole: Path) -> None:
        fetch(str(whole), "middle.zarr", views="1:3", shards="1:2")
        fetch("middle.zarr", "last.zarr", views="1:2")
        check_equal(Store.open("last.zarr"), Store.open(whole), range(2, 3), [2])
        assert Store.open("last.zarr").plan["part_of"]["transfer_digest"] == "1" * 64

    @pytest.mark.usefixtures("bucket")
    def test_all_of_it_is_the_store_itself(self, whole: Path) -> None:
        fetch(str(whole), views="0:3", shards="0:2")
        assert contents_of(Path("here.zarr")) == contents_of(whole)

    @pytest.mark.usefixtures("bucket")
    @pytest.mark.parametrize("views", [None, "0:2"], ids=["a copy", "a part"])
    def test_what_the_whole_took_to_build_is_known_of_it_and_once(self, whole: Path, views: str | None) -> None:
        """And of parts of the part. Records of a store that lay there before are not taken."""
        record, source = {"started": 1.5, "seconds": 60.0, "device": "cpu"}, Path(shutil.copytree(whole, "source.zarr"))
        for plan in (Store.open(whole).plan, Store.open(whole).plan | {"views": 99}):
            run_log.book(source, plan, "build", [record])
        for place, out, some in (("source.zarr", "here.zarr", "0:2"), ("source.zarr", "here.zarr", "0:2"),
                                 ("here.zarr", "last.zarr", "1:2")):  # fmt: skip
            fetch(place, out, views=views and some)
            store = Store.open(out)
            (found,) = run_log.builds(Path(out), store.manifest.plan_digest, store.plan)
            assert found == {"verb": "build", "plan_digest": store.manifest.plan_digest, **record}

    @pytest.mark.usefixtures("bucket")
    def test_what_is_certified(self, whole: Path) -> None:
        source = Store.open(whole)
        prefix = source.measure.prefix
        fetch(str(whole), "views.zarr", views="0:2")
        fetch(str(whole), "shards.zarr", shards="0:2", views="0:3")
        certificate = Store.open("views.zarr").manifest.certificate
        assert certificate["measured_views"] == NUM_VIEWS
        assert certificate[f"{prefix}_mean"] == source.manifest.certificate[f"{prefix}_mean"]
        assert "measured_views" not in Store.open("shards.zarr").manifest.certificate


@pytest.fixture
def one(whole: Path) -> Path:
    return whole


ONE_KIND = pytest.mark.parametrize("whole", ["fp16"], indirect=True)


@ONE_KIND
class TestBytes:
    def test_only_what_is_needed_is_fetched(self, whole: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("reinforce.partial.WHOLE_BYTES", 0)
        put(whole, f"{bucket.url}/x.zarr")
        bucket.proxy.requests.clear()
        fetch(f"{bucket.url}/x.zarr", views="1:2", shards="1:2")
        asked = [part for path, part in bucket.requests() if "targets/values/c/" in path]
        size = (whole / "targets/values/c/0/2/0").stat().st_size
        assert len(asked) == 2  # the index, then one view of one unit of three
        spans = [[int(place) for place in part.removeprefix("bytes=").split("-")] for part in asked]
        assert sum(last - first + 1 for first, last in spans) < 0.7 * size

    def test_units_that_are_fetched_whole_keep_their_bytes(self, whole: Path, bucket: Bucket) -> None:
        fetch(str(whole), shards="1:2")
        old, new = whole / "targets/values/c/0/2/0", Path("here.zarr/targets/values/c/0/0/0")
        assert new.read_bytes() == old.read_bytes()


@ONE_KIND
@pytest.mark.usefixtures("bucket")
class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"views": "2"}, "--views is '2': type a range such as 0:2"),
            ({"views": "0:²"}, "--views is '0:²': type a range such as 0:2"),
            ({"views": "2:2"}, "--views is '2:2'"),
            ({"views": "-1:2"}, "--views is '-1:2'"),
            ({"views": "0:4"}, "--views 0:4: the store has 3 views: type a range within 0:3"),
            ({"shards": "1:3"}, r"2 shards \(.*8,192 files of a folder\): type a range within 0:2"),
        ],
    )
    def test_what_is_no_part(self, whole: Path, options: dict[str, str], words: str) -> None:
        with pytest.raises(UsageError, match=words):
            fetch(str(whole), **options)
        assert not Path("here.zarr").exists()

    @pytest.mark.parametrize("there", ["whole", "another part", "essay"])
    def test_what_is_there_is_never_touched(self, whole: Path, there: str) -> None:
        if there == "essay":
            Path("here.zarr").mkdir()
            Path("here.zarr/essay").write_bytes(b"years")
        else:
            fetch(str(whole), **({} if there == "whole" else {"views": "1:3"}))
        before = contents_of(Path("here.zarr"))
        with pytest.raises(OutputExistsError, match=r"holds .*type another --out"):
            fetch(str(whole), views="0:2")
        assert contents_of(Path("here.zarr")) == before

    def test_an_older_reader_refuses_a_part(self, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fetch(str(whole), views="1:2")
        monkeypatch.setattr("reinforce.store.schema.PART_FORMAT", 1)
        with pytest.raises(StoreError, match="store format 2 is newer than 1"):
            Store.open("here.zarr")

    def test_damage_in_a_range_is_named(self, whole: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("reinforce.partial.WHOLE_BYTES", 0)
        place = f"{bucket.url}/x.zarr"
        put(whole, place)
        data = (whole / VALUES).read_bytes()
        change(place, VALUES, bytes([data[0] ^ 1]) + data[1:])
        with pytest.raises(CorruptStoreError, match=rf"{VALUES}: the chunk's CRC-32C differs"):
            fetch(place, views="0:2")
        assert MANIFEST not in contents_of(Path("here.zarr"))

    def test_damage_here_is_named_and_mended_on_request(self, whole: Path) -> None:
        fetch(str(whole), views="0:2")
        expected = contents_of(Path("here.zarr"))
        target = Path("here.zarr") / VALUES
        target.write_bytes(flipped(target.read_bytes()))
        with pytest.raises(CorruptStoreError, match=rf"{VALUES}.*type --repair to fetch what is damaged again"):
            fetch(str(whole), views="0:2")
        assert fetch(str(whole), views="0:2", repair=True).copied.num_fetched == 1
        assert contents_of(Path("here.zarr")) == expected

    @pytest.mark.parametrize(
        ("path", "data", "num_fetched"),
        [
            ("samples/sha64/c/0", None, 0),
            ("samples/key_bytes/zarr.json", b"{}", 0),
            ("units.json", b"", 0),
            ("README.md", b"", 0),
            (VALUES, None, 1),
            (MANIFEST, b"", 3),
            (PLAN, b"{}", 0),
            (PLAN, None, 0),
        ],
    )
    def test_repair_heals_any_object_from_the_source(
        self, whole: Path, path: str, data: bytes | None, num_fetched: int
    ) -> None:
        fetch(str(whole), views="0:2")
        expected = contents_of(Path("here.zarr"))
        change("here.zarr", path, data)
        with pytest.raises(CorruptStoreError, match=rf"here.zarr: {path}: .*: type --repair to fetch"):
            fetch(str(whole), views="0:2")
        assert fetch(str(whole), views="0:2", repair=True).copied.num_fetched == num_fetched
        assert contents_of(Path("here.zarr")) == expected

    def test_a_damaged_plan_is_known_by_the_manifest_whenever_repair_is_killed(
        self, whole: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fetch(str(whole), views="0:2")
        expected, stops, is_killed = contents_of(Path("here.zarr")), 0, True
        while is_killed:
            change("here.zarr", PLAN, flipped(expected[PLAN]))
            stopped = StoppedObjects(Path("here.zarr"), changes_left=stops, after=False)
            with monkeypatch.context() as patch, contextlib.suppress(KilledError):
                patch.setattr("reinforce.pull.LocalObjects", lambda root: stopped)  # noqa: B023
                fetch(str(whole), views="0:2", repair=True)
                is_killed = False
            fetch(str(whole), views="0:2", repair=True)
            assert contents_of(Path("here.zarr")) == expected
            stops += 1
        assert stops >= 6

    def test_a_marker_that_a_kill_left_is_no_damage(self, whole: Path) -> None:
        fetch(str(whole), views="0:2")
        expected = contents_of(Path("here.zarr"))
        change("here.zarr", "units/00000001.json", b"{}")
        fetch(str(whole), views="0:2")
        assert contents_of(Path("here.zarr")) == expected


@ONE_KIND
class TestKilled:
    def test_kill_9_then_the_same_command(self, whole: Path, bucket: Bucket, capsys: pytest.CaptureFixture[str]
                                          ) -> None:  # fmt: skip
        place = f"{bucket.url}/x.zarr"
        put(whole, place)
        fetch(place, "expected.zarr", views="1:3")
        argv = ["pull", place, "--out", "here.zarr", "--views", "1:3", "--jobs", "1"]
        kill_after(bucket, argv, "GET", 2, "targets/values/c/")
        assert MANIFEST not in contents_of(Path("here.zarr"))
        assert run_group(command, [*argv, "--json", "--quiet"]) == 0
        assert contents_of(Path("here.zarr")) == contents_of(Path("expected.zarr"))
        assert json.loads(capsys.readouterr().out)["part_of"]["views"] == [1, 3]


@pytest.fixture
def begun(whole: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What a pull of views 0:2 would have brought; two of three units of it are in the working folder, as a kill leaves
    them."""
    fetch(str(whole), "expected.zarr", views="0:2")
    with monkeypatch.context() as patch:
        patch.setattr("reinforce.partial.commit_unit", stopping_at(2))
        with pytest.raises(KilledError):
            fetch(str(whole), views="0:2", jobs=1)
    return contents_of(Path("expected.zarr"))


def stopping_at(last: int) -> Callable[..., UnitMarker]:
    def commit(objects: Objects, schema: Schema, unit: int, *rest: Any) -> UnitMarker:
        if unit == last:
            raise KilledError
        return commit_unit(objects, schema, unit, *rest)

    return commit


@ONE_KIND
@pytest.mark.usefixtures("bucket")
class TestGoneOnWith:
    @pytest.mark.parametrize("path", ["thesis.tex", ".env", "targets/values/thesis.tex"])
    def test_what_others_put_there_is_never_deleted(self, whole: Path, begun: dict[str, bytes], path: str) -> None:
        Path("here.zarr", path).write_bytes(b"years")
        before = contents_of(Path("here.zarr"))
        with pytest.raises(OutputExistsError, match=rf"such as {path}: move them elsewhere, or type another --out"):
            fetch(str(whole), views="0:2")
        assert contents_of(Path("here.zarr")) == before
        Path("here.zarr", path).unlink()
        fetch(str(whole), views="0:2")
        assert contents_of(Path("here.zarr")) == begun

    def test_nor_what_they_put_there_in_its_last_moment(
        self, whole: Path, begun: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def commit(*arguments: Any) -> UnitMarker:
            Path("here.zarr/thesis.tex").write_bytes(b"years")
            return commit_unit(*arguments)

        monkeypatch.setattr("reinforce.partial.commit_unit", commit)
        with pytest.raises(OutputExistsError, match=r"such as thesis\.tex"):
            fetch(str(whole), views="0:2")
        assert Path("here.zarr/thesis.tex").read_bytes() == b"years"
        assert MANIFEST not in contents_of(Path("here.zarr"))

    @pytest.mark.usefixtures("begun")
    def test_verify_says_which_pull_finishes_it(self) -> None:
        with pytest.raises(UnfinishedStoreError, match=r"again, 'reinforce pull SOURCE --out here\.zarr --views 0:2 -"):
            verify("here.zarr")

    def test_repair_of_a_finished_part_deletes_nothing_of_others_either(self, whole: Path) -> None:
        fetch(str(whole), views="0:2")
        change("here.zarr", VALUES, None)
        Path("here.zarr/thesis.tex").write_bytes(b"years")
        with pytest.raises(OutputExistsError, match=r"such as thesis\.tex"):
            fetch(str(whole), views="0:2", repair=True)
        assert Path("here.zarr/thesis.tex").read_bytes() == b"years"

    @pytest.mark.parametrize(
        ("path", "num_fetched"), [(VALUES, 2), ("units/00000001.json", 2), ("samples/sha64/c/0", 1), (None, 1)]
    )
    @pytest.mark.parametrize("damage", [flipped, lambda data: data[:-1], lambda data: b"", None],
                             ids=["flipped", "cut", "empty", "gone"])  # fmt: skip
    def test_what_was_damaged_meanwhile_is_fetched_again(
        self, whole: Path, begun: dict[str, bytes], path: str | None, num_fetched: int,
        damage: Callable[[bytes], bytes] | None,
    ) -> None:  # fmt: skip
        if path is not None:
            change("here.zarr", path, None if damage is None else damage(Path("here.zarr", path).read_bytes()))
        assert fetch(str(whole), views="0:2").copied.num_fetched == num_fetched
        assert contents_of(Path("here.zarr")) == begun
