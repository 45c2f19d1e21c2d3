"""Schedule values, who is decayed, the averaged weights' recurrence, and which arithmetic is chosen."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import nn

from train.optim import (
    AveragedModel,
    autocast_dtype,
    clip_gradient,
    cosine,
    learning_rate,
    make_optimizer,
    parameter_groups,
    rising,
    set_learning_rate,
    set_weight_decay,
    warmed_up,
)
from train.world import with_shared_statistics

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        pytest.param(0, 0.25, id="first of the warm-up"),
        pytest.param(3, 1.0, id="last of the warm-up"),
        pytest.param(4, 1.0, id="peak"),
        pytest.param(8, 0.5, id="half-way"),
        pytest.param(11, 0.5 * (1 + math.cos(math.pi * 7 / 8)), id="last step is above 0"),
    ],
)
def test_learning_rate(step: int, expected: float) -> None:
    assert learning_rate(step, peak=1.0, warmup_steps=4, total_steps=12) == pytest.approx(expected)


def test_learning_rate_without_warmup_starts_at_its_peak() -> None:
    assert learning_rate(0, peak=3e-4, warmup_steps=0, total_steps=1) == 3e-4


@pytest.mark.parametrize("name", ["test_vit", "fastvit_t8", "mobilevitv2_050", "test_efficientnet"])
def test_norms_biases_scales_and_positions_are_not_decayed(name: str) -> None:
    model = timm.create_model(name, num_classes=3)
    groups = parameter_groups(model, 0.05)
    decayed = {id(p) for group in groups if group["weight_decay"] for p in group["params"]}  # type: ignore[attr-defined]
    plain = {id(p) for group in groups if not group["weight_decay"] for p in group["params"]}  # type: ignore[attr-defined]
    assert decayed | plain == {id(p) for p in model.parameters()}
    assert not decayed & plain
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith((".bias", "gamma", "pos_embed", "cls_token")) or parameter.ndim == 1:
            assert id(parameter) in plain, parameter_name
    assert id(model.get_classifier().weight) in decayed


def test_frozen_parameters_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    optimizer = make_optimizer(model, 0.05)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


def test_averaged_model_follows_its_recurrence() -> None:
    model = nn.BatchNorm1d(2)
    average = AveragedModel(model, warmed_up(0.5))
    expected = torch.ones(2, dtype=torch.float64)
    for t in range(1, 30):
        with torch.no_grad():
            model.weight.fill_(float(t))
            model.num_batches_tracked.fill_(t)  # type: ignore[operator]
        average.update(model)
        decay = min(0.5, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * t
    torch.testing.assert_close(average.module.weight.double(), expected, rtol=1e-5, atol=1e-5)
    assert average.module.num_batches_tracked == 29


def test_averaged_model_state_round_trip() -> None:
    model = nn.Linear(2, 2)
    average = AveragedModel(model, warmed_up(0.9))
    average.update(model)
    other = AveragedModel(nn.Linear(2, 2), warmed_up(0.9))
    other.load_state_dict(average.state_dict())
    assert other.num_updates == 1
    torch.testing.assert_close(other.module.weight, average.module.weight)


@pytest.mark.parametrize(("max_norm", "expected"), [(0.0, 10.0), (1.0, 1.0), (100.0, 10.0)])
def test_clip_gradient(max_norm: float, expected: float) -> None:
    model = nn.Linear(1, 1, bias=False)
    model.weight.grad = torch.full((1, 1), 10.0)
    clip_gradient(model, max_norm)
    assert model.weight.grad.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "precision", "cpu_bf16", "expected"),
    [
        pytest.param("fastvit_t8", "auto", True, None, id="convolutions on CPU stay fp32"),
        pytest.param("test_vit", "auto", True, torch.bfloat16, id="transformers take bf16"),
        pytest.param("test_vit", "auto", False, None, id="not without the instructions"),
        pytest.param("test_vit", "fp32", True, None, id="asked for fp32"),
        pytest.param("fastvit_t8", "bf16", False, torch.bfloat16, id="asked for bf16"),
    ],
)
def test_autocast_dtype(name: str, precision: str, cpu_bf16: bool, expected: torch.dtype | None,
                        monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("train.optim.cpu_has_bf16", lambda: cpu_bf16)
    model = timm.create_model(name, num_classes=2)
    assert autocast_dtype(precision, model, CPU) == expected


def test_a_teachers_decay_rises_to_1() -> None:
    decay = rising(0.9, total_steps=4)
    assert [decay(t) for t in (1, 3, 5)] == pytest.approx([0.9, 0.95, 1.0])


@pytest.mark.parametrize("start", [0.04, 0.0])
def test_weight_decay_follows_a_cosine_where_there_is_one(start: float) -> None:
    optimizer = make_optimizer(nn.Linear(2, 2), start)
    for step in (0, 5):
        set_weight_decay(optimizer, cosine(step, start=start, end=0.4, total_steps=10))
    assert [group["weight_decay"] for group in optimizer.param_groups] == pytest.approx([(start + 0.4) / 2, 0.0])


def test_a_model_without_vectors_is_optimised() -> None:
    model = nn.Linear(2, 2, bias=False)
    optimizer = make_optimizer(model, 0.05)
    model(torch.ones(1, 2)).sum().backward()
    set_learning_rate(optimizer, 0.1)
    before = model.weight.detach().clone()
    optimizer.step()
    assert not torch.equal(model.weight, before)


@pytest.mark.parametrize("name", ["mobilevitv2_050", "test_efficientnet"])
def test_shared_statistics_keep_activations(name: str) -> None:
    """timm fuses an activation into its BatchNorm; torch's own conversion to SyncBatchNorm drops it."""
    model = timm.create_model(name, num_classes=3).eval()
    pixels = torch.randn(1, 3, 64, 64)
    before = model(pixels)
    shared = with_shared_statistics(model)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in shared.modules())
    torch.testing.assert_close(shared.eval()(pixels), before)
