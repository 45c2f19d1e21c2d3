"""One command for all methods: options reach the method that takes them, others are refused in one line."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import typing
from typing import Any

import pytest

from reinforce.command import OutputOptions, field_docs
from reinforce.errors import UsageError
from train.pretrain.pretrain import METHODS, PretrainConfig, find_method, method_config

NEEDED: dict[str, dict[str, Any]] = {
    "supervised": {"data": "labelled"},
    "dino": {"transfer": "images"},
    "clip": {"transfer": "captioned"},
    "clip-affinity": {"cache": "images.zarr", "text_cache": "texts.zarr"},
}


def config_of(method: str, **options: Any) -> Any:
    needed = {"model": "fastvit_t8", "out": "run", **NEEDED[method]}
    return method_config(find_method(method), PretrainConfig(method=method, **needed | options))  # type: ignore[arg-type]


def config_class(method: str) -> type:
    (hint,) = [h for name, h in typing.get_type_hints(find_method(method)).items() if name != "return"]
    return hint


@pytest.mark.parametrize("method", METHODS)
def test_what_is_not_typed_is_the_methods_own_default(method: str) -> None:
    made, config = config_of(method), config_class(method)
    assert made == config(model="fastvit_t8", out="run", **NEEDED[method])
    assert made.method == method


@pytest.mark.parametrize("method", METHODS)
def test_what_is_typed_arrives(method: str) -> None:
    made = config_of(method, epochs=3, batch_size=8, weight_decay=0.05, seed=4, resume=True)
    assert (made.epochs, made.batch_size, made.weight_decay, made.seed, made.resume) == (3, 8, 0.05, 4, True)


def test_one_learning_rate_is_one_to_try() -> None:
    assert config_of("supervised", lr=1e-3).lr == (1e-3,)


def test_every_option_is_of_a_method() -> None:
    taken = {field.name for method in METHODS for field in dataclasses.fields(config_class(method))}
    common = {field.name for field in dataclasses.fields(OutputOptions)}
    assert {field.name for field in dataclasses.fields(PretrainConfig)} - common <= taken


def test_every_option_has_a_line_of_help() -> None:
    fields = {field.name for field in dataclasses.fields(PretrainConfig)}
    assert fields == {
        name for name, text in field_docs(PretrainConfig).items() if text.endswith(".") and "\n" not in text
    }


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        pytest.param("supervised", {"data": None}, "needs --data: type --data DATA", id="no labels"),
        pytest.param(
            "supervised", {"transfer": "x"}, "--transfer is no option of --method supervised", id="images alone"
        ),
        pytest.param("dino", {"transfer": None}, "needs --transfer: type --transfer TRANSFER", id="no images"),
        pytest.param("dino", {"data": "x"}, "--data is no option of --method dino: leave it out", id="labels"),
        pytest.param("dino", {"policy": "crops"}, "--policy is no option", id="own augmentation"),
        pytest.param("dino", {"prototypes": 1}, "--prototypes is 1: it must be 2 or more", id="one prototype"),
        pytest.param("dino", {"val_limit": -1}, "--val-limit is -1: it must be 0 or more", id="fewer than none"),
        pytest.param("clip", {"val_limit": -1}, "--val-limit is -1: it must be 0 or more", id="fewer pairs than none"),
        pytest.param("dino", {"ema": 0.0}, "--ema is 0.0: it must be above 0", id="no teacher"),
        pytest.param("dino", {"crop_scale": (0.4,)}, "--crop-scale is .*two shares", id="half a range"),
        pytest.param("dino", {"teacher_warmup": 1.5}, "--teacher-warmup is 1.5", id="no share"),
        pytest.param("supervised", {"prototypes": 9}, "--prototypes is no option of --method supervised", id="a head"),
        pytest.param("supervised", {"epochs": 1, "steps": 1}, "exclude each other", id="two lengths"),
    ],
)
def test_wrong_options_are_refused_in_one_line(method: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        config_of(method, **options)
    assert "\n" not in str(caught.value)


def test_configs_import_neither_torch_nor_zarr() -> None:
    modules = ", ".join(["train.pretrain.pretrain", *(target.split(":")[0] for target in METHODS.values())])
    code = f"import sys, {modules}; print(sorted({{'torch', 'timm', 'zarr', 'numpy', 'PIL'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
