"""What rounding may take beside a teacher: counted in operations, so that a plan is the same every time."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny_builds import CLASSES, make_segmenter, make_teacher
from torch import nn

from reinforce.encoding_effort import SHARE, SHARE_BESIDE, rounding_flops
from reinforce.models import create_model, save_model
from reinforce.teacher import Teacher


def opened(folder: Path, **changes: str) -> Teacher:
    return Teacher(str(folder), device="cpu", dtype="float32", threads=1, batch_size=2, **changes)


def operations_by_hooks(module: nn.Module, size_px: int) -> int:
    """Of every convolution and linear layer: two for each of an output's products."""
    counted = []

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            counted.append(2 * output.numel() * layer.weight[0].numel())

    hooks = [layer.register_forward_hook(count) for layer in module.modules()]
    with torch.no_grad():
        module(torch.zeros(1, 3, size_px, size_px))
    for hook in hooks:
        hook.remove()
    return sum(counted)


@pytest.mark.parametrize("size_px", [32, 64])
def test_counts_products_as_an_own_count_does(tmp_path, size_px):
    model, info = create_model("test_byobnet", class_names=CLASSES, image_size=size_px)
    save_model(tmp_path / "teacher", model, info)
    teacher = opened(tmp_path / "teacher")
    assert teacher.flops_per_view() == operations_by_hooks(teacher.module, size_px)


def test_is_a_share_of_the_teachers_operations(tmp_path):
    teacher = opened(make_teacher(tmp_path / "teacher"))
    assert rounding_flops(teacher) == SHARE["cpu"] * teacher.flops_per_view() == rounding_flops(teacher)
    teacher.device = torch.device("meta")
    teacher.module = teacher.module.to("meta")
    assert rounding_flops(teacher) == SHARE_BESIDE * teacher.flops_per_view()


def test_targets_that_are_not_rounded_have_no_limit(tmp_path):
    assert rounding_flops(opened(make_segmenter(tmp_path / "segmenter"))) == math.inf
    assert rounding_flops(opened(make_teacher(tmp_path / "teacher"), target="global-features")) == math.inf
