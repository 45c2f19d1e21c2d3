"""`reinforce diff`: every kind of difference is named, nothing else is, and targets of the same views are compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_builds import NUM_IMAGES, ROWS_ONLY, VIEWS, largest_object, make_images, make_teacher, run

from reinforce import target_difference
from reinforce.cli import command
from reinforce.command import run_group
from reinforce.diff import Change, DiffConfig, diff
from reinforce.store import FidelityStats, Store, canonical_json


@pytest.fixture(scope="module")
def stores(teacher: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Stores of the same teacher and images, with other options where they are given; each is built once."""
    folder, built = tmp_path_factory.mktemp("stores"), {}

    def build(**changes: Any) -> Path:
        key = repr(sorted(changes.items()))
        if key not in built:
            built[key] = folder / f"{len(built)}.zarr"
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("REINFORCE_HOME", str(folder / "home"))
                run(changes.pop("teacher", teacher), changes.pop("images", images), out=str(built[key]), **changes)
        return built[key]

    return build


def differences(a: Path, b: Path, **options: Any) -> Any:
    return diff(DiffConfig(a=str(a), b=str(b), **options))


class TestEqualStores:
    def test_of_the_same_bytes(self, stores: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
        store = stores()
        shutil.copytree(store, "copy.zarr")
        assert run_group(command, ["diff", str(store), "copy.zarr"]) == 0
        assert "are equal" in capsys.readouterr().out
        assert run_group(command, ["diff", str(store), "copy.zarr", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert set(found) == {"equal", "a", "b", "plan", "samples", "objects", "certificate", "targets",
                              "targets_not_compared"}  # fmt: skip
        assert (found["equal"], found["plan"], found["certificate"]) == (True, [], [])

    def test_of_the_same_units(self, stores: Callable[..., Path]) -> None:
        shutil.copytree(stores(shard="1/2"), "copy.zarr")
        assert differences(stores(shard="1/2"), Path("copy.zarr")).equal


class TestOnePlan:
    def test_an_unfinished_store_has_fewer_objects(self, stores: Callable[..., Path]) -> None:
        found = differences(stores(), stores(shard="1/2"))
        assert (found.equal, found.exit_code, found.plan, found.certificate) == (False, 1, [], [])
        assert (found.objects.differing, found.objects.only_b) == (0, 0)
        assert found.objects.only_a > 0
        assert (found.a.status, found.b.status, found.b.units_done) == ("complete", "unfinished", 1)
        assert found.targets.units == 1
        assert max(found.targets.figures[name] for name in ("kl_mean", "kl_max")) == 0

    def test_other_bytes_are_named(self, stores: Callable[..., Path]) -> None:
        shutil.copytree(stores(shard="1/2"), "copy.zarr")
        path = largest_object(Path("copy.zarr"))
        (marker,) = Path("copy.zarr/units").glob("*.json")
        record = json.loads(marker.read_text())
        record["objects"][str(path.relative_to("copy.zarr"))]["sha256"] = "0" * 64
        marker.write_bytes(canonical_json(record))
        found = differences(stores(shard="1/2"), Path("copy.zarr"), sample=0)
        assert (found.objects.differing, found.objects.examples) == (1, [str(path.relative_to("copy.zarr"))])
        assert found.targets_not_compared == "--sample 0"


class TestTargets:
    def test_of_another_codec_are_as_far_as_those_of_both(self, stores: Callable[..., Path]) -> None:
        """Against an oracle: every view of every row that both have."""
        first, second = stores(codec="int8", max_kl=0.05), stores(codec="fp16")
        found = differences(first, second, sample=1 << 20)
        assert {change.member for change in found.plan} >= {"codec.name", "forced_codec", "promise.max_kl"}
        assert "kl_mean" in {change.member for change in found.certificate}
        a, b = Store.open(first), Store.open(second)
        assert (a.units, a.num_views) == (b.units, b.num_views)
        parts = []
        for unit in range(a.num_units):
            ok = a.states()[unit * a.unit_rows :][: a.unit_rows] == 0
            for view in range(a.num_views):
                planes = [store.read_targets(unit, view)[ok] for store in (a, b)]
                parts.append(a.shape.fidelity(*planes, a.measure))
        assert found.targets.figures == pytest.approx(FidelityStats.merge_all(parts, a.measure).certified())
        assert found.targets.views == (a.states() == 0).sum() * a.num_views
        assert found.targets.figures["kl_mean"] > 0

    def test_of_more_views(self, stores: Callable[..., Path]) -> None:
        """The first views of many are those of few."""
        found = differences(stores(codec="fp16"), stores(codec="fp16", views=5), sample=50)
        assert {change.member for change in found.plan} >= {"views"}
        assert found.targets.views == 50
        assert found.targets.figures["kl_mean"] < 1e-5

    @pytest.mark.parametrize("sample", [1, 5, 50, 100, 209, 210, 100_000])
    def test_are_as_many_as_asked_for_or_all(
        self, sample: int, stores: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each (image, view) pair at most once, and every view where there are enough."""
        seen = []
        real_pairs = target_difference._pairs

        def noted(a: Any, b: Any, unit: int, counts: Any) -> Any:
            seen.extend((unit, view, count) for view, count in counts.items())
            return real_pairs(a, b, unit, counts)

        monkeypatch.setattr(target_difference, "_pairs", noted)
        found = differences(stores(codec="int8", max_kl=0.05), stores(codec="fp16"), sample=sample).targets
        assert found.views == sum(count for *_, count in seen) == min(sample, NUM_IMAGES * VIEWS)
        assert len({(unit, view) for unit, view, _ in seen}) == len(seen)
        assert len({view for _, view, _ in seen}) == min(sample, VIEWS)

    @ROWS_ONLY
    def test_of_other_units_are_not_compared(
        self, stores: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A view is mixed with another image of its unit."""
        whole = stores(codec="fp16")
        monkeypatch.setattr("reinforce.planning.choose_unit_rows", lambda *_: 20)
        found = differences(whole, stores(codec="fp16", views=4))
        assert found.targets_not_compared == "the units, within which views are mixed, differ"

    @pytest.mark.parametrize(
        ("changes", "why"), [({"seed": 4}, "the view policies differ"), ({"limit": 40}, "the transfer sets differ")]
    )
    def test_of_other_views_are_not_compared(
        self, changes: dict[str, Any], why: str, stores: Callable[..., Path]
    ) -> None:
        found = differences(stores(), stores(**changes))
        assert (found.targets, found.targets_not_compared) == (None, why)
        assert f"not compared: {why}" in str(found)

    @ROWS_ONLY
    def test_of_two_teachers(self, stores: Callable[..., Path], tmp_path: Path) -> None:
        other = make_teacher(tmp_path / "other", poison=3.0)
        found = differences(stores(), stores(teacher=other))
        changed = {change.member for change in found.plan}
        assert {"teacher.name", "teacher.weights_sha256"} <= changed
        assert not {name for name in changed if name.startswith(("policy", "transfer", "environment", "promise"))}
        assert 0 < found.targets.figures["top1_agreement"] <= 1
        assert "top-1 agreement" in str(found)


@ROWS_ONLY
class TestSamples:
    def test_are_told_apart_by_key_and_hash(self, stores: Callable[..., Path], images: Path, tmp_path: Path) -> None:
        changed = make_images(tmp_path / "shapes")
        (changed / "a/000.png").unlink()
        shutil.copy(changed / "b/003.png", changed / "b/new.png")
        shutil.copy(changed / "b/003.png", changed / "b/001.png")
        found = differences(stores(), stores(images=changed)).samples
        assert (found.added, found.removed, found.changed, found.is_reordered) == (1, 1, 1, False)
        assert found.examples == {"added": ["b/new.png"], "removed": ["a/000.png"], "changed": ["b/001.png"]}
        assert str(found) == "1 added: b/new.png; 1 removed: a/000.png; 1 changed: b/001.png"

    def test_are_named_as_they_are_written(self, stores: Callable[..., Path], tmp_path: Path) -> None:
        changed = make_images(tmp_path / "shapes")
        shutil.copy(changed / "b/003.png", changed / "b/Käfer\x1b[31m.png")
        found = differences(stores(), stores(images=changed))
        assert str(found.samples) == "1 added: b/Käfer\\x1b[31m.png"
        assert "\x1b" not in str(found)

    def test_in_another_order(self, stores: Callable[..., Path], tmp_path: Path) -> None:
        images = make_images(tmp_path / "shapes")
        keys = sorted(path.relative_to(images).as_posix() for path in images.rglob("*.*"))
        (images / "list.csv").write_text("path\n" + "".join(f"{key}\n" for key in reversed(keys)))
        found = differences(stores(), stores(images=images / "list.csv")).samples
        assert str(found) == "in another order"
        assert found.is_reordered


@pytest.mark.parametrize("wanted", [1, 7, 16, 40, 333, 4096, 1 << 20])
@pytest.mark.parametrize("rows", [[5], [3, 9, 1], [8] * 100, [*range(1, 50)]], ids=len)
def test_a_sample_is_spread_evenly_over_units(rows: list[int], wanted: int) -> None:
    """A unit has fewer than another one only where it holds no more."""
    num_views = 4
    shares = target_difference._shares(dict(enumerate(rows)), num_views, wanted)
    assert sum(share.count for share in shares.values()) == min(wanted, sum(rows) * num_views)
    most = max(share.count for share in shares.values())
    assert all(share.count in (most, most - 1, rows[unit] * num_views) for unit, share in shares.items())
    if wanted <= 16:
        assert len(shares) == min(len(rows), wanted)
    for number, share in enumerate(shares.values()):
        counts = target_difference._counts(share, num_views, number, len(shares))
        assert sum(counts.values()) == share.count
        assert max(counts.values()) <= share.rows


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (["Käfer", "甲虫"], '["Käfer","甲虫"]'),
        ({"gpj.\u202eexe": "\x1b[31m"}, '{"gpj.\\u202eexe":"\\u001b[31m"}'),
        ("Käfer\n", "Käfer\\n"),
    ],
)
def test_a_plan_is_shown_as_it_is_written_and_harmless(value: object, shown: str) -> None:
    (change,) = Change.between({"classes\x1b": value}, {})
    assert str(change).split() == ["classes\\x1b", shown, "->", "none"]


@pytest.mark.parametrize("missing", ["a", "b"])
def test_a_store_that_is_not_there(
    missing: str, stores: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"a": str(stores()), "b": str(stores())} | {missing: "nowhere.zarr"}
    assert run_group(command, ["diff", *places.values()]) == 1
    assert "nowhere.zarr is no store" in capsys.readouterr().err
