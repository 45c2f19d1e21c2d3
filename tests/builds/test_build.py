"""`reinforce build`: the same bytes whoever computes what and however often it is killed; nothing is lost."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import session_members
from tiny_builds import (
    BAD,
    CLASSES,
    NUM_IMAGES,
    ROWS_ONLY,
    VIEWS,
    build_argv,
    config,
    digest_of,
    make_images,
    make_segmenter,
    make_teacher,
    run,
)

from reinforce import teacher as teacher_module
from reinforce.build import BuildConfig, build
from reinforce.dataset import open_dataset
from reinforce.errors import (
    BuildError,
    EnvironmentMismatchError,
    NonFiniteTargetError,
    OutputExistsError,
    ReinforceError,
    TransferMismatchError,
    UsageError,
)
from reinforce.job import Ledger, Share
from reinforce.planning import Inputs
from reinforce.store import Store, verify
from reinforce.store.measures import Divergence
from reinforce.teacher import Teacher


@pytest.fixture(scope="module")
def reference(teacher: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that nobody interrupted."""
    folder = tmp_path_factory.mktemp("reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REINFORCE_HOME", str(folder / "home"))
        run(teacher, images, out=str(folder / "out.zarr"))
    return folder / "out.zarr"


class TestWhatIsStored:
    def test_targets_are_what_the_live_teacher_says_of_the_replayed_views(
        self, reference: Path, teacher: Path, images: Path
    ) -> None:
        dataset = open_dataset(reference, str(images))
        live = Teacher(str(teacher), device="cpu", dtype="auto", threads=1, batch_size=16)
        for epoch in range(VIEWS):
            batch = dataset.load(dataset.epoch_order(epoch)[:32], epoch)
            targets = np.concatenate([live.targets(part) for part in np.split(batch.images, 2)])
            kl = dataset.store.shape.fidelity(targets, batch.targets.reshape(targets.shape), Divergence(1.0))
            assert kl.mean < 1e-3
            assert not np.allclose(batch.targets, np.roll(batch.targets, 1, axis=0), atol=0.1)

    def test_every_bad_image_is_counted_and_listed_with_its_reason(self, reference: Path, images: Path) -> None:
        dataset = open_dataset(reference, str(images))
        skipped = {row["key"]: row["reason"] for row in dataset.store.manifest.skipped}
        assert skipped.keys() == BAD.keys()
        assert all(skipped.values())
        assert dataset.num_samples == NUM_IMAGES

    def test_no_path_of_this_machine_is_inside(self, reference: Path, images: Path, teacher: Path) -> None:
        text = b"".join(path.read_bytes() for path in reference.rglob("*.json"))
        for folder in (reference, images, teacher, Path.cwd()):
            assert str(folder.parent).encode() not in text

    @ROWS_ONLY
    def test_the_summary_says_where_it_lies_and_what_to_type_next(self, teacher: Path, images: Path) -> None:
        summary = run(teacher, images)
        assert str(summary).endswith("next: train distill --cache out.zarr")
        assert (summary.samples, summary.views, summary.classes) == (NUM_IMAGES + len(BAD), VIEWS, len(CLASSES))
        assert summary.status == "complete"
        assert summary.bytes == sum(path.stat().st_size for path in Path("out.zarr").rglob("*") if path.is_file())

    @ROWS_ONLY
    def test_the_run_log_is_of_this_store_alone_and_counts_from_the_first_image(
        self, teacher: Path, images: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Freezing and calibration are a part of what a store cost; of one that was overwritten nothing is left."""
        freeze = Inputs.freeze
        monkeypatch.setattr(Inputs, "freeze", lambda inputs: (time.sleep(0.5), freeze(inputs))[1])
        for limit in (9, 8, 8):
            run(teacher, images, limit=limit, overwrite=True)
        (line,) = map(json.loads, Path("out.zarr.runs.jsonl").read_text().splitlines())
        assert line["plan_digest"] == Store.open("out.zarr").manifest.plan_digest
        assert line["seconds"] > 0.5


class TestEqualBytes:
    def test_again(self, reference: Path, teacher: Path, images: Path) -> None:
        run(teacher, images)
        assert digest_of(Path("out.zarr")) == digest_of(reference)

    @pytest.mark.slow
    def test_with_other_workers(self, reference: Path, teacher: Path, images: Path) -> None:
        run(teacher, images, workers=2)
        assert digest_of(Path("out.zarr")) == digest_of(reference)

    @pytest.mark.parametrize("policy", ["crops", "classification"])
    def test_targets_do_not_depend_on_how_many_images_are_held(
        self, policy: str, teacher: Path, images: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A block of few rows decodes and batches in another order: the views, and so the targets, are the same."""
        run(teacher, images, policy=policy, codec="fp16", out="whole.zarr")
        monkeypatch.setattr("reinforce.planning.choose_block_rows", lambda *_: 5)
        run(teacher, images, policy=policy, codec="fp16", out="blocks.zarr")
        whole, blocks = (Store.open(f"{name}.zarr") for name in ("whole", "blocks"))
        assert (blocks.plan["block_rows"], whole.plan["block_rows"]) == (5, whole.unit_rows)
        for unit in range(whole.num_units):
            num_rows = whole.schema.unit_size(unit)
            for view in range(VIEWS):
                a, b = (store.read_targets(unit, view)[:num_rows] for store in (whole, blocks))
                np.testing.assert_allclose(a, b, atol=0.02)

    def test_in_parts(self, reference: Path, teacher: Path, images: Path) -> None:
        assert run(teacher, images, shard="2/2").status == "unfinished"
        assert run(teacher, images, shard="1/2").status == "complete"
        assert digest_of(Path("out.zarr")) == digest_of(reference)

    @pytest.mark.slow
    def test_killed_three_times(self, reference: Path, teacher: Path, images: Path) -> None:
        stores = kill_and_resume(build_argv(teacher, images), kills=3, seed=int(os.environ.get("KILL_SEED", "1")))
        assert all(store == digest_of(reference) for store in stores)

    @ROWS_ONLY
    @pytest.mark.slow
    @pytest.mark.skipif(sys.platform != "linux", reason="looks for orphans in /proc")
    def test_workers_end_when_their_builder_is_killed(self, reference: Path, teacher: Path, images: Path) -> None:
        stores = kill_and_resume(build_argv(teacher, images, workers=2), kills=2, seed=3, builder_alone=True)
        assert all(store == digest_of(reference) for store in stores)

    @pytest.mark.long
    @pytest.mark.parametrize("workers", [0, 2])
    def test_killed_a_hundred_times(self, reference: Path, teacher: Path, images: Path, workers: int) -> None:
        argv = build_argv(teacher, images, workers)
        stores = kill_and_resume(argv, kills=100, seed=2, builder_alone=workers > 0)
        assert all(store == digest_of(reference) for store in stores)

    @ROWS_ONLY
    @pytest.mark.slow
    def test_terminated_it_says_how_to_go_on(self, reference: Path, teacher: Path, images: Path) -> None:
        process = subprocess.Popen(build_argv(teacher, images), stderr=subprocess.PIPE, text=True)
        wait_for(lambda: any(Path("out.zarr/units").glob("*.json")), process)
        process.terminate()
        _, err = process.communicate(timeout=60)
        if process.returncode:  # it may have been done already
            assert process.returncode == 130
            assert "--resume" in err.splitlines()[-1]
            done = {path.name for path in Path("out.zarr/units").glob("*.json")}
            assert {path.name for path in Path("out.zarr/claims").glob("*.json")} <= done
        run(teacher, images, resume=True)
        assert digest_of(Path("out.zarr")) == digest_of(reference)


def kill_and_resume(argv: list[str], *, kills: int, seed: int, builder_alone: bool = False) -> list[dict[str, str]]:
    """SIGKILL the command at random moments of its life, from its first import to its end, `kills` times.

    A build that ends before its kill is kept as a digest and begun anew. Returns all digests, the last one's included.
    Killed is the whole process group, or the builder alone, whose workers must then end by themselves.
    """
    moments, finished = random.Random(seed), []
    lifetime = 6.0
    while kills:
        started, process = time.monotonic(), subprocess.Popen(argv, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            process.wait(moments.uniform(0, lifetime))
        except subprocess.TimeoutExpired:
            kill(process, builder_alone)
            kills -= 1
        else:
            assert process.returncode == 0
            lifetime = time.monotonic() - started
            finished.append(digest_of(Path("out.zarr")))
            shutil.rmtree("out.zarr")
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    return [*finished, digest_of(Path("out.zarr"))]


def kill(process: subprocess.Popen[Any], builder_alone: bool) -> None:
    if not builder_alone:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return
    process.kill()
    process.wait()
    wait_for(lambda: not session_members(process.pid), None)


def wait_for(condition: Any, process: subprocess.Popen[Any] | None) -> None:
    deadline = time.monotonic() + 60
    while not condition() and (process is None or process.poll() is None):
        assert time.monotonic() < deadline
        time.sleep(0.02)


@ROWS_ONLY
class TestKeptTop1:
    @pytest.mark.parametrize("codec", [None, "klt", "sqrt-p", "top-k", "int8"])
    def test_every_view_keeps_its_likeliest_class(self, codec: str | None, teacher: Path, images: Path) -> None:
        plain = run(teacher, images, codec=codec, max_kl=0.3)
        kept = run(teacher, images, codec=codec, max_kl=0.3, keep_top1=True, out="kept.zarr")
        assert plain.certificate["top1_agreement"] < 1 or codec == "top-k"
        assert kept.certificate["top1_agreement"] == 1
        assert kept.certificate["kl_mean"] <= 0.3
        assert verify(Path("kept.zarr"), "full").ok

    def test_views_that_are_added_keep_it_too(self, teacher: Path, images: Path) -> None:
        options = {"codec": "sqrt-p", "max_kl": 0.3, "keep_top1": True}
        run(teacher, images, **options)
        assert run(teacher, images, **options, views=VIEWS + 2).certificate["top1_agreement"] == 1

    @pytest.mark.parametrize("began", [False, True], ids=["without", "with"])
    def test_a_store_is_continued_as_it_was_begun(self, began: bool, teacher: Path, images: Path) -> None:
        run(teacher, images, keep_top1=began, shard="1/2")
        with pytest.raises(BuildError, match=r"begun with promise\.keep_top1"):
            run(teacher, images, keep_top1=not began, resume=True)

    def test_bytes_are_told_with_it(self, teacher: Path, images: Path) -> None:
        for codec in ("sqrt-p", "int8"):
            out = f"{codec}.zarr"
            estimate = build(config(teacher, images, codec=codec, keep_top1=True, out=out, dry_run=True)).to_json()
            run(teacher, images, codec=codec, keep_top1=True, out=out)
            real = sum(path.stat().st_size for path in Path(out).rglob("*") if path.is_file())
            assert estimate["bytes"] == pytest.approx(real, rel=0.15)


@pytest.mark.parametrize(
    ("make", "target"), [(make_segmenter, "dense-logits"), (make_teacher, "global-features")], ids=["maps", "features"]
)
def test_maps_and_features_have_no_top1_to_keep(
    make: Callable[[Path], Path], target: str, images: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=f"--keep-top1 is of logits of whole images, not of {target}: leave it out"):
        run(make(tmp_path / "teacher"), images, keep_top1=True, target=target)


class TestResume:
    @ROWS_ONLY
    def test_where_all_is_done_nothing_is_done(self, teacher: Path, images: Path) -> None:
        run(teacher, images)
        before = digest_of(Path("out.zarr"))
        assert run(teacher, images, resume=True).status == "complete"
        assert digest_of(Path("out.zarr")) == before

    @ROWS_ONLY
    def test_where_nothing_is_it_starts(self, teacher: Path, images: Path) -> None:
        assert run(teacher, images, resume=True).status == "complete"

    @ROWS_ONLY
    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"policy": "crops"}, "policy"),
            ({"views": 2}, "views"),
            ({"max_kl": 0.5}, "promise"),
            ({"seed": 9}, "policy"),
        ],
        ids=["policy", "views", "promise", "seed"],
    )
    def test_other_options_are_refused_by_name(
        self, change: dict[str, Any], named: str, teacher: Path, images: Path
    ) -> None:
        run(teacher, images, shard="1/2")
        with pytest.raises(BuildError, match=named):
            run(teacher, images, resume=True, **change)

    def test_another_teacher_is_refused(self, images: Path, tmp_path: Path) -> None:
        run(make_teacher(tmp_path / "first/tiny-teacher"), images, shard="1/2")
        other = make_teacher(tmp_path / "tiny-teacher", poison=1.5)
        with pytest.raises(BuildError, match="another teacher"):
            run(other, images, resume=True)

    @ROWS_ONLY
    def test_another_environment_is_refused_unless_allowed(
        self, teacher: Path, images: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run(teacher, images, shard="1/2")
        here = teacher_module.environment
        monkeypatch.setattr(teacher_module, "environment", lambda *args, **kw: here(*args, **kw) | {"torch": "9.9"})
        with pytest.raises(EnvironmentMismatchError, match=r"torch .* -> 9\.9"):
            run(teacher, images, resume=True)
        assert run(teacher, images, resume=True, mixed_environment=True).status == "complete"

    @ROWS_ONLY
    @pytest.mark.parametrize("how", ["replaced", "added", "removed"])
    def test_a_changed_transfer_set_is_refused(self, how: str, teacher: Path, tmp_path: Path) -> None:
        images = make_images(tmp_path / "mine")
        run(teacher, images, shard="1/2")
        target = images / "a" / "002.png"  # of the part that is not computed yet
        if how == "removed":
            target.unlink()
        else:
            shutil.copy(images / "b" / "001.png", target if how == "replaced" else images / "b" / "new.png")
        with pytest.raises(TransferMismatchError, match="b/new.png" if how == "added" else "a/002.png"):
            run(teacher, images, resume=True)


class TestRefusals:
    @ROWS_ONLY
    def test_nothing_is_overwritten_silently(self, teacher: Path, images: Path) -> None:
        run(teacher, images, shard="1/2")
        with pytest.raises(OutputExistsError, match="--resume"):
            run(teacher, images)
        run(teacher, images, resume=True)
        with pytest.raises(OutputExistsError, match="--overwrite"):
            run(teacher, images)
        assert run(teacher, images, overwrite=True, views=1).views == 1

    @ROWS_ONLY
    def test_a_folder_that_is_no_store_is_never_removed(self, teacher: Path, images: Path, tmp_path: Path) -> None:
        (tmp_path / "out.zarr").mkdir()
        (tmp_path / "out.zarr" / "thesis.txt").write_text("mine")
        with pytest.raises(OutputExistsError, match="not a store"):
            run(teacher, images, overwrite=True)
        assert (tmp_path / "out.zarr" / "thesis.txt").read_text() == "mine"

    def test_non_finite_targets_stop_it_and_name_the_sample(self, images: Path, tmp_path: Path) -> None:
        poisoned = make_teacher(tmp_path / "poisoned", poison=float("nan"))
        with pytest.raises(NonFiniteTargetError, match=r"NaN or infinity for '[ab]/\d+.png', view \d"):
            run(poisoned, images)

    @ROWS_ONLY
    def test_workers_have_ended_when_claims_are_given_up(
        self, teacher: Path, images: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that goes on would claim another unit, which nobody gives up then."""
        alive = []

        def fail(*_: object) -> None:
            assert multiprocessing.active_children()
            raise BuildError("the teacher fell ill")

        monkeypatch.setattr("reinforce.engine.runner.UnitRunner.add", fail)
        monkeypatch.setattr(Ledger, "release", lambda _: alive.extend(multiprocessing.active_children()))
        with pytest.raises(BuildError, match="fell ill"):
            run(teacher, images, workers=2, unit_budget_mb=1)
        assert not alive

    @ROWS_ONLY
    def test_a_transfer_set_of_bad_images_only(self, teacher: Path, tmp_path: Path) -> None:
        (tmp_path / "bad").mkdir()
        (tmp_path / "bad" / "one.png").write_bytes(b"no")
        with pytest.raises(BuildError, match="decoded"):
            run(teacher, tmp_path / "bad")

    @ROWS_ONLY
    def test_a_dry_run_writes_nothing(self, teacher: Path, images: Path) -> None:
        estimate = build(config(teacher, images, dry_run=True)).to_json()
        assert not Path("out.zarr").exists()
        run(teacher, images)
        real = sum(path.stat().st_size for path in Path("out.zarr").rglob("*") if path.is_file())
        assert estimate["bytes"] == pytest.approx(real, rel=0.15)
        assert estimate["teacher_seconds"] > 0
        assert estimate["break_even_epochs"] >= VIEWS

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"views": 0}, "--views"),
            ({"max_kl": 0.0}, "--max-kl"),
            ({"max_kl": 0.1, "max_bytes": 4.0}, "exclude each other"),
            ({"effort": 3}, "--effort"),
            ({"codec": "int7"}, "int8"),
            ({"shard": "3/2"}, "i/n"),
            ({"crop_scale": (0.5,)}, "--crop-scale"),
            ({"resume": True, "overwrite": True}, "--overwrite"),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else None,
    )
    @ROWS_ONLY
    def test_bad_options(self, change: dict[str, Any], words: str, teacher: Path, images: Path) -> None:
        with pytest.raises(UsageError, match=words):
            config(teacher, images, **change)


@pytest.mark.parametrize("num_units", [1, 5, 8])
@pytest.mark.parametrize("texts", [["0/3", "1/3", "2/3"], ["1/3", "2/3", "3/3"]], ids=["from 0", "from 1"])
def test_shares_are_disjoint_and_cover_all(texts: list[str], num_units: int) -> None:
    parts = [list(Share.parse(text).units(num_units)) for text in texts]
    assert sorted(unit for part in parts for unit in part) == list(range(num_units))


def test_one_image_one_view(teacher: Path, tmp_path: Path) -> None:
    images = make_images(tmp_path / "one", num=1)
    shutil.rmtree(images / "bad")
    summary = run(teacher, images, views=1)
    assert (summary.samples, summary.status) == (1, "complete")
    assert Store.open("out.zarr").num_units == 1


class TestNothingIsLost:
    @ROWS_ONLY
    @pytest.mark.parametrize("change", [{"dry_run": True}, {"teacher": "tpyo"}, {"transfer": "nowhere/at/all"}])
    def test_overwrite_removes_a_store_only_for_another_one(
        self, change: dict[str, Any], teacher: Path, images: Path
    ) -> None:
        run(teacher, images)
        before = digest_of(Path("out.zarr"))
        options = {"teacher": str(teacher), "transfer": str(images), "views": VIEWS, "out": "out.zarr", "quiet": True}
        with contextlib.suppress(ReinforceError):
            build(BuildConfig(**(options | {"overwrite": True} | change)))
        assert digest_of(Path("out.zarr")) == before

    @ROWS_ONLY
    def test_a_foreign_zarr_group_is_never_removed(self, teacher: Path, images: Path) -> None:
        Path("out.zarr").mkdir()
        Path("out.zarr/zarr.json").write_text("{}")
        with pytest.raises(OutputExistsError):
            run(teacher, images, overwrite=True)
        assert Path("out.zarr/zarr.json").exists()

    def test_a_kill_during_the_very_first_put_can_be_resumed(self, teacher: Path, images: Path) -> None:
        Path("out.zarr").mkdir()
        Path("out.zarr/.tmp-0123456789abcdef").write_bytes(b"half")
        assert run(teacher, images, resume=True).status == "complete"

    @ROWS_ONLY
    def test_a_bad_first_image_does_not_stop_a_small_set(self, teacher: Path, tmp_path: Path) -> None:
        images = make_images(tmp_path / "few", num=12)
        (images / "a" / "000.png").write_bytes(b"")
        assert run(teacher, images).skipped == len(BAD) + 1

    @ROWS_ONLY
    @pytest.mark.slow
    def test_an_error_in_a_worker_is_the_error(self, teacher: Path, tmp_path: Path) -> None:
        images = make_images(tmp_path / "mine")
        run(teacher, images, shard="1/2")
        shutil.copy(images / "b" / "001.png", images / "a" / "002.png")
        with pytest.raises(TransferMismatchError, match=r"a/002\.png"):
            run(teacher, images, resume=True, workers=1)
