"""`verify`, `inspect` and `plan` as the command line shows them: stable keys, exit statuses, what to type next."""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_builds import BAD, NUM_IMAGES, VIEWS, digest_of, largest_object, make_images, make_teacher, run

from reinforce.cli import command
from reinforce.command import run_group
from reinforce.errors import CorruptStoreError
from reinforce.inspect_store import summarize
from reinforce.store import MANIFEST


@pytest.fixture
def store(teacher: Path, images: Path) -> Path:
    run(teacher, images)
    return Path("out.zarr")


def call(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    status = run_group(command, [*argv, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_inspect(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = call(capsys, "inspect", str(store))
    assert status == 0
    documented = "samples views classes target status skipped bytes certificate manifest_digest"
    assert set(documented.split()) <= found.keys()
    assert (found["samples"], found["skipped"], found["status"]) == (NUM_IMAGES + 2, 2, "complete")
    assert {row["key"] for row in found["skipped_samples"]} == BAD.keys()
    certified = "kl_mean kl_p99 top1_agreement bytes_per_view codec temperature"
    assert set(certified.split()) <= found["certificate"].keys()
    assert found["certificate"]["kl_mean"] < 1e-3
    assert run_group(command, ["inspect", str(store)]) == 0
    text = capsys.readouterr().out
    assert "bad/empty.png" in text
    assert text.endswith("next: train distill --cache out.zarr\n")


def test_a_mistyped_store_is_named(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_group(command, ["inspect", str(store)[:-1]]) == 1
    assert f"is no store, did you mean '{store.name}'?" in capsys.readouterr().err


def test_inspect_of_an_unfinished_store(teacher: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(teacher, images, shard="1/2")
    status, found = call(capsys, "inspect", "out.zarr")
    assert (status, found["status"], found["certificate"]) == (0, "unfinished", None)


def test_a_lost_manifest_is_a_problem_as_any(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (store / "manifest.json").unlink()
    status, found = call(capsys, "verify", str(store))
    assert (status, found["ok"], found["level"]) == (1, False, "full")
    assert [problem.split(": ")[:2] for problem in found["problems"]] == [["manifest.json", "missing"]]
    assert "--resume" in found["problems"][0]
    assert run_group(command, ["verify", str(store), "--repair"]) == 1
    assert "is not finished" in capsys.readouterr().err


def test_what_to_type_next_is_quoted(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = store.rename(store.with_name("my $tore's.zarr"))
    assert run_group(command, ["inspect", str(odd)]) == 0
    assert shlex.split(capsys.readouterr().out.splitlines()[-1]) == ["next:", "train", "distill", "--cache", str(odd)]


@pytest.mark.parametrize("level", ["quick", "sampled", "full"])
def test_a_sound_store_verifies(level: str, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = call(capsys, "verify", str(store), "--level", level)
    assert (status, found["ok"], found["level"], found["problems"]) == (0, True, level, [])


def test_a_flipped_bit_is_found_dropped_and_computed_again(
    store: Path, teacher: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digest_of(store)
    target = largest_object(store)
    data = bytearray(target.read_bytes())
    data[40] ^= 4
    target.write_bytes(data)
    status, found = call(capsys, "verify", str(store))
    assert (status, found["ok"]) == (1, False)
    assert target.relative_to(store).as_posix() in found["problems"][0]
    assert call(capsys, "verify", str(store), "--repair")[0] == 1
    assert json.loads(json.dumps(call(capsys, "inspect", str(store))[1]))["status"] == "unfinished"
    run(teacher, images, resume=True)
    assert digest_of(store) == before


def test_a_copy_that_is_not_whole_counts_no_units(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_group(command, ["pull", str(store), "--out", "here.zarr", "--quiet"]) == 0
    Path("here.zarr", MANIFEST).unlink()
    capsys.readouterr()
    assert run_group(command, ["inspect", "here.zarr"]) == 0
    assert "\nnext: to go on, type 'reinforce pull SOURCE --out here.zarr'" in capsys.readouterr().out


def test_damaged_metadata_are_written_anew(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = digest_of(store)
    metadata = sorted(store.rglob("zarr.json"))
    assert store / "probes" / "pixels" / "zarr.json" in metadata
    for path in metadata:
        path.write_bytes(path.read_bytes()[:-9])
    status, found = call(capsys, "verify", str(store), "--repair")
    assert (status, found["repairs"]) == (1, [f"wrote {path.relative_to(store)} anew" for path in metadata])
    assert call(capsys, "verify", str(store), "--level", "full")[0] == 0
    assert digest_of(store) == before


@pytest.mark.parametrize("path", ["targets/zarr.json", "samples/key_bytes/zarr.json", "probes/pixels/zarr.json"])
def test_resuming_names_the_repair_of_metadata_and_mends_them_in_an_unfinished_store(
    path: str, store: Path, teacher: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = digest_of(store)
    (store / path).write_bytes((store / path).read_bytes()[:-9])
    with pytest.raises(CorruptStoreError, match=r"type reinforce verify out.zarr --level full --repair"):
        run(teacher, images, resume=True)
    largest_object(store).unlink()
    call(capsys, "verify", str(store), "--repair")
    (store / path).write_bytes(b"x")
    run(teacher, images, resume=True)
    assert digest_of(store) == before


@pytest.mark.parametrize(
    "path", ["plan.json", "samples/key_bytes/c/0", "probes/pixels/c/0/0/0/0", "units.json"]
)
def test_what_all_units_need_is_built_or_pulled_again(
    path: str, store: Path, teacher: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytearray((store / path).read_bytes())
    data[len(data) // 2] ^= 1
    (store / path).write_bytes(data)
    status, found = call(capsys, "verify", str(store), "--repair")
    assert status == 1
    (line,) = found["repairs"]
    assert f"cannot be repaired here, pull it again with --repair or build it again with --overwrite: {path} is" in line
    with pytest.raises(CorruptStoreError, match=rf"{path}: .*: pull it again with --repair or build it again with"):
        run(teacher, images, resume=True)


def test_deep_replays_pixels_and_recomputes_targets(
    store: Path, teacher: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found = call(capsys, "verify", str(store), "--deep", "--teacher", str(teacher))
    assert (status, found["problems"]) == (0, [])
    assert "replay identically" in found["checks"][0]
    assert "recomputed" in found["checks"][1]


def test_deep_asks_where_a_teacher_lies_that_nobody_has_named(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = call(capsys, "verify", str(store), "--deep")
    assert status == 1
    assert found["problems"] == ["the store's teacher 'tiny-teacher' is not known here: type --teacher DIRECTORY"]


def test_deep_names_a_replaced_image_and_a_foreign_teacher(
    teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = make_images(tmp_path / "mine")
    run(teacher, images)
    shutil.copy(images / "a" / "000.png", images / "a" / "002.png")
    other = make_teacher(tmp_path / "other", poison=1.5)
    status, found = call(capsys, "verify", "out.zarr", "--deep", "--teacher", str(other))
    assert status == 1
    assert "a/002.png" in found["problems"][0]
    assert "other weights" in found["problems"][1]


def test_deep_names_what_else_differs_of_a_teacher_of_the_same_weights(
    store: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copytree(teacher, tmp_path / "elsewhere" / teacher.name)
    described = json.loads((other / "model.json").read_text())
    (other / "model.json").write_text(json.dumps({**described, "mean": [0.4, 0.5, 0.6]}))
    status, found = call(capsys, "verify", str(store), "--deep", "--teacher", str(other))
    assert status == 1
    assert "has the weights of the store's teacher, but another preprocess.mean: type --teacher" in found["problems"][0]


def test_inspect_shows_what_a_terminal_could_obey(store: Path) -> None:
    summary = summarize(store)
    hostile = {**summary.teacher, "name": "\x1b]0;pwn\x07 Käfer\nnext: rm"}
    lines = str(dataclasses.replace(summary, teacher=hostile)).splitlines()
    assert lines[2].startswith("  teacher   \\x1b]0;pwn\\x07 Käfer\\nnext: rm, ")
    assert len(lines) == len(str(summary).splitlines())


def test_plan(teacher: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = call(
        capsys, "plan", "--teacher", str(teacher), "--transfer", str(images), "--views", str(VIEWS), "--quiet"
    )
    assert status == 0
    assert {"bytes", "teacher_seconds", "break_even_epochs"} <= found.keys()
    assert found["disk_free_bytes"] > found["bytes"]
    assert (found["wall_seconds"], found["cost"]) == (found["build_seconds"], None)


def test_plan_of_several_devices_at_a_price(teacher: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["plan", "--teacher", str(teacher), "--transfer", str(images), "--views", str(VIEWS), "--quiet",
            "--num-devices", "8", "--price-per-hour", "3.5"]  # fmt: skip
    _, found = call(capsys, *argv)
    assert found["wall_seconds"] == pytest.approx(found["build_seconds"] / 8)
    assert found["cost"] == pytest.approx(found["build_seconds"] / 3600 * 3.5)
    assert run_group(command, argv) == 0
    text = capsys.readouterr().out
    assert "on 8 such devices" in text
    assert "device hours at 3.5 each" in text


def test_plan_of_a_faster_machine(teacher: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its teacher is what is said, and decoding here says how many such cores each of its devices wants."""
    argv = ["plan", "--teacher", str(teacher), "--transfer", str(images), "--views", str(VIEWS), "--quiet",
            "--num-devices", "2", "--views-per-second", "1e5"]  # fmt: skip
    _, found = call(capsys, *argv)
    num_views = VIEWS * found["samples"]
    assert found["build_seconds"] == found["teacher_seconds"] == pytest.approx(num_views / 1e5)
    assert found["wall_seconds"] == pytest.approx(num_views / 2e5)
    assert found["break_even_epochs"] == VIEWS
    assert found["decoding_processes"] == math.ceil(found["replay_seconds"] / found["teacher_seconds"]) > 1
    assert run_group(command, argv) == 0
    text = capsys.readouterr().out
    assert "at 100000 views/s a device" in text
    assert "decoding processes on cores like these" in text
    assert run_group(command, [*argv[:-1], "0"]) == 2
    assert "--views-per-second must be more than 0, not 0.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("device", "workers", "seconds"), [("cpu", 4, 14.0), ("cuda", 4, 10.0), ("cuda", 0, 14.0), ("cuda", 1, 10.0)]
)
def test_what_shares_cores_takes_turns(device: str, workers: int, seconds: float) -> None:
    from reinforce.planning import build_seconds

    assert build_seconds(device, workers, teacher_seconds=10.0, replay_seconds=4.0) == seconds
    assert build_seconds("cuda", 2, teacher_seconds=10.0, replay_seconds=44.0) == 22.0


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["inspect", "nowhere.zarr"], 1, "nowhere.zarr"),
        (["verify", "nowhere.zarr"], 1, "nowhere.zarr"),
        (["build", "--teacher", "dinov2-ft", "--transfer", "cc3m"], 2, "cc3m"),
        (["build", "--teacher", "resnet19", "--transfer", "."], 2, "resnet18"),
        (["build", "--teacher", "x"], 2, "--transfer"),
        (["plan", "--teacher", "x", "--transfer", ".", "--num-devices", "0"], 2, "--num-devices"),
        (["plan", "--teacher", "x", "--transfer", ".", "--price-per-hour", "nan"], 2, "--price-per-hour"),
        (["biuld"], 2, "'build'"),
    ],
    ids=[
        "no store",
        "no store to verify",
        "no data",
        "near name",
        "missing option",
        "no devices",
        "no price",
        "no verb",
    ],
)
def test_wrong_input_is_one_line(
    argv: list[str], status: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_images(tmp_path / "images", num=1)
    capsys.readouterr()
    assert run_group(command, argv) == status
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert words in err
