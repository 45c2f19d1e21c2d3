"""Who may write where: --overwrite, --resume, and what a run directory keeps; checkpoints on disk."""

from __future__ import annotations

import dataclasses
import errno
import json
import sys
from pathlib import Path

import pytest
import torch
from processes import held_elsewhere

from reinforce.errors import ModelError, OutputExistsError, StoreAccessError, UsageError
from reinforce.models.directory import read_info
from train.checkpoint import read_checkpoint, write_checkpoint
from train.rundir import MetricsLog, RunDirectory, written_whole


@dataclasses.dataclass(frozen=True)
class Config:
    lr: tuple[float, ...] = (0.1,)
    compile: bool = False
    size: int | None = None
    workers: int = 0


CONFIG = Config()


def open_run(path: Path, config: Config = CONFIG, verb: str = "finetune", *, overwrite: bool = False,
             resume: bool = False) -> RunDirectory:  # fmt: skip
    return RunDirectory(path, config, verb=verb, overwrite=overwrite, resume=resume)


def test_a_new_run_keeps_its_resolved_config(tmp_path: Path) -> None:
    run = open_run(tmp_path / "a" / "run")
    assert json.loads((run.path / "config.json").read_text()) == {
        "verb": "finetune", "lr": [0.1], "compile": False, "size": None, "workers": 0}  # fmt: skip
    assert run.finished() is None


def test_what_options_came_to_is_kept_and_does_not_hinder_a_resume(tmp_path: Path) -> None:
    open_run(tmp_path / "run").resolve(steps=40, loop={"lr": 0.1})
    run = open_run(tmp_path / "run", resume=True)
    run.resolve(size=64)
    config = json.loads((run.path / "config.json").read_text())
    assert config["resolved"] == {"steps": 40, "loop": {"lr": 0.1}, "size": 64}


def test_a_file_is_no_run_directory(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UsageError, match="is a file: type another --out"):
        open_run(tmp_path / "run", overwrite=True)
    assert (tmp_path / "run").read_text() == "mine"


def test_nothing_is_overwritten_silently(tmp_path: Path) -> None:
    open_run(tmp_path / "run")
    with pytest.raises(OutputExistsError, match="--resume to continue, --overwrite to replace"):
        open_run(tmp_path / "run")


def test_overwrite_removes_the_run_and_nothing_else(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run")
    write_checkpoint(run.checkpoints / "last.pt", {"step": 1})
    (run.path / "notes.txt").write_text("mine")
    open_run(tmp_path / "run", overwrite=True)
    assert sorted(p.name for p in run.path.iterdir()) == ["config.json", "notes.txt"]


@pytest.mark.parametrize("dies_after", range(1, 9))
def test_a_killed_overwrite_leaves_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_after: int) -> None:
    run = open_run(tmp_path / "run")
    run.finish({"accuracy": 0.5})
    write_checkpoint(run.checkpoints / "last.pt", {"step": 1})
    unlink, removed = Path.unlink, []

    def unlink_and_die(path: Path, missing_ok: bool = False) -> None:
        removed.append(path.name)
        unlink(path, missing_ok=missing_ok)
        if len(removed) == dies_after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink_and_die)
        with pytest.raises(KeyboardInterrupt):
            open_run(tmp_path / "run", overwrite=True)
    assert open_run(tmp_path / "run", resume=True).finished() is None


def test_what_a_kill_left_half_written_is_swept_out(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run")
    write_checkpoint(run.checkpoints / "a" / "last.pt", {"step": 1})
    for path in (run.path, run.checkpoints / "a"):
        (path / ".tmp-7-model.safetensors").write_bytes(b"half")
    open_run(tmp_path / "run", resume=True)
    assert not list(run.path.rglob(".tmp-*"))
    assert (run.checkpoints / "a" / "last.pt").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked there")
def test_one_process_trains_in_a_run(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run")
    run.finished()
    with run.reported():
        pass  # gives it free
    with held_elsewhere(run.path):
        for way in ({"resume": True}, {"overwrite": True}, {}):
            with pytest.raises(UsageError, match=r"another command trains in .*: wait for it, or"):
                open_run(tmp_path / "run", **way)  # type: ignore[arg-type]
        assert not (run.path / "result.json").exists()
    open_run(tmp_path / "run", resume=True)  # whoever dies lets go


def test_overwrite_leaves_folders_that_are_no_runs(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "model.json").write_text("{}")
    with pytest.raises(UsageError, match="no run directory"):
        open_run(tmp_path / "photos", overwrite=True)
    assert (tmp_path / "photos" / "model.json").exists()


def test_resume_starts_where_nothing_is_and_returns_the_result_where_all_is_done(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", resume=True)
    assert run.finished() is None
    run.finish({"accuracy": 0.5})
    assert open_run(tmp_path / "run", resume=True).finished() == {"accuracy": 0.5}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (Config(lr=(0.1, 0.2)), "with --lr 0.1, not with --lr 0.1,0.2: type the former options"),
        (Config(compile=True), "without --compile, not with --compile: "),
        (Config(size=64), "without --size, not with --size 64: "),
    ],
)
def test_resume_allows_other_workers_but_no_other_learning_rate(tmp_path: Path, other: Config, words: str) -> None:
    open_run(tmp_path / "run")
    open_run(tmp_path / "run", Config(workers=4), resume=True)
    with pytest.raises(UsageError, match=f"was started {words}"):
        open_run(tmp_path / "run", other, resume=True)


def test_resume_goes_on_with_a_run_of_a_version_that_knew_fewer_options(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run")
    config = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps({name: config[name] for name in ("verb", "lr", "workers")}))
    with pytest.raises(UsageError, match="was started without --compile, not with --compile"):
        open_run(tmp_path / "run", Config(compile=True), resume=True)
    again = open_run(tmp_path / "run", resume=True)
    assert json.loads((again.path / "config.json").read_text()) == config | {"resolved": {}}


def test_resume_is_of_the_same_verb(tmp_path: Path) -> None:
    open_run(tmp_path / "run")
    with pytest.raises(UsageError, match="was started with verb finetune, not with verb adapt"):
        open_run(tmp_path / "run", verb="adapt", resume=True)


def test_metrics_forget_what_comes_after_the_checkpoint(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for trial, step in (("a", 5), ("a", 10), ("b", 5), ("b", 10)):
        log.write({"trial": trial, "step": step, "loss": 0.1 + step})
    with log.path.open("a") as file:
        file.write('{"trial": "b", "st')  # cut short by a kill
    log.forget_after(5, "b")
    assert [(line["trial"], line["step"]) for line in log.lines()] == [("a", 5), ("a", 10), ("b", 5)]


def full_disk() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_one_line_and_leaves_no_half_files(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run")

    def write_half() -> None:
        with run.reported(), written_whole(run.path / "cost.json") as file:
            file.write(b"half")
            raise full_disk()

    with pytest.raises(StoreAccessError, match=r"cannot write .*run: No space left on device; free some, .* --resume"):
        write_half()
    assert not list(run.path.rglob(".tmp-*"))
    assert not (run.path / "cost.json").exists()


def test_a_full_disk_that_torch_met_is_named_for_what_it_is(tmp_path: Path) -> None:
    def torch_ends() -> None:
        try:
            raise full_disk()
        finally:
            raise RuntimeError("unexpected pos 64 vs 0")

    with pytest.raises(StoreAccessError, match="No space left"), open_run(tmp_path / "run").reported():
        torch_ends()
    with pytest.raises(RuntimeError, match="unexpected"), open_run(tmp_path / "other").reported():
        raise RuntimeError("unexpected")


def test_a_run_that_has_not_ended_is_no_model_yet(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run")
    with pytest.raises(ModelError, match="training has not ended; wait for it, or type its 'train finetune' with"):
        read_info(run.path)


def test_checkpoints_round_trip(tmp_path: Path) -> None:
    state = {"step": 3, "nested": {"weights": torch.arange(3.0)}, "best": None, "rates": [0.1, 1e-300]}
    write_checkpoint(tmp_path / "x" / "last.pt", state)
    found = read_checkpoint(tmp_path / "x" / "last.pt")
    assert torch.equal(found["nested"]["weights"], state["nested"]["weights"])  # type: ignore[index]
    assert (found["step"], found["best"], found["rates"]) == (3, None, [0.1, 1e-300])
    assert [p.name for p in (tmp_path / "x").iterdir()] == ["last.pt"]


def test_checkpoints_hold_no_code(tmp_path: Path) -> None:
    torch.save({"format": 1, "evil": Path("x")}, tmp_path / "last.pt")
    with pytest.raises(ModelError, match=r"cannot be read \(UnpicklingError\)"):
        read_checkpoint(tmp_path / "last.pt")


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint"], ids=["empty", "garbage"])
def test_damaged_checkpoints_are_named(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "last.pt").write_bytes(damage)
    with pytest.raises(ModelError, match=r"last\.pt cannot be read"):
        read_checkpoint(tmp_path / "last.pt")
