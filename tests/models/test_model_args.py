"""What an architecture was given beside its name: typed, read from a folder of timm's, kept, never obeyed blindly."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import build_model_with_cfg, save_for_hf

from reinforce.errors import ModelError, ReinforceError, UsageError
from reinforce.import_model import ImportModelConfig, import_model
from reinforce.models import create_model, load_model
from reinforce.models.directory import read_info
from reinforce.models.hub_folder import hub_folder
from reinforce.models.model_args import RESERVED, parse

VIT = "vit_tiny_patch16_224", {"depth": 2, "embed_dim": 48, "num_heads": 3, "class_token": False,
                               "global_pool": "avg", "img_size": 64}  # fmt: skip
CONVNEXT = "convnext_atto", {"depths": [1, 1, 2, 1], "dims": [8, 16, 24, 32]}
BOTH = pytest.mark.parametrize(("arch", "args"), [pytest.param(*VIT, id="vit"), pytest.param(*CONVNEXT, id="convnext")])


def theirs(arch: str, args: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return timm.create_model(arch, num_classes=3, **args).eval()


def typed(args: dict[str, Any]) -> tuple[str, ...]:
    """As one types it."""
    return tuple(f"{name}={','.join(map(str, value)) if isinstance(value, list) else str(value).lower()}"
                 for name, value in args.items() if name != "img_size")  # fmt: skip


def imported(tmp_path: Path, arch: str, args: dict[str, Any], **options: Any) -> Path:
    torch.save(theirs(arch, args).state_dict(), tmp_path / "my.pt")
    config: dict[str, Any] = {"arch": arch, "arch_arg": typed(args), "weights": str(tmp_path / "my.pt"),
                              "image_size": 64, "out": str(tmp_path / "mine")}  # fmt: skip
    import_model(ImportModelConfig(**(config | options)))
    return tmp_path / "mine"


@BOTH
def test_typed_arguments_are_kept_and_answer_as_the_trained_model(
    tmp_path: Path, arch: str, args: dict[str, Any]
) -> None:
    folder = imported(tmp_path, arch, args)
    pixels = torch.rand(2, 3, 64, 64)
    info = read_info(folder)
    assert args.items() <= dict(info.model_args).items()
    again = timm.create_model(arch, num_classes=3, checkpoint_path=folder / "model.safetensors", **info.model_args)
    with torch.inference_mode():
        wanted = theirs(arch, args)(pixels)
        assert torch.equal(load_model(folder)[0](pixels), wanted)
        assert torch.equal(again.eval()(pixels), wanted)


@BOTH
def test_arguments_of_a_folder_of_timms_are_heeded_there_and_back(
    tmp_path: Path, arch: str, args: dict[str, Any]
) -> None:
    model = theirs(arch, args)
    model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, 64, 64)}
    save_for_hf(model, str(tmp_path / "hf"), model_args=args)
    said = import_model(ImportModelConfig(weights=str(tmp_path / "hf"), out=str(tmp_path / "mine")))
    assert f"{arch} with {typed(args)[0]}, " in str(said)
    exported = tmp_path / "exported"
    exported.mkdir()
    for name, content in hub_folder(tmp_path / "mine").items():
        (exported / name).write_bytes(content)
    again = timm.create_model(f"local-dir:{exported}", pretrained=True).eval()
    with torch.inference_mode():
        pixels = torch.rand(2, 3, 64, 64)
        assert torch.equal(again(pixels), model(pixels))


def test_it_can_segment_and_classify_again(tmp_path: Path) -> None:
    folder = imported(tmp_path, *VIT)
    dense, info = create_model(str(folder), class_names=("a", "b"), task="segmentation", head="linear")
    assert dense(torch.rand(1, 3, 64, 64)).shape == (1, 2, 8, 8)
    assert (info.model_args["depth"], info.model_args["dynamic_img_size"]) == (2, True)


def test_what_is_typed_wins_over_the_folder(tmp_path: Path) -> None:
    arch, args = VIT
    save_for_hf(theirs(arch, args), str(tmp_path / "hf"), model_args={**args, "num_heads": 4})
    import_model(ImportModelConfig(weights=str(tmp_path / "hf"), out=str(tmp_path / "mine"),
                                   arch_arg=("num_heads=3",)))  # fmt: skip
    assert read_info(tmp_path / "mine").model_args["num_heads"] == 3


def test_values_are_read_as_what_they_are() -> None:
    assert parse(("depth=6", "drop_rate=0.5", "class_token=False", "act_layer=gelu", "dims=(8, 16)")) == {
        "depth": 6, "drop_rate": 0.5, "class_token": False, "act_layer": "gelu", "dims": [8, 16],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("depth", "type a name and a value, such as --arch-arg depth=6", id="no value"),
        pytest.param("=6", "type a name and a value", id="no name"),
        pytest.param("num_classes=3", "leave it out, it is read from the weights", id="classes"),
        pytest.param("img_size=64", "leave it out, type --image-size", id="size"),
        pytest.param("in_chans=1", "leave it out, images are RGB", id="channels"),
        pytest.param("pretrained=true", "leave it out, it is no argument of an architecture", id="weights"),
        pytest.param("checkpoint_path=x.pt", "leave it out, it is no argument of an architecture", id="a file"),
        pytest.param("norm_layer=/etc/passwd", "norm_layer must be a number", id="a path"),
        pytest.param("depth=nan", "depth must be a number up to 65,536", id="not a number"),
        pytest.param("depth=1e9", "depth must be a number up to 65,536", id="billions"),
        pytest.param("depth=None", "leave it out, None is timm's default", id="nothing"),
        pytest.param("depths=1,,x", "depths must be a number", id="words in a list"),
    ],
)
def test_what_is_no_argument_is_a_usage_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        imported(tmp_path, *VIT, arch_arg=(text,))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mine").exists()


def test_an_argument_twice_and_one_of_open_clip_are_usage_errors(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gives depth twice"):
        imported(tmp_path, *VIT, arch_arg=("depth=2", "depth=3"))
    with pytest.raises(UsageError, match="--arch-arg is for timm's architectures"):
        ImportModelConfig(arch="open_clip:ViT-B-32", arch_arg=("depth=2",), weights="a", out="b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"num_heads": 0}, "timm cannot create vit_tiny.*modulo by zero", id="no heads"),
        pytest.param({"norm_layer": "nonsense"}, "timm cannot create vit_tiny.*nonsense", id="unknown layer"),
        pytest.param({"depht": 2}, "unexpected keyword argument 'depht'", id="misspelt"),
        pytest.param({"depth": 3}, "does not fit .*what it was given .--arch-arg depth=6", id="another depth"),
    ],
)
def test_what_timm_cannot_create_is_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    arch, args = VIT
    with pytest.raises(ModelError, match=message) as caught:
        imported(tmp_path, arch, args, arch_arg=typed({**args, **change}))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize(
    "args",
    [
        pytest.param({"pretrained_cfg": "hf-hub:bad/model"}, id="an address"),
        pytest.param({"checkpoint_path": "bomb.pt"}, id="a file to unpickle"),
        pytest.param({"cache_dir": "/etc"}, id="a folder"),
        pytest.param({"features_only": True}, id="a wrapper"),
        pytest.param({"norm_layer": {"a": 1}}, id="an object"),
        pytest.param({"norm_layer": "torch.nn:Linear()"}, id="a call"),
        pytest.param({"depth": None}, id="null"),
        pytest.param({"depth": 10**9}, id="billions"),
        pytest.param({"drop_rate": float("inf")}, id="infinity"),
        pytest.param({"depths": [[1], [2]]}, id="nested"),
        pytest.param({"depths": [1] * 1000}, id="a long list"),
        pytest.param({"img_size": "64"}, id="a size in words"),
        pytest.param({"__class__": 1}, id="a name of Python's"),
        pytest.param(["depth"], id="a list"),
    ],
)
def test_a_hostile_model_json_is_refused_before_timm_sees_it(
    tmp_path: Path, args: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = imported(tmp_path, *VIT)
    path = folder / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_args": args}))
    monkeypatch.setattr(timm, "create_model", lambda *_, **__: pytest.fail("timm was asked"))
    with pytest.raises(ReinforceError, match=r"^model\.json: model_args") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


def test_all_that_timm_takes_for_itself_is_reserved() -> None:
    """An argument that a newer timm adds to these must be looked at."""
    own = {name for function in (timm.create_model, build_model_with_cfg)
           for name in inspect.signature(function).parameters}  # fmt: skip
    assert own - {"kwargs"} <= RESERVED
