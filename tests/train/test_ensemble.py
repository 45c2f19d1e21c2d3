"""Several stores of the same views as one teacher: the mean of predictions, exact resume, and what is no ensemble."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_reinforced as tiny
from stopping import stop_at_load

from reinforce.command import run_group
from reinforce.dataset import open_dataset
from reinforce.ensemble import average_logits
from reinforce.errors import ModelError, UsageError
from reinforce.models import load_model
from reinforce.push import PushConfig, push
from reinforce.store import Divergence
from train.cached import CachedViews
from train.cli import command
from train.distill import DistillConfig, DistillResult, distill
from train.loop import TrainingStoppedError


def softmax(logits: np.ndarray) -> np.ndarray:
    exp = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return exp / exp.sum(axis=-1, keepdims=True)


class TestAverage:
    @pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
    @pytest.mark.parametrize("shape", [(7, 5), (3, 6, 4)], ids=["rows", "maps"])
    @pytest.mark.parametrize("count", [1, 2, 5])
    def test_is_the_mean_of_probabilities_at_the_temperature(
        self, count: int, shape: tuple[int, ...], temperature: float
    ) -> None:
        logits = np.random.default_rng(0).normal(0, 5, (count, *shape)).astype(np.float32)
        expected = np.mean([softmax(one / temperature) for one in logits], axis=0)
        averaged = average_logits(list(logits), temperature)
        np.testing.assert_allclose(softmax(averaged / temperature), expected, rtol=1e-4)

    def test_of_teachers_that_are_sure_of_different_things_is_finite(self) -> None:
        logits = [np.array([[300, 0, -300]], np.float32), np.array([[-300, 0, 300]], np.float32)]
        np.testing.assert_allclose(softmax(average_logits(logits, 1.0)), [[0.5, 0, 0.5]], atol=1e-6)

    def test_is_as_faithful_as_its_stores_are_on_average(self) -> None:
        """KL is jointly convex, so the stores' promises hold for the ensemble."""
        rng, measure = np.random.default_rng(1), Divergence(1.0)
        true = rng.normal(0, 3, (2, 200, 10)).astype(np.float32)
        stored = true + rng.normal(0, 0.3, true.shape).astype(np.float32)
        apart = np.mean([measure.errors(*pair) for pair in zip(true, stored, strict=True)], axis=0)
        together = measure.errors(average_logits(list(true), 1.0), average_logits(list(stored), 1.0))
        assert (together <= apart + 1e-6).all()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_images(tmp_path_factory.mktemp("transfer") / "coloured")


@pytest.fixture(scope="module")
def stores(images: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("stores")
    one = tiny.build_store(folder / "one.zarr", images)
    return str(one), str(tiny.build_store(folder / "two.zarr", images, teacher=tiny.teach_contrast))


def run(stores: tuple[str, ...], images: Path, out: Path, **changes: Any) -> DistillResult:
    defaults: dict[str, Any] = {"student": "test_efficientnet", "image_size": 32, "lr": 3e-3, "steps": 12,
                                "batch_size": 16, "precision": "fp32", "eval_every": 6, "quiet": True}  # fmt: skip
    result = distill(DistillConfig(cache=stores, transfer=str(images), out=str(out), **(defaults | changes)))
    assert isinstance(result, DistillResult)
    return result


def test_a_dataset_of_several_stores_has_their_views_and_the_mean_of_their_targets(
    stores: tuple[str, str], images: Path
) -> None:
    together = open_dataset(stores, str(images))
    alone = [open_dataset(store, str(images)) for store in stores]
    for epoch in range(tiny.NUM_VIEWS):
        rows = together.epoch_order(epoch)[:20]
        batch, parts = together.load(rows, epoch), [dataset.load(rows, epoch) for dataset in alone]
        assert (batch.images == parts[0].images).all()
        np.testing.assert_array_equal(batch.targets, average_logits([part.targets for part in parts], 1.0))
        assert np.abs(batch.targets - parts[0].targets).max() > 0.1


def test_the_student_records_every_store(stores: tuple[str, str], images: Path, tmp_path: Path) -> None:
    result = run(stores, images, tmp_path / "run")
    digests = [open_dataset(store, str(images)).store.manifest.digest for store in stores]
    training = load_model(tmp_path / "run")[1].provenance["training"]
    assert training["store"]["manifest_digest"] == result.store_digest == digests[0]
    assert [store["manifest_digest"] for store in training["other_stores"]] == digests[1:]
    assert [store["teacher"]["name"] for store in training["other_stores"]] == ["teach_contrast"]
    assert list(result.other_store_digests) == digests[1:]


def test_stop_and_resume_is_the_uninterrupted_run(
    stores: tuple[str, str], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run(stores, images, tmp_path / "whole")
    stop_at_load(monkeypatch, CachedViews, 7)
    with pytest.raises(TrainingStoppedError):
        run(stores, images, tmp_path / "stopped")
    for others in (stores[:1], stores[::-1], (stores[1],)):
        with pytest.raises(ModelError, match="was made with another store digest"):
            run(others, images, tmp_path / "stopped", resume=True)
    resumed = run(stores, images, tmp_path / "stopped", resume=True)
    assert (resumed.kl, resumed.agreement) == (whole.kl, whole.agreement)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("stopped", "whole")]
    assert weights[0] == weights[1]


def test_a_student_learns_the_mean(stores: tuple[str, str], images: Path, tmp_path: Path) -> None:
    """By held-out KL from the ensemble's own predictions, which are neither teacher's."""
    trained = run(stores, images, tmp_path / "trained", steps=60, student="test_vit")
    start = run(stores, images, tmp_path / "start", steps=1, student="test_vit", lr=1e-9)
    assert trained.kl is not None
    assert start.kl is not None
    assert trained.kl < 0.8 * start.kl


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 12}, "policy.seed"),
        ({"views": 2}, "number of views"),
        ({"unit_rows": 20}, "cut into units, unit_rows"),
        ({"temperature": 2.0}, "temperature"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_stores_of_other_views_or_classes_are_refused(
    changes: dict[str, Any], named: str, stores: tuple[str, str], images: Path, tmp_path: Path
) -> None:
    other = tiny.build_store(tmp_path / "other.zarr", images, **changes)
    with pytest.raises(UsageError, match=f"cannot be averaged, since they have another {named}: type reinforce build"):
        open_dataset((stores[0], other), str(images))


@pytest.mark.parametrize("how", ["path", "link", "copy", "copy with a licence"])
def test_the_same_store_twice_is_refused(
    how: str, stores: tuple[str, str], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = Path(stores[0]) if how == "path" else tmp_path / "again.zarr"
    if how == "link":
        again.symlink_to(stores[0])
    if how.startswith("copy"):
        licence = "MIT" if how == "copy with a licence" else None
        push(PushConfig(store=stores[0], destination=str(again), data_license=licence, quiet=True))
    argv = [word for store in (*stores, again) for word in ("--cache", str(store))]
    assert run_group(command, ["distill", *argv, "--transfer", str(images), "--out", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{stores[0]} and {again} are one store" in line
    assert "type --cache once for it" in line


def test_classes_in_another_order_are_refused(stores: tuple[str, str], images: Path, tmp_path: Path) -> None:
    other = tiny.build_store(tmp_path / "other.zarr", images, class_names=("green", "blue", "red"))
    with pytest.raises(UsageError, match="another class_names: adapt their teachers with the same data"):
        open_dataset((stores[0], other), str(images))


def test_another_transfer_set_is_refused(stores: tuple[str, str], images: Path, tmp_path: Path) -> None:
    fewer = tiny.write_images(tmp_path / "fewer", count=59)
    other = tiny.build_store(tmp_path / "other.zarr", fewer)
    with pytest.raises(UsageError, match="transfer set"):
        open_dataset((stores[0], other), str(images))


def test_an_ensemble_has_no_live_teacher(stores: tuple[str, str], images: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="leave --online-teacher tiny out"):
        run(stores, images, tmp_path / "run", online_teacher="tiny")


@pytest.mark.parametrize("count", [1, 2])
def test_the_option_is_typed_once_for_each_store(
    count: int, stores: tuple[str, str], images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [word for store in stores[:count] for word in ("--cache", store)]
    assert run_group(command, ["distill", *argv, "--transfer", str(images), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["out"] == f"runs/{'+'.join(['one', 'two'][:count])}-fastvit_s12"


@pytest.mark.parametrize("make", [str, lambda cache: (cache,)], ids=["text", "of one"])
def test_one_store_is_what_it_was(make: Callable[[str], Any]) -> None:
    assert DistillConfig(cache=make("x.zarr")) == DistillConfig(cache="x.zarr")
