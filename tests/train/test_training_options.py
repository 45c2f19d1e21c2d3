"""Configs of the four verbs: every option is documented, and reading them imports nothing heavy."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from reinforce.command import field_docs
from reinforce.errors import UsageError
from train.adapt import AdaptConfig
from train.distill import DistillConfig
from train.evaluate import EvaluateConfig
from train.finetune import FinetuneConfig
from train.options import default_epochs, num_steps

CONFIGS = [AdaptConfig, DistillConfig, FinetuneConfig, EvaluateConfig]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.__name__)
def test_every_option_has_a_line_of_help(config: type) -> None:
    fields = {field.name for field in dataclasses.fields(config)}
    assert fields == {name for name, text in field_docs(config).items() if text.endswith(".")}


def test_configs_import_neither_torch_nor_zarr() -> None:
    code = ("import sys, train.adapt, train.distill, train.finetune, train.evaluate; "
            "print(sorted({'torch', 'timm', 'zarr', 'numpy', 'PIL'} & set(sys.modules)))")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("epochs", "steps", "expected"),
    [(None, None, 9 * 4), (3, None, 3 * 4), (None, 50, 50)],
    ids=["default", "epochs", "steps"],
)
def test_length_of_a_run(epochs: int | None, steps: int | None, expected: int) -> None:
    config = DistillConfig(cache="x.zarr", epochs=epochs, steps=steps)
    assert num_steps(config, 4, 9) == expected


def test_fewer_than_no_workers() -> None:
    with pytest.raises(UsageError, match="--workers is -5"):
        DistillConfig(cache="x.zarr", workers=-5)


@pytest.mark.parametrize(("images", "epochs"), [(10, 200), (100, 200), (1000, 20), (60_000, 20)])
def test_default_epochs(images: int, epochs: int) -> None:
    assert default_epochs(images, image_passes=20_000, shortest=20, longest=200) == epochs
