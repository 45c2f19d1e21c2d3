"""cost.json: what led to a run's weights, in device seconds, steps and images; kills and resumes change nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_loop import PLAN, WORLD, Clusters, KilledError, make_loop
from torch import nn

from train.adapt import AdaptConfig, adapt
from train.checkpoint import read_checkpoint
from train.cost import Cost, CostBook, DeviceClock
from train.loop import TrainingStoppedError, Validation
from train.rundir import MetricsLog, RunDirectory
from train.world import World


def cost(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "cost.json").read_text())
    return found


def slow(data: Clusters, seconds: float) -> Clusters:
    data.at_load = {n: lambda: time.sleep(seconds) for n in range(30)}
    return data


def test_a_run_books_its_steps_images_and_seconds(tmp_path: Path) -> None:
    started = time.perf_counter()
    make_loop(tmp_path, slow(Clusters(), 0.005)).run()
    booked = cost(tmp_path)
    assert (booked["steps"], booked["images"]) == (30, 200)  # 40 rows an epoch, 5 epochs
    assert 30 * 0.005 < booked["seconds"] < time.perf_counter() - started
    assert booked["parts"].keys() == {"train"}
    assert booked["parts"]["train"]["device"] == "cpu"


def test_lines_and_checkpoints_say_what_they_cost(tmp_path: Path) -> None:
    kept: list[tuple[Path, Cost]] = []

    def keep(model: nn.Module, folder: Path) -> None:
        assert model is loop.judged
        kept.append((folder, loop.cost))

    plan = dataclasses.replace(PLAN, save_every=12)
    loop = make_loop(tmp_path, plan=plan, keep=keep)
    loop.run()
    seconds = [line["seconds"] for line in MetricsLog(tmp_path / "metrics.jsonl").lines()]
    assert seconds == sorted(seconds)
    assert 0 < seconds[-1] == pytest.approx(cost(tmp_path)["seconds"], abs=0.01)
    assert [folder.name for folder, _ in kept] == ["step-00000012", "step-00000024"]
    for folder, then in kept:
        state = read_checkpoint(folder.with_suffix(".pt"))
        assert state["cost"] == {"seconds": then.seconds, "steps": state["step"], "images": then.images}
        assert cost(folder)["seconds"] == then.seconds


def test_evaluating_and_keeping_cost_nothing(tmp_path: Path) -> None:
    def evaluate(model: nn.Module) -> dict[str, float]:
        time.sleep(0.3)
        return {"val_loss": 1.0}

    make_loop(tmp_path, validation=Validation(evaluate, lambda scores: (0.0,), ())).run()
    assert cost(tmp_path)["seconds"] < 3 * 0.3  # which the evaluations alone take


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_a_step_that_is_done_again_is_booked_once(tmp_path: Path, how: str) -> None:
    """Killed 7 steps after the checkpoint of step 20, all of them slow."""
    slow_steps: dict[int, Callable[[], None]] = {n: lambda: time.sleep(0.1) for n in range(20, 27)}
    loop = make_loop(tmp_path, Clusters(slow_steps | {27: _raise(how)}))
    with pytest.raises((KilledError, TrainingStoppedError)):
        loop.run()
    assert cost(tmp_path)["seconds"] > 0.7
    before = read_checkpoint(tmp_path / "checkpoints" / "last.pt")["cost"]["seconds"]
    make_loop(tmp_path).run(resume=True)
    after = cost(tmp_path)
    assert (after["steps"], after["images"]) == (30, 200)
    assert before < after["seconds"]
    assert (after["seconds"] > 0.7) == (how == "stopped")


def test_a_finished_run_costs_nothing_more(tmp_path: Path) -> None:
    make_loop(tmp_path).run()
    before = cost(tmp_path)["seconds"]
    make_loop(tmp_path, slow(Clusters(), 1.0)).run(resume=True)
    assert cost(tmp_path)["seconds"] == pytest.approx(before, abs=0.1)


def test_device_seconds_are_of_all_devices() -> None:
    alone, four = DeviceClock(WORLD), DeviceClock(World(torch.device("cpu"), size=4))
    with alone, four:
        time.sleep(0.02)
    assert four.seconds == pytest.approx(4 * alone.seconds, rel=0.2)


def test_parts_add_up_and_replace_themselves(tmp_path: Path) -> None:
    book = CostBook(tmp_path, WORLD)
    for part, entry in (("a", Cost(1.0, 2, 3)), ("b", Cost(5.0, 1, 1)), ("a", Cost(2.0, 4, 6))):
        book.book(part, entry)
    assert {name: cost(tmp_path)[name] for name in ("seconds", "steps", "images")} == {
        "seconds": 7.0, "steps": 5, "images": 7}  # fmt: skip
    CostBook(tmp_path / "other", World(torch.device("cpu"), rank=1, size=2)).book("a", Cost(1.0))
    assert not (tmp_path / "other").exists()


def test_overwriting_a_run_forgets_its_cost_and_its_evaluations(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path, PLAN, verb="adapt", overwrite=False, resume=False)
    CostBook(run.path, WORLD).book("a", Cost(1.0))
    (run.path / "evaluation-colours-test.json").write_text("{}")
    RunDirectory(tmp_path, PLAN, verb="adapt", overwrite=True, resume=False)
    assert [path.name for path in run.path.iterdir()] == ["config.json"]


def test_every_trial_and_the_probes_features_are_booked(colours: Path, tmp_path: Path) -> None:
    adapt(AdaptConfig(model="test_vit", data=str(colours), image_size=32, mode="best", steps=3, lr=(1e-3, 1e-4),
                      batch_size=12, precision="fp32", quiet=True, out=str(tmp_path / "teacher")))  # fmt: skip
    booked = cost(tmp_path / "teacher")
    assert booked["parts"].keys() == {"probe features", "full-lr0.001", "full-lr0.0001",
                                      *(f"linear-probe-lr{lr:g}" for lr in (3e-4, 1e-3, 3e-3))}  # fmt: skip
    assert booked["parts"]["full-lr0.001"]["steps"] == 3
    assert booked["seconds"] == pytest.approx(sum(part["seconds"] for part in booked["parts"].values()))


def test_a_kept_checkpoint_has_cost_what_the_run_spent_before_it(tmp_path: Path) -> None:
    """Features of probes, the probes whose head it starts from, other learning rates: as the whole run has."""
    before = {"probe features": Cost(50.0), "linear-probe-lr0.001": Cost(7.0, 30, 120)}
    for part, spent in before.items():
        CostBook(tmp_path, WORLD).book(part, spent)
    plan = dataclasses.replace(PLAN, save_every=12)
    make_loop(tmp_path, plan=plan, keep=lambda model, folder: None).run()
    first, second, whole = (cost(path) for path in (*sorted(tmp_path.glob("**/step-*/")), tmp_path))
    for kept, steps in ((first, 12), (second, 24)):
        assert list(kept["parts"]) == [*before, "train"]
        assert {part: kept["parts"][part] for part in before} == {part: whole["parts"][part] for part in before}
        assert (kept["steps"], kept["parts"]["train"]["steps"]) == (30 + steps, steps)
    assert 57 < first["seconds"] < second["seconds"] < whole["seconds"]


def _raise(how: str) -> Callable[[], None]:
    def kill() -> None:
        raise KilledError

    def stop() -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    return kill if how == "killed" else stop
