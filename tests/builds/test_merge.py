"""`reinforce merge`: parts built apart become the store of one build, byte for byte; nothing else is a part."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from stopped_objects import KilledError, StoppedObjects
from tiny_builds import ROWS_ONLY, digest_of, largest_object, run

from reinforce.cli import command
from reinforce.command import run_group
from reinforce.errors import CorruptStoreError, OutputExistsError, StoreError
from reinforce.job import Owner, Share
from reinforce.merge import MergeConfig, merge
from reinforce.merging import Merging, _some
from reinforce.store import LocalObjects, canonical_json, claim_path, differing_members, finalize, marker_path
from reinforce.store.part import StorePart

NUM_SHARDS = 2


@dataclass(frozen=True)
class Made:
    """Of one plan: the store of one build, and parts that were built each in a place of its own."""

    whole: Path
    parts: tuple[Path, ...]

    def part(self, number: int) -> Path:
        """A copy in the working folder, to do anything to."""
        shutil.copytree(self.parts[number], copy := Path(f"part-{number}.zarr"))
        return copy

    def parts_here(self) -> tuple[Path, ...]:
        return tuple(self.part(number) for number in range(len(self.parts)))


@pytest.fixture(scope="module")
def made(teacher: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    with pytest.MonkeyPatch.context() as patch:
        places = []
        for shard in (None, *(f"{number + 1}/{NUM_SHARDS}" for number in range(NUM_SHARDS))):
            folder = tmp_path_factory.mktemp("place")
            patch.setenv("REINFORCE_HOME", str(folder / "home"))
            run(teacher, images, out=str(folder / "store.zarr"), shard=shard)
            places.append(folder / "store.zarr")
    return Made(places[0], tuple(places[1:]))


def joined(*stores: Path, out: str = "out.zarr", **options: Any) -> Any:
    return merge(MergeConfig(stores=tuple(map(str, stores)), out=out, quiet=True, **options))


def units_of(store: Path) -> set[int]:
    return {int(path.stem) for path in store.glob("units/*.json")}


class TestEqualBytes:
    @pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0)])
    def test_of_parts_in_any_order(self, order: tuple[int, ...], made: Made) -> None:
        summary = joined(*(made.parts[number] for number in order))
        assert (summary.store.status, summary.missing, summary.exit_code) == ("complete", [], 0)
        assert digest_of(Path("out.zarr")) == digest_of(made.whole)

    def test_of_a_part_that_goes_into_another(self, made: Made) -> None:
        one, other = made.parts_here()
        joined(one, other, out=str(one), resume=True)
        assert digest_of(one) == digest_of(made.whole)

    @pytest.mark.parametrize("stores", [("whole",), ("whole", 0), (1, "whole"), ("whole", "whole")])
    def test_with_a_finished_store(self, stores: tuple[Any, ...], made: Made) -> None:
        joined(*(made.whole if store == "whole" else made.parts[store] for store in stores))
        assert digest_of(Path("out.zarr")) == digest_of(made.whole)

    def test_again(self, made: Made) -> None:
        joined(*made.parts)
        assert joined(*made.parts, resume=True).copied == []
        assert joined(made.whole, resume=True).copied == []
        assert digest_of(Path("out.zarr")) == digest_of(made.whole)

    def test_what_was_left_by_dead_processes_is_no_obstacle(self, made: Made) -> None:
        one, other = made.parts_here()
        dead = {"host": "elsewhere", "pid": 1, "process_start": "1", "claimed": 0.0}
        out = Path("out.zarr")
        (out / "claims").mkdir(parents=True)
        (out / claim_path(0)).write_text(json.dumps(dead))
        shutil.copy(one / "plan.json", out)
        (out / ".tmp-0123").write_bytes(b"rest of a put")
        joined(one, other, resume=True)
        assert digest_of(out) == digest_of(made.whole)

    def test_what_building_took_is_counted_once(self, made: Made) -> None:
        for _ in range(2):
            joined(*made.parts, resume=True)
        lines = Path("out.zarr.runs.jsonl").read_text().splitlines()
        assert lines == [Path(f"{part}.runs.jsonl").read_text().strip() for part in made.parts]

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    def test_ended_at_any_change(self, after: bool, made: Made) -> None:
        """Every fifth of them."""
        parts = [StorePart(LocalObjects(part)) for part in made.parts]
        dead = replace(Owner.here(), process_start="of another process")
        changes, is_whole = int(after), False
        while not is_whole:
            shutil.rmtree("out.zarr", ignore_errors=True)
            out = StoppedObjects(Path("out.zarr"), changes_left=changes, after=after)
            changes += 5
            try:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(Owner, "here", lambda: dead)
                    Merging(parts, out).run(int)
                finalize(out, parts[0].plan)
                is_whole = True
            except KilledError:
                joined(*made.parts, resume=True)
            assert digest_of(Path("out.zarr")) == digest_of(made.whole)
        assert changes > 40

    @pytest.mark.slow
    def test_killed_at_any_moment(self, made: Made) -> None:
        argv = merge_argv(made)
        moments, kills, lifetime = random.Random(7), 0, 4.0
        while kills < 6:
            started, process = time.monotonic(), subprocess.Popen(argv, stdout=subprocess.DEVNULL)
            try:
                assert process.wait(moments.uniform(0.5, 1) * lifetime) == 0
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
            else:
                lifetime = time.monotonic() - started
                assert digest_of(Path("out.zarr")) == digest_of(made.whole)
                shutil.rmtree("out.zarr")
        subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
        assert digest_of(Path("out.zarr")) == digest_of(made.whole)


    @pytest.mark.slow
    def test_by_several_at_once(self, made: Made) -> None:
        """Each may find a unit in another's hands; the last one closes the store."""
        processes = [subprocess.Popen(merge_argv(made), stdout=subprocess.DEVNULL) for _ in range(3)]
        assert 0 in {process.wait() for process in processes} <= {0, 1}
        assert digest_of(Path("out.zarr")) == digest_of(made.whole)


def merge_argv(made: Made) -> list[str]:
    return [sys.executable, "-c", "from reinforce.cli import main; main()", "merge", *map(str, made.parts), "--out",
            "out.zarr", "--resume", "--json", "--quiet"]  # fmt: skip


class TestWhatIsMissing:
    def test_is_named_with_what_to_type(self, made: Made, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_group(command, ["merge", str(made.parts[0]), "--out", "out.zarr", "--json"]) == 1
        found = json.loads(capsys.readouterr().out)
        assert (found["status"], set(found["copied"])) == ("unfinished", units_of(made.parts[0]))
        assert set(found["missing"]) == units_of(made.parts[1])
        assert run_group(command, ["merge", str(made.parts[0]), "--out", "out.zarr", "--resume"]) == 1
        text = capsys.readouterr().out
        assert "(those of --shard 2/2)" in text
        assert "reinforce build' that made the parts, with --out out.zarr --resume" in text

    def test_a_build_computes(self, made: Made, teacher: Path, images: Path) -> None:
        joined(made.parts[1])
        run(teacher, images, resume=True)
        assert digest_of(Path("out.zarr")) == digest_of(made.whole)

    def test_a_later_merge_brings(self, made: Made) -> None:
        joined(made.parts[1])
        assert set(joined(made.parts[0], resume=True).copied) == units_of(made.parts[0])
        assert digest_of(Path("out.zarr")) == digest_of(made.whole)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def replace_by_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


class TestDamage:
    @pytest.mark.parametrize(
        ("harm", "why"),
        [
            (flip, "its SHA-256 is not the one"),
            (lambda path: path.write_bytes(path.read_bytes()[:-1]), "bytes, not"),
            (Path.unlink, "missing"),
            (replace_by_link, "bytes, not"),
        ],
        ids=["flipped", "cut", "gone", "link"],
    )
    def test_a_unit_is_not_taken_over(
        self, harm: Callable[[Path], None], why: str, made: Made, teacher: Path, images: Path
    ) -> None:
        one, other = made.parts_here()
        path = largest_object(one)
        harm(path)
        summary = joined(one, other)
        assert len(summary.missing) == 1
        assert why in summary.damage[0]
        assert str(path.relative_to(one)) in summary.damage[0]
        run(teacher, images, resume=True)
        assert digest_of(Path("out.zarr")) == digest_of(made.whole)

    def test_a_whole_copy_in_another_part_serves(self, made: Made) -> None:
        one, other = made.parts_here()
        flip(largest_object(one))
        summary = joined(one, made.whole, other)
        assert summary.missing == []
        assert len(summary.damage) == 1
        assert digest_of(Path("out.zarr")) == digest_of(made.whole)

    def test_a_folder_of_links_is_not_followed(self, made: Made) -> None:
        one, other = made.parts_here()
        folder = next(path for path in one.glob("targets/*") if path.is_dir())
        folder.rename(Path("moved"))
        folder.symlink_to(Path("moved").resolve())
        with pytest.raises(CorruptStoreError, match="is a link"):
            joined(one, other)

    @pytest.mark.parametrize(
        ("member", "value"),
        [("num_ok", 1), ("objects", {"../../x": {"bytes": 1, "sha256": "0" * 64}}), ("objects", {}), ("unit", 7)],
    )
    def test_a_marker_that_no_build_wrote(self, member: str, value: Any, made: Made) -> None:
        one, other = made.parts_here()
        path = one / marker_path(min(units_of(one)))
        path.write_bytes(canonical_json(json.loads(path.read_text()) | {member: value}))
        summary = joined(one, other)
        assert summary.missing == [int(path.stem)]
        assert summary.damage
        assert not Path("x").exists()

    @pytest.mark.parametrize("name", ["samples/sha64/c/0", "samples/zarr.json"])
    def test_of_what_the_plan_fixes_shows_in_a_single_part(self, name: str, made: Made) -> None:
        one = made.part(0)
        flip(one / name)
        with pytest.raises(CorruptStoreError, match=name.partition("/")[0]):
            joined(one)
        assert not Path("out.zarr").exists()

    @pytest.mark.parametrize("harm", [flip, Path.unlink], ids=["flipped", "gone"])
    @pytest.mark.parametrize("name", [None, "units.json", "README.md", "samples/state/c/0"])
    def test_of_a_finished_output_is_no_success(
        self, harm: Callable[[Path], None], name: str | None, made: Made, capsys: pytest.CaptureFixture[str]
    ) -> None:
        joined(*made.parts)
        harm(largest_object(Path("out.zarr")) if name is None else Path("out.zarr", name))
        argv = ["merge", *map(str, made.parts), "--out", "out.zarr", "--resume", "--quiet"]
        assert run_group(command, argv) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "out.zarr" in line

    def test_of_its_manifest_is_mended_by_what_is_told(self, made: Made) -> None:
        joined(*made.parts)
        flip(Path("out.zarr/manifest.json"))
        with pytest.raises(CorruptStoreError, match=r"out\.zarr: .*: delete manifest\.json, then type the same merge"):
            joined(*made.parts, resume=True)
        Path("out.zarr/manifest.json").unlink()
        joined(*made.parts, resume=True)
        assert digest_of(Path("out.zarr")) == digest_of(made.whole)

    def test_of_a_finished_output_is_mended_by_what_is_told(self, made: Made) -> None:
        joined(*made.parts)
        flip(largest_object(Path("out.zarr")))
        with pytest.raises(CorruptStoreError, match=r"type reinforce verify out\.zarr --level full --repair, then"):
            joined(*made.parts, resume=True)
        assert run_group(command, ["verify", "out.zarr", "--level", "full", "--repair"]) == 1
        assert len(joined(*made.parts, resume=True).copied) == 1
        assert digest_of(Path("out.zarr")) == digest_of(made.whole)

    @pytest.mark.parametrize("name", ["samples/sha64/c/0", "samples/zarr.json", "probes.json"])
    def test_of_what_the_plan_fixes(self, name: str, made: Made) -> None:
        one, other = made.parts_here()
        flip(one / name)
        with pytest.raises(CorruptStoreError, match=name):
            joined(one, other)
        assert not Path("out.zarr").exists()


def test_of_many_members_that_differ_some_are_named() -> None:
    a = {"views": 1, "units": 1, **{f"m{number}": 0 for number in range(9)}, "policy": {"name": 1, "ops": 2}}
    b = {"views": 2, "units": 2, **{f"m{number}": 1 for number in range(9)}, "policy": {"name": 3, "ops": 4}}
    assert _some(differing_members(a, b)) == "m0, m1, m2, m3, m4, m5, m6, m7 and 4 more"
    assert _some(["policy.name", "policy.ops"]) == "policy.name, policy.ops"
    assert _some([f"policy.{number}" for number in range(20)]) == "policy"


class TestWhatIsRefused:
    def test_parts_of_other_plans(self, made: Made, teacher: Path, images: Path) -> None:
        run(teacher, images, out="other.zarr", views=2, codec="fp16", shard="2/2")
        with pytest.raises(StoreError, match=r"other.zarr is of another plan than .*, in .*forced_codec.*views"):
            joined(made.parts[0], Path("other.zarr"))
        joined(made.parts[0])
        with pytest.raises(StoreError, match=r"out.zarr is of another plan than other.zarr, in "):
            joined(Path("other.zarr"), resume=True)

    def test_units_that_differ(self, made: Made) -> None:
        """Two environments, or arithmetic that is not repeatable: which is right, nobody can say."""
        one, whole = made.part(0), made.whole
        path = one / marker_path(min(units_of(one)))
        marker = json.loads(path.read_text())
        marker["fidelity"]["top1_count"] -= 1
        path.write_bytes(canonical_json(marker))
        with pytest.raises(StoreError, match=f"unit {int(path.stem)} of .* differs from that of"):
            joined(one, whole)
        assert not Path("out.zarr").exists()

    @pytest.mark.parametrize("there", ["file", "mine", ".env", "store"])
    def test_a_place_that_is_taken(self, there: str, made: Made) -> None:
        if there == "file":
            Path("out.zarr").write_text("mine")
        elif there != "store":
            Path("out.zarr").mkdir()
            Path("out.zarr", there).write_text("mine")
        else:
            shutil.copytree(made.whole, "out.zarr")
        before = digest_of(Path())
        with pytest.raises(OutputExistsError, match=r"out\.zarr exists"):
            joined(*made.parts)
        assert digest_of(Path()) == before

    def test_a_place_inside_of_a_store(self, made: Made) -> None:
        shutil.copytree(made.whole, "other.zarr")
        argv = ["merge", *map(str, made.parts), "--out", "other.zarr/inside", "--quiet"]
        assert run_group(command, argv) == 2
        assert digest_of(Path("other.zarr")) == digest_of(made.whole)

    @pytest.mark.parametrize("stores", [[], ["nowhere.zarr"]])
    def test_no_store(self, stores: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert run_group(command, ["merge", *stores, "--out", "out.zarr"]) == (2 if not stores else 1)
        assert len(capsys.readouterr().err.splitlines()) == 1


@ROWS_ONLY
@pytest.mark.parametrize(
    ("units", "num_units", "share"),
    [
        ([0, 2, 4], 5, "2/2"),
        ([1, 3], 5, "1/2"),
        ([2, 5], 8, "2/3"),
        ([2, 5], 9, None),
        ([3], 5, None),
        ([3, 4], 5, None),
        ([0, 1, 2], 3, "1/1"),
    ],
)
def test_the_share_that_units_are(units: list[int], num_units: int, share: str | None, teacher: Path) -> None:
    found = Share.of(units, num_units)
    assert (None if found is None else str(found)) == share
    if share is not None:
        assert list(Share.parse(share).units(num_units)) == units
