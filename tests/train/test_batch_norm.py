"""Batch normalisation in full finetuning: by each batch's statistics, or by those that came with the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from stopping import stop_at_load
from torch import Tensor, nn

from reinforce.errors import UsageError
from reinforce.models import load_model
from train.adapt import AdaptConfig, adapt
from train.batch_norm import enter_training, norms, trained_norms
from train.finetune import FinetuneConfig, finetune
from train.labelled import TrainingViews
from train.loop import TrainingStoppedError


def network() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5)))


def images() -> Tensor:
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 3 + 2


def statistics(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items() if "running" in name}


class TestTrainedNorms:
    def test_a_new_network_has_none(self) -> None:
        assert trained_norms(network()) == frozenset()

    def test_layers_that_have_seen_images_are_named(self) -> None:
        model = network().train()
        model(images())
        assert trained_norms(model) == {"1", "2.1"} == {name for name, _ in norms(model)}

    def test_a_new_layer_on_a_trained_encoder_is_not(self) -> None:
        model = network().train()
        model(images())
        model.append(nn.BatchNorm2d(5))
        assert trained_norms(model) == {"1", "2.1"}

    def test_layers_that_keep_no_statistics_have_none(self) -> None:
        assert trained_norms(nn.Sequential(nn.BatchNorm2d(4, track_running_stats=False))) == frozenset()

    def test_statistics_of_all_ranks_and_of_fused_activations_count(self) -> None:
        from timm.layers import BatchNormAct2d

        model = nn.Sequential(nn.SyncBatchNorm(4), BatchNormAct2d(4))
        for _, norm in norms(model):
            assert norm.running_mean is not None
            norm.running_mean += 1
        assert trained_norms(model) == {"0", "1"}


class TestEnterTraining:
    def test_named_layers_keep_and_use_what_they_have(self) -> None:
        model = network()
        model(images())
        before = statistics(model)
        enter_training(model, {"2.1"})
        model(images())
        changed = {name for name, value in statistics(model).items() if not torch.equal(value, before[name])}
        assert changed == {"1.running_mean", "1.running_var"}

    def test_where_all_are_named_train_mode_says_what_eval_mode_says(self) -> None:
        model = network()
        model(images())
        enter_training(model, trained_norms(model))
        assert model.training
        in_training = model(images())
        assert torch.equal(in_training, model.eval()(images()))

    def test_what_was_kept_trains_again_without_a_name(self) -> None:
        model = network()
        enter_training(model, {"1"})
        enter_training(model, ())
        assert all(module.training for module in model.modules())


OPTIONS: dict[str, Any] = {"image_size": 32, "mode": "full", "steps": 3, "batch_size": 12, "precision": "fp32",
                           "ema": 0.0, "quiet": True, "lr": (1e-3,)}  # fmt: skip


@pytest.fixture
def start(colours: Path, tmp_path: Path) -> Path:
    """A convolutional network that has seen other batches."""
    out = tmp_path / "start"
    finetune(FinetuneConfig(data=str(colours), out=str(out), model="test_efficientnet", **OPTIONS))
    return out


def changed(start: Path, out: Path) -> set[str]:
    """Members of the statistics that differ."""
    before, after = (statistics(load_model(place)[0]) for place in (start, out))
    return {name for name, value in after.items() if not torch.equal(value, before[name])}




class TestVerbs:
    def test_adapt_keeps_a_foundation_models_statistics(self, colours: Path, start: Path, tmp_path: Path) -> None:
        adapt(AdaptConfig(data=str(colours), out=str(tmp_path / "out"), model=str(start), **OPTIONS))
        assert changed(start, tmp_path / "out") == set()
        assert '"batch_norm": "stored"' in (tmp_path / "out/model.json").read_text()

    def test_averaged_weights_beside_a_probed_head_keep_them_too(
        self, colours: Path, start: Path, tmp_path: Path
    ) -> None:
        options = OPTIONS | {"mode": "best", "ema": 0.9, "probe_views": 0}
        result = adapt(AdaptConfig(data=str(colours), out=str(tmp_path / "out"), model=str(start), **options))
        assert {trial["mode"] for trial in result.to_json()["trials"]} == {"linear-probe", "full"}
        assert changed(start, tmp_path / "out") == set()

    def test_a_run_that_did_not_know_the_option_took_each_batchs(
        self, colours: Path, start: Path, tmp_path: Path
    ) -> None:
        config = {"data": str(colours), "out": str(tmp_path / "out"), "model": str(start), **OPTIONS}
        adapt(AdaptConfig(batch_norm="batch", **config))
        path = tmp_path / "out/config.json"
        known = json.loads(path.read_text())
        path.write_text(json.dumps({name: value for name, value in known.items() if name != "batch_norm"}))
        with pytest.raises(UsageError, match="was started with --batch-norm batch, not with --batch-norm stored"):
            adapt(AdaptConfig(resume=True, **config))
        assert adapt(AdaptConfig(batch_norm="batch", resume=True, **config)).to_json()["mode"] == "full"

    @pytest.mark.parametrize(("batch_norm", "keeps"), [("batch", False), ("stored", True)])
    def test_finetune_does_as_it_is_told(
        self, batch_norm: Any, keeps: bool, colours: Path, start: Path, tmp_path: Path
    ) -> None:
        finetune(FinetuneConfig(data=str(colours), out=str(tmp_path / "out"), model=str(start), batch_norm=batch_norm,
                                **OPTIONS))  # fmt: skip
        assert (changed(start, tmp_path / "out") == set()) is keeps

    def test_from_scratch_there_is_nothing_to_keep(self, colours: Path, start: Path, tmp_path: Path) -> None:
        finetune(FinetuneConfig(data=str(colours), out=str(tmp_path / "out"), model="test_efficientnet",
                                batch_norm="stored", **OPTIONS))  # fmt: skip
        assert not changed(start, tmp_path / "out")  # as with each batch's
        assert "stored" not in (tmp_path / "out/model.json").read_text()

    def test_a_resumed_training_keeps_what_the_whole_one_does(
        self, colours: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """From scratch, too, where by then there would be something to keep."""
        for model, name in ((str(start), "finetuned"), ("test_efficientnet", "from-scratch")):
            config = {"data": str(colours), "model": model, "batch_norm": "stored", **OPTIONS}
            finetune(FinetuneConfig(out=str(tmp_path / name), **config))
            with monkeypatch.context() as patch:
                stop_at_load(patch, TrainingViews, 2)
                with pytest.raises(TrainingStoppedError):
                    finetune(FinetuneConfig(out=str(tmp_path / f"{name}-stopped"), **config))
            finetune(FinetuneConfig(out=str(tmp_path / f"{name}-stopped"), resume=True, **config))
            whole, stopped = (tmp_path / place / "model.safetensors" for place in (name, f"{name}-stopped"))
            assert stopped.read_bytes() == whole.read_bytes()

    def test_a_batch_of_one_image_is_enough(self, colours: Path, start: Path, tmp_path: Path) -> None:
        options = OPTIONS | {"batch_size": 1, "steps": 1}
        adapt(AdaptConfig(data=str(colours), out=str(tmp_path / "out"), model=str(start), **options))
        assert (tmp_path / "out/model.safetensors").exists()
