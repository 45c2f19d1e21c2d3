"""The one loop: exact resume after a signal and after a kill, best and last, what metrics.jsonl says, divergence."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reinforce.errors import DataError, ModelError, UsageError
from train.batches import Batch, Rows, shuffled
from train.checkpoint import read_checkpoint
from train.distill import DistillConfig
from train.loop import (
    LoopPlan,
    Objective,
    Scores,
    TrainingDivergedError,
    TrainingLoop,
    TrainingStoppedError,
    Validation,
)
from train.losses import cross_entropy
from train.rundir import MetricsLog
from train.world import World

PLAN = LoopPlan(lr=0.01, total_steps=30, batch_size=7, warmup_steps=3, eval_every=10, log_every=4, seed=5, quiet=True)
WORLD = World(torch.device("cpu"))


class KilledError(Exception):
    pass


@dataclasses.dataclass
class Clusters:
    """40 points about two centres; calls `at_load[n]` when it is loaded for the n-th time."""

    at_load: dict[int, Callable[[], None]] = dataclasses.field(default_factory=dict)
    num_loads: int = 0

    def epoch_order(self, epoch: int) -> Rows:
        return shuffled(40, seed=1, epoch=epoch)

    def load(self, rows: Rows, epoch: int) -> Batch:
        self.at_load.get(self.num_loads, lambda: None)()
        self.num_loads += 1
        index = torch.from_numpy(rows)
        labels = index % 2
        points = torch.stack([torch.sin(index * 1.7), torch.cos(index * 0.9 + epoch)], dim=1)
        return Batch(points.float() + labels[:, None], torch.eye(2)[labels])


def objective(model: nn.Module, batch: Batch) -> Tensor:
    return cross_entropy(model(batch.inputs), batch.targets)


def by_loss(scores: Scores) -> tuple[float, ...]:
    return (-scores["val_loss"],)


def make_model(dropout: float = 0.3, bias: bool = True) -> nn.Module:
    """With dropout and BatchNorm: both kinds of state that a naive resume forgets."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 8, bias=bias), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 2))


def validation() -> Validation:
    batch = Clusters().load(shuffled(40, seed=1, epoch=0), 0)
    return Validation(lambda model: {"val_loss": objective(model, batch).item()}, by_loss, ("val_loss",))


def test_a_plan_follows_from_options() -> None:
    config = DistillConfig(cache="x.zarr", warmup=0.2, weight_decay=0.3, clip_norm=2.0, ema=0.5, precision="bf16",
                           save_every=9, log_every=8, seed=7, workers=2, quiet=True)  # fmt: skip
    plan = LoopPlan.of(config, lr=0.1, total_steps=41, batch_size=6, precision="fp32", binding={"a": 1})
    assert plan == LoopPlan(lr=0.1, total_steps=41, batch_size=6, warmup_steps=8, weight_decay=0.3, clip_norm=2.0,
                            ema=0.5, precision="fp32", eval_every=5, save_every=9, log_every=8, seed=7, workers=2,
                            quiet=True, binding={"a": 1})  # fmt: skip
    typed = dataclasses.replace(config, eval_every=3)
    assert LoopPlan.of(typed, lr=0.1, total_steps=41, batch_size=6).eval_every == 3


def make_loop(folder: Path, data: Clusters | None = None, plan: LoopPlan = PLAN, **changes: Any) -> TrainingLoop:
    folder.mkdir(parents=True, exist_ok=True)
    changes.setdefault("validation", validation())
    model = changes.pop("model", None) or make_model()
    return TrainingLoop(model, data or Clusters(), changes.pop("objective", objective), plan, world=WORLD,
                        folder=folder / "checkpoints", log=MetricsLog(folder / "metrics.jsonl"), **changes)  # fmt: skip


def curve(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what depends on the clock."""
    timed = ("images_per_second", "data_wait", "seconds")
    return [{k: v for k, v in line.items() if k not in timed} for line in MetricsLog(folder / "metrics.jsonl").lines()]


def same_weights(a: Path, b: Path, name: str) -> bool:
    first, second = (read_checkpoint(folder / "checkpoints" / name)["model"] for folder in (a, b))
    return all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    make_loop(tmp_path / "whole").run()
    return tmp_path / "whole"


def test_it_learns_and_says_what_it_did(whole: Path) -> None:
    lines = MetricsLog(whole / "metrics.jsonl").lines()
    losses = [line for line in lines if "loss" in line]
    assert [line["step"] for line in losses] == [4, 8, 12, 16, 20, 24, 28, 30]
    assert [line["step"] for line in lines if "val_loss" in line] == [10, 20, 30]
    assert losses[-1]["loss"] < losses[0]["loss"]
    assert losses[0].keys() == {"step", "epoch", "loss", "lr", "seconds", "images_per_second", "data_wait"}
    assert losses[-1]["epoch"] == 30 / 6
    assert losses[0]["lr"] == pytest.approx(0.01)
    assert all(line["images_per_second"] > 0 and 0 <= line["data_wait"] <= 1 for line in losses)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
@pytest.mark.parametrize("step", [1, 13, 20])
def test_a_signal_leaves_a_state_that_resumes_exactly(tmp_path: Path, whole: Path, step: int, number: int) -> None:
    stops = Clusters({step: lambda: os.kill(os.getpid(), number)})
    with pytest.raises(TrainingStoppedError, match=rf"stopped at step {step + 1} of 30: .*--resume") as stopped:
        make_loop(tmp_path / "run", stops).run()
    assert stopped.value.exit_code == 128 + number
    outcome = make_loop(tmp_path / "run").run(resume=True)
    assert curve(tmp_path / "run") == curve(whole)
    assert outcome.step == read_checkpoint(whole / "checkpoints" / "best.pt")["step"]
    assert same_weights(tmp_path / "run", whole, "best.pt")
    assert same_weights(tmp_path / "run", whole, "last.pt")


@pytest.mark.parametrize("step", [5, 10, 27])
def test_a_kill_resumes_exactly_from_the_last_checkpoint(tmp_path: Path, whole: Path, step: int) -> None:
    def kill() -> None:
        raise KilledError

    with pytest.raises(KilledError):
        make_loop(tmp_path / "run", Clusters({step: kill})).run()
    make_loop(tmp_path / "run").run(resume=True)
    assert curve(tmp_path / "run") == curve(whole)
    assert same_weights(tmp_path / "run", whole, "last.pt")


class TestCompiled:
    """By a real C++ compiler, in batches of one size, as each is compiled by itself."""

    PLAN = dataclasses.replace(PLAN, compile=True, batch_size=8)

    @pytest.fixture(autouse=True)
    def compiler(self) -> None:
        if shutil.which("g++") is None:
            pytest.skip("no C++ compiler here")

    def test_it_learns_as_it_does_without(self, tmp_path: Path) -> None:
        losses, names = [], []
        plain = dataclasses.replace(self.PLAN, compile=False)
        for plan, folder in ((plain, tmp_path / "plain"), (self.PLAN, tmp_path / "compiled")):
            # a bias before BatchNorm has no gradient but rounding, of which AdamW makes steps
            make_loop(folder, plan=plan, model=make_model(dropout=0.0, bias=False)).run()
            losses.append([line.get("loss", line.get("val_loss")) for line in curve(folder)])
            names.append(list(read_checkpoint(folder / "checkpoints" / "last.pt")["model"]))
        assert losses[1] == pytest.approx(losses[0], rel=1e-5)
        assert names[1] == names[0]

    def test_a_signal_leaves_a_state_that_resumes_exactly(self, tmp_path: Path) -> None:
        make_loop(tmp_path / "whole", plan=self.PLAN).run()
        stops = Clusters({13: lambda: os.kill(os.getpid(), signal.SIGTERM)})
        with pytest.raises(TrainingStoppedError):
            make_loop(tmp_path / "run", stops, self.PLAN).run()
        torch._dynamo.reset()  # as a new process
        make_loop(tmp_path / "run", plan=self.PLAN).run(resume=True)
        assert curve(tmp_path / "run") == curve(tmp_path / "whole")
        assert same_weights(tmp_path / "run", tmp_path / "whole", "last.pt")

    def test_no_compiler_is_one_line(self, tmp_path: Path) -> None:
        from torch._inductor import config

        torch._dynamo.reset()
        words = r"^this machine cannot compile the network \(.*/nowhere/g.*\): install a C\+\+ .* --compile$"
        with config.patch({"cpp.cxx": (None, "/nowhere/g++")}), pytest.raises(UsageError, match=words):
            make_loop(tmp_path / "run", plan=self.PLAN).run()


def test_a_finished_run_resumes_to_its_outcome_without_training(tmp_path: Path, whole: Path) -> None:
    data = Clusters()
    outcome = make_loop(whole, data).run(resume=True)
    assert data.num_loads == 0
    assert outcome.scores == read_checkpoint(whole / "checkpoints" / "best.pt")["scores"]


def test_best_is_the_best_evaluation_and_last_is_the_last(tmp_path: Path) -> None:
    figures = iter([0.3, 0.1, 0.2])
    judged = Validation(lambda model: {"val_loss": next(figures)}, by_loss, ())
    loop = make_loop(tmp_path, validation=judged)
    assert loop.run().step == 20
    assert read_checkpoint(tmp_path / "checkpoints" / "last.pt")["step"] == 30
    loop.load_best()
    best = read_checkpoint(tmp_path / "checkpoints" / "best.pt")["model"]
    assert all(torch.equal(value, best[name]) for name, value in loop.model.state_dict().items())


def test_without_validation_the_last_weights_are_kept(tmp_path: Path) -> None:
    outcome = make_loop(tmp_path, validation=None).run()
    assert (outcome.step, outcome.scores) == (30, {})


def test_save_every_keeps_states_that_resume(tmp_path: Path, whole: Path) -> None:
    make_loop(tmp_path / "run", plan=dataclasses.replace(PLAN, save_every=12)).run()
    folder = tmp_path / "run" / "checkpoints"
    assert sorted(p.name for p in folder.iterdir()) == ["best.pt", "last.pt", "step-00000012.pt", "step-00000024.pt"]
    (folder / "step-00000012.pt").replace(folder / "last.pt")
    make_loop(tmp_path / "run").run(resume=True)
    assert curve(tmp_path / "run") == curve(whole)


def test_plain_weights_are_kept_when_averaging_is_off(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, plan=dataclasses.replace(PLAN, ema=0.0))
    loop.run()
    assert loop.judged is loop.model


def test_a_loss_of_nan_stops_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(TrainingDivergedError, match=r"not finite at step 4: type an --lr below 0\.01"):
        make_loop(tmp_path, objective=lambda model, batch: objective(model, batch) * torch.nan).run()


def test_batch_statistics_of_one_image_are_refused(tmp_path: Path) -> None:
    plan = dataclasses.replace(PLAN, batch_size=1)
    with pytest.raises(DataError, match="fewer than two images"):
        TrainingLoop(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), Clusters(), objective, plan,
                     world=WORLD, folder=tmp_path, log=MetricsLog(tmp_path / "m"))  # fmt: skip


def test_resume_refuses_a_state_of_another_store(tmp_path: Path) -> None:
    make_loop(tmp_path, plan=dataclasses.replace(PLAN, binding={"store_digest": "aa"})).run()
    with pytest.raises(ModelError, match=r"another store digest \(aa\)"):
        make_loop(tmp_path, plan=dataclasses.replace(PLAN, binding={"store_digest": "bb"})).run(resume=True)


class Anchored(Objective):
    """Learns from step to step: pulls towards what the model answered so far, and leaves a layer alone at first."""

    def __init__(self) -> None:
        super().__init__(objective)
        self.mean, self.num_updates = torch.zeros(2), 0

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        answers = model(batch.inputs)
        self.mean = 0.9 * self.mean + 0.1 * answers.detach().mean(dim=0)
        return cross_entropy(answers, batch.targets) + (answers.mean(dim=0) - self.mean).square().sum()

    def before_update(self, model: nn.Module) -> None:
        self.num_updates += 1
        if self.num_updates <= 8:
            model[-1].weight.grad = None  # type: ignore[index]

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self.mean, "num_updates": self.num_updates}

    def load_state_dict(self, state: Any) -> None:
        self.mean, self.num_updates = state["mean"], state["num_updates"]


def test_what_an_objective_remembers_is_resumed(tmp_path: Path) -> None:
    plan = dataclasses.replace(PLAN, final_weight_decay=0.4)
    make_loop(tmp_path / "whole", objective=Anchored(), plan=plan).run()
    stops = Clusters({5: lambda: os.kill(os.getpid(), signal.SIGTERM)})
    with pytest.raises(TrainingStoppedError):
        make_loop(tmp_path / "run", stops, objective=Anchored(), plan=plan).run()
    make_loop(tmp_path / "run", objective=Anchored(), plan=plan).run(resume=True)
    assert curve(tmp_path / "run") == curve(tmp_path / "whole")
    assert same_weights(tmp_path / "run", tmp_path / "whole", "last.pt")


def test_an_objective_may_hold_weights_back(tmp_path: Path) -> None:
    first = make_model()[-1].weight.clone()
    loop = make_loop(tmp_path, objective=Anchored(), plan=dataclasses.replace(PLAN, total_steps=8))
    loop.run()
    assert torch.equal(loop.model[-1].weight, first)  # type: ignore[index]
    assert not torch.equal(loop.model[0].weight, make_model()[0].weight)  # type: ignore[index]


def test_without_a_rank_the_latest_weights_are_best(tmp_path: Path) -> None:
    figures = iter([0.3, 0.1, 0.2])
    loop = make_loop(tmp_path, validation=Validation(lambda model: {"val_loss": next(figures)}, None, ()))
    outcome = loop.run()
    assert (outcome.step, outcome.scores) == (30, {"val_loss": 0.2})
