"""`build --views M` on a finished store of fewer views: what it holds stays, the others join, a kill loses nothing."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_builds import (
    BAD,
    ROWS_ONLY,
    VIEWS,
    build_argv,
    config,
    digest_of,
    largest_object,
    make_segmenter,
    make_teacher,
    run,
)

from reinforce.build import build
from reinforce.dataset import open_dataset
from reinforce.errors import (
    BuildError,
    CorruptStoreError,
    MissingStoreError,
    OutputExistsError,
    TransferMismatchError,
    UsageError,
)
from reinforce.plan import PlanEstimate
from reinforce.store import LocalObjects, Schema, Store, verify
from reinforce.store.interrupted import growing_path
from reinforce.store.measures import Divergence
from reinforce.store.records import read_records
from reinforce.store_page.provenance import provenance_tables
from reinforce.teacher import Teacher

MORE = VIEWS + 2
STORE, GROWING = Path("out.zarr"), Path("out.zarr.growing")


@pytest.fixture(scope="module")
def small(teacher: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished store of VIEWS views."""
    return _built(teacher, images, tmp_path_factory.mktemp("small"), (VIEWS,))


@pytest.fixture(scope="module")
def grown(teacher: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, grown to MORE views without interruption."""
    return _built(teacher, images, tmp_path_factory.mktemp("grown"), (VIEWS, MORE))


def _built(teacher: Path, images: Path, folder: Path, views: tuple[int, ...]) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REINFORCE_HOME", str(folder / "home"))
        for count in views:
            run(teacher, images, views=count, out=str(folder / "out.zarr"))
    return folder / "out.zarr"


@pytest.fixture
def store(small: Path) -> Path:
    """A copy of the small store, here."""
    shutil.copytree(small, STORE)
    shutil.copy(f"{small}.runs.jsonl", f"{STORE}.runs.jsonl")
    return STORE


def targets_of(store: Store) -> np.ndarray:
    """(views, units, U, ...) of all there is."""
    return np.stack([[store.read_targets(unit, view) for unit in range(store.num_units)]
                     for view in range(store.num_views)])  # fmt: skip


class TestWhatIsStored:
    def test_stored_views_stay_bit_for_bit(self, small: Path, grown: Path) -> None:
        before, after = Store.open(small), Store.open(grown)
        assert after.num_views == MORE
        np.testing.assert_array_equal(targets_of(after)[:VIEWS], targets_of(before))

    def test_new_views_are_what_the_live_teacher_says_of_them(self, grown: Path, teacher: Path, images: Path) -> None:
        dataset = open_dataset(grown, str(images))
        live = Teacher(str(teacher), device="cpu", dtype="auto", threads=1, batch_size=16)
        for view in range(VIEWS, MORE):
            rows = dataset.epoch_order(0)[:32]
            rows = rows[dataset.view_index(rows, view) == view][:16]
            batch = dataset.load(rows, view)
            targets = live.targets(batch.images).reshape(batch.targets.shape)
            kl = dataset.store.shape.fidelity(targets, batch.targets, Divergence(1.0))
            assert kl.mean < 2e-3

    def test_it_is_a_store_as_any_other(self, grown: Path) -> None:
        assert verify(LocalObjects(grown), "full").ok
        assert not list(grown.parent.glob("out.zarr.[!r]*"))

    def test_the_certificate_is_of_all_views(self, small: Path, grown: Path) -> None:
        before, after = Store.open(small), Store.open(grown)
        records = zip(*(read_records(one.objects, one.schema) for one in (before, after)), strict=True)
        for old, new in records:
            assert new.fidelity.count > old.fidelity.count
            assert new.fidelity.ticks >= old.fidelity.ticks
            assert new.fidelity.mean <= 1e-3
            assert new.skipped == old.skipped
        assert {row["key"] for row in after.manifest.skipped} == BAD.keys()
        assert after.manifest.summary["views"] == MORE

    def test_it_says_what_it_grew_from(self, small: Path, grown: Path) -> None:
        digest = Store.open(small).manifest.plan_digest
        store = Store.open(grown)
        assert store.plan["grown_from"] == [{"views": VIEWS, "plan_digest": digest}]
        said = [row for table in provenance_tables(store) for row in table.rows]
        assert ("grown from", f"{VIEWS} views, plan {digest}") in said

    @ROWS_ONLY
    @pytest.mark.parametrize(
        "member",
        [3, [3], [{"views": 3}], [{"views": 0, "plan_digest": "0" * 64}], [{"views": MORE, "plan_digest": "0" * 64}],
         [{"views": 2, "plan_digest": "0" * 64}] * 2],
    )  # fmt: skip
    def test_what_it_says_is_checked(self, grown: Path, member: object) -> None:
        with pytest.raises(CorruptStoreError, match="grown_from"):
            Schema.from_plan(Store.open(grown).plan | {"grown_from": member})

    def test_probe_views_are_of_all_views_as_a_fresh_build_draws_them(
        self, grown: Path, teacher: Path, images: Path
    ) -> None:
        run(teacher, images, views=MORE)
        assert (STORE / "probes.json").read_bytes() == (grown / "probes.json").read_bytes()

    @pytest.mark.parametrize("codec", ["fp16", "int8"])
    @ROWS_ONLY
    def test_codecs_without_calibration_give_the_bytes_of_a_fresh_build(
        self, codec: str, teacher: Path, images: Path
    ) -> None:
        for views, out in ((VIEWS, "out.zarr"), (MORE, "out.zarr"), (MORE, "fresh.zarr")):
            run(teacher, images, views=views, codec=codec, max_bytes=1e4, out=out)
        fresh, there = digest_of(Path("fresh.zarr")), digest_of(STORE)
        targets = [path for path in fresh if path.startswith(("targets/", "samples/", "probes"))]
        assert targets
        assert {path: there[path] for path in targets} == {path: fresh[path] for path in targets}

    @pytest.mark.parametrize(
        ("teacher", "codec"),
        [(make_teacher, "klt"), (make_teacher, "sqrt-p"), (make_segmenter, "klt-maps")],
        indirect=["teacher"],
    )
    def test_steps_are_those_of_the_stored_views(self, codec: str, teacher: Path, images: Path) -> None:
        """The unit's one step serves both; what it serves badly is spilled."""
        found = []
        for views in (VIEWS, MORE):
            run(teacher, images, views=views, codec=codec, max_kl=0.2)
            store = Store.open(STORE)
            found.append((targets_of(store)[:VIEWS], digest_of(STORE / "targets/steps/c")))
        np.testing.assert_array_equal(found[0][0], found[1][0])
        assert found[0][1] == found[1][1]
        assert store.manifest.certificate["kl_mean"] <= 0.2

    @ROWS_ONLY
    def test_it_grows_again(self, teacher: Path, images: Path, store: Path, grown: Path) -> None:
        for views in (VIEWS + 1, MORE):
            run(teacher, images, views=views)
        twice = Store.open(store)
        assert [item["views"] for item in twice.plan["grown_from"]] == [VIEWS, VIEWS + 1]
        np.testing.assert_array_equal(targets_of(twice), targets_of(Store.open(grown)))


class TestNothingIsLost:
    @ROWS_ONLY
    def test_kills_at_random_moments(self, teacher: Path, images: Path, store: Path, grown: Path) -> None:
        before, random_moments = digest_of(store), random.Random(7)
        argv = [str(MORE) if part == str(VIEWS) else part for part in build_argv(teacher, images)]
        for _ in range(3):
            process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(2.0 + 3 * random_moments.random())
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert digest_of(store) in (before, digest_of(grown))
        run(teacher, images, views=MORE, resume=True)
        assert digest_of(store) == digest_of(grown)

    @pytest.mark.parametrize("moment", ["before it takes the place", "the old one moved", "half removed"])
    @ROWS_ONLY
    def test_a_kill_while_it_takes_the_place_of_the_old_one(
        self, moment: str, teacher: Path, images: Path, store: Path, grown: Path
    ) -> None:
        old = Path("out.zarr.replaced")
        shutil.copytree(grown, GROWING)
        if moment != "before it takes the place":
            store.rename(old)
            with pytest.raises(MissingStoreError, match=r"again, or mv out\.zarr\.growing out\.zarr$"):
                Store.open(store)
        if moment == "half removed":
            GROWING.rename(store)
            shutil.rmtree(old / "targets")
        run(teacher, images, views=MORE, resume=True)
        assert digest_of(store) == digest_of(grown)
        assert sorted(path.name for path in Path().glob("out*")) == ["out.zarr", "out.zarr.runs.jsonl"]

    @ROWS_ONLY
    def test_what_others_put_into_the_old_one_stays(
        self, teacher: Path, images: Path, store: Path, grown: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shutil.copytree(grown, GROWING)
        (store / "thesis.tex").write_text("years")
        run(teacher, images, views=MORE, resume=True)
        assert digest_of(store) == digest_of(grown)
        assert [str(path) for path in Path("out.zarr.replaced").rglob("*")] == ["out.zarr.replaced/thesis.tex"]
        assert "still holds what was no part of the store, such as thesis.tex" in capsys.readouterr().err

    @ROWS_ONLY
    def test_several_builders_share_it(self, teacher: Path, images: Path, store: Path, grown: Path) -> None:
        for shard in ("1/2", "2/2"):
            assert Store.open(store).num_views == VIEWS
            build(config(teacher, images, views=MORE, shard=shard))
        assert digest_of(store) == digest_of(grown)

    @pytest.mark.long
    @ROWS_ONLY
    def test_on_several_devices(self, teacher: Path, images: Path, store: Path, grown: Path) -> None:
        run(teacher, images, views=MORE, device="cpu,cpu")
        assert digest_of(store) == digest_of(grown)

    def test_a_unit_that_is_lost_later_is_computed_whole(self, teacher: Path, images: Path, grown: Path) -> None:
        shutil.copytree(grown, STORE)
        largest_object(STORE).write_bytes(b"gone")
        verify(LocalObjects(STORE), "full", repair=True)
        run(teacher, images, views=MORE, resume=True)
        assert verify(LocalObjects(STORE), "full").ok
        assert Store.open(STORE).manifest.certificate["kl_mean"] <= 1e-3

    @ROWS_ONLY
    def test_the_cost_is_of_both(self, teacher: Path, images: Path, store: Path) -> None:
        from train.compare.lineage import StoreNode

        run(teacher, images, views=MORE)
        lines = [json.loads(line) for line in Path("out.zarr.runs.jsonl").read_text().splitlines()]
        node = StoreNode.read(store)
        assert len(lines) == 2
        assert node is not None
        assert sum(node.builds.values()) == sum(line["seconds"] for line in lines)


@ROWS_ONLY
class TestRefused:
    def test_fewer_views(self, teacher: Path, images: Path, store: Path) -> None:
        with pytest.raises(BuildError, match=f"begun with views {VIEWS}, not {VIEWS - 1}: "):
            run(teacher, images, views=VIEWS - 1, resume=True)

    def test_another_promise(self, teacher: Path, images: Path, store: Path) -> None:
        before = digest_of(store)
        with pytest.raises(BuildError, match=r"begun with promise\.max_kl [0-9.e-]+, not 0\.01: "):
            run(teacher, images, views=MORE, max_kl=1e-2)
        assert digest_of(store) == before
        assert not GROWING.exists()

    def test_an_image_that_changed(self, teacher: Path, images: Path, store: Path, tmp_path: Path) -> None:
        shutil.copytree(images, tmp_path / "shapes")
        shutil.copy(tmp_path / "shapes/a/000.png", tmp_path / "shapes/a/002.png")
        with pytest.raises(TransferMismatchError, match=r"a/002\.png"):
            run(teacher, tmp_path / "shapes", views=MORE)
        assert Store.open(store).num_views == VIEWS

    def test_one_that_has_begun_to_grow_is_gone_on_with_only_when_asked(
        self, teacher: Path, images: Path, store: Path
    ) -> None:
        build(config(teacher, images, views=MORE, shard="1/2"))
        with pytest.raises(OutputExistsError, match="type --resume to go on, or remove it"):
            run(teacher, images, views=MORE)
        with pytest.raises(BuildError, match=f"has begun to grow to {MORE} views.*type --views {MORE} --resume"):
            run(teacher, images, views=MORE + 1, resume=True)

    @pytest.mark.parametrize("views", [VIEWS - 1, VIEWS])
    def test_as_many_views_or_fewer_are_told_what_would_grow_it(
        self, teacher: Path, images: Path, store: Path, views: int
    ) -> None:
        with pytest.raises(OutputExistsError) as refused:
            run(teacher, images, views=views)
        assert str(refused.value) == (f"out.zarr exists: it has {VIEWS} views: type more (--views {2 * VIEWS}) to let "
                                      "it grow, --overwrite to replace it or --out to write elsewhere")  # fmt: skip
        assert run(teacher, images, views=2 * VIEWS).views == 2 * VIEWS

    @pytest.mark.parametrize(("policy", "grows"), [("crops", True), ("center", False)])
    def test_growing_is_not_offered_where_all_views_are_alike(
        self, teacher: Path, images: Path, policy: str, grows: bool
    ) -> None:
        run(teacher, images, views=1, policy=policy)
        with pytest.raises(OutputExistsError, match="--overwrite to replace it") as refused:
            run(teacher, images, views=1, policy=policy)
        assert ("it has 1 view: type more (--views 2)" in str(refused.value)) == grows

    def test_something_else_in_its_way(self, teacher: Path, images: Path, store: Path) -> None:
        GROWING.mkdir()
        (GROWING / "notes.txt").write_text("mine")
        with pytest.raises(OutputExistsError, match="is not a store"):
            run(teacher, images, views=MORE)
        assert (GROWING / "notes.txt").read_text() == "mine"

    def test_something_else_where_the_old_one_would_be_moved(self, teacher: Path, images: Path, store: Path) -> None:
        old = Path("out.zarr.replaced")
        old.mkdir()
        (old / "notes.txt").write_text("mine")
        with pytest.raises(OutputExistsError, match="move that elsewhere"):
            run(teacher, images, views=MORE)
        (old / "notes.txt").unlink()
        assert run(teacher, images, views=MORE).views == MORE
        assert not old.exists()

    def test_memory_that_its_units_exceed(self, teacher: Path, images: Path, store: Path) -> None:
        with pytest.raises(UsageError, match="type --unit-budget-mb 5 or more"):
            run(teacher, images, views=9000, unit_budget_mb=1)

    def test_damage_is_named_and_nothing_is_replaced(self, teacher: Path, images: Path, store: Path) -> None:
        damaged = largest_object(store)
        data = bytearray(damaged.read_bytes())
        data[len(data) // 2] ^= 1
        damaged.write_bytes(data)
        with pytest.raises(CorruptStoreError, match="SHA-256 differs"):
            run(teacher, images, views=MORE)
        verify(LocalObjects(store), "full", repair=True)
        run(teacher, images, resume=True)
        run(teacher, images, views=MORE, resume=True)
        assert verify(LocalObjects(store), "full").ok

    def test_overwrite_removes_what_has_begun_to_grow(self, teacher: Path, images: Path, store: Path) -> None:
        build(config(teacher, images, views=MORE, shard="1/2"))
        run(teacher, images, views=1, overwrite=True)
        assert not GROWING.exists()
        assert Store.open(store).num_views == 1

    def test_overwrite_leaves_a_store_that_is_merely_called_so(
        self, teacher: Path, images: Path, store: Path, small: Path
    ) -> None:
        shutil.copytree(small, GROWING)
        run(teacher, images, views=1, overwrite=True)
        assert digest_of(GROWING) == digest_of(small)


@ROWS_ONLY
def test_a_dry_run_counts_what_is_to_be_computed(teacher: Path, images: Path, store: Path) -> None:
    fresh, more = (
        build(config(teacher, images, views=MORE, dry_run=True, out=out)) for out in ("new.zarr", "out.zarr")
    )
    assert isinstance(fresh, PlanEstimate)
    assert isinstance(more, PlanEstimate)
    assert more.bytes == fresh.bytes
    assert more.break_even_epochs < fresh.break_even_epochs * 2
    assert not growing_path(store).exists()
