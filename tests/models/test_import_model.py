"""A user's own checkpoint becomes a model directory, and nothing in it is ever executed."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from reinforce.errors import ModelError, OutputExistsError, ReinforceError, UsageError
from reinforce.import_model import ImportModelConfig, import_model
from reinforce.models import create_model, get_head, load_model
from reinforce.models.checkpoint import read_checkpoint
from reinforce.models.origin import used_stores

ARCH = "mobilevitv2_050"
VIT = "vit_small_patch14_dinov2"


class Bomb:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def trained(num_classes: int = 3) -> dict[str, torch.Tensor]:
    return dict(timm.create_model(ARCH, num_classes=num_classes).state_dict())


def run(tmp_path: Path, content: object, **options: Any) -> Path:
    weights = tmp_path / "my.pt"
    torch.save(content, weights)
    out = tmp_path / "out"
    import_model(ImportModelConfig(**({"arch": ARCH, "weights": str(weights), "out": str(out)} | options)))
    return out


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda state: state, id="bare"),
        pytest.param(lambda state: {"state_dict": state, "epoch": 3}, id="state_dict"),
        pytest.param(lambda state: {"model": state}, id="model"),
        pytest.param(lambda state: {"module": state}, id="module"),
        pytest.param(
            lambda state: {"model": {k: v * 0 for k, v in state.items()}, "model_ema": state}, id="average first"
        ),
        pytest.param(lambda state: {"module." + k: v for k, v in state.items()}, id="DistributedDataParallel"),
        pytest.param(lambda state: {"_orig_mod.module." + k: v for k, v in state.items()}, id="compiled"),
        pytest.param(lambda state: {"state_dict": {"model." + k: v for k, v in state.items()}}, id="Lightning"),
        pytest.param(lambda state: {"model": state, "args": argparse.Namespace(lr=0.1)}, id="argparse.Namespace"),
    ],
)
def test_the_usual_wrappings_are_taken_off(tmp_path: Path, wrap: Any) -> None:
    state = trained()
    model, info = load_model(run(tmp_path, wrap(state)))
    loaded = model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    assert info.class_names == ("c0", "c1", "c2")


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file(trained(), tmp_path / "my.safetensors")
    out = run(tmp_path, {}, weights=str(tmp_path / "my.safetensors"))
    assert load_model(out)[1].num_classes == 3


def test_a_classifier_of_another_name_is_found_by_head_key(tmp_path: Path) -> None:
    state = {name.replace("head.fc.", "classifier."): tensor for name, tensor in trained().items()}
    model, _ = load_model(run(tmp_path, state, head_key="classifier"))
    assert torch.equal(get_head(model).weight, state["classifier.weight"])


def test_the_authors_layout_is_converted(tmp_path: Path) -> None:
    """FastViT as published by its authors names its layers otherwise than timm; undo some of timm's renaming."""
    state = timm.create_model("fastvit_t8", num_classes=3).state_dict()
    published = {_authors_name(name): tensor for name, tensor in state.items()}
    model, _ = load_model(run(tmp_path, published, arch="fastvit_t8", head_key="head"))
    loaded = model.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


def _authors_name(name: str) -> str:
    stage, _, rest = name.removeprefix("stages.").partition(".")
    if name.startswith("stages.") and rest.startswith("downsample.proj"):
        name = f"network.{2 * int(stage) - 1}.{rest.removeprefix('downsample.')}"
    elif name.startswith("stages."):
        name = f"network.{2 * int(stage)}.{rest.removeprefix('blocks.')}"
    renames = {
        "stem": "patch_embed", "conv_kxk": "rbr_conv", "conv_scale": "rbr_scale", "identity": "rbr_skip",
        "final_conv": "conv_exp", "large_conv": "lkb_origin", "mlp": "convffn", "se.fc1": "se.reduce",
        "se.fc2": "se.expand", "layer_scale.gamma": "layer_scale", "head.fc": "head",
    }  # fmt: skip
    for ours, theirs in renames.items():
        name = name.replace(ours, theirs)
    return name


@pytest.mark.parametrize("image_size", [None, 28], ids=["as trained", "resampled"])
def test_the_size_of_a_vit_is_read_from_its_positions(tmp_path: Path, image_size: int | None) -> None:
    state = timm.create_model(VIT, num_classes=2, img_size=42).state_dict()
    _, info = load_model(run(tmp_path, dict(state), arch=VIT, image_size=image_size))
    assert info.image_size == (image_size or 42)


def test_without_a_classifier_there_is_no_head(tmp_path: Path) -> None:
    state = {name: tensor for name, tensor in trained().items() if not name.startswith("head.fc.")}
    _, info = load_model(run(tmp_path, state))
    assert info.head == "none"


def test_what_the_user_says_is_kept(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("cat\ndog\nbird, small\n", encoding="utf-8")
    out = run(tmp_path, trained(), class_names=str(names), mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1.0), license="MIT")
    info = load_model(out)[1]
    assert info.class_names == ("cat", "dog", "bird, small")
    assert (info.mean, info.std) == ((0.5, 0.5, 0.5), (0.25, 0.5, 1.0))
    assert info.provenance["license"] == "MIT"
    assert info.provenance["source"] == "my.pt"
    assert str(tmp_path) not in (out / "model.json").read_text()


class TestRefusals:
    def test_other_python_objects_are_named_and_not_run(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"holds Python objects.*mkdir.*torch.save\(model.state_dict"):
            run(tmp_path, {"model": trained(), "bomb": Bomb(tmp_path / "exploded")})
        assert not (tmp_path / "exploded").exists()

    def test_a_page_that_was_saved_as_weights_is_called_that(self, tmp_path: Path) -> None:
        page = tmp_path / "vit.pth"
        page.write_text("<!DOCTYPE html><title>404</title>")
        with pytest.raises(ModelError, match=r"vit\.pth was not written by torch\.save, and may be a web page"):
            read_checkpoint(page)

    def test_a_file_of_an_old_torch_is_read(self, tmp_path: Path) -> None:
        torch.save({"a": torch.ones(2)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
        assert read_checkpoint(tmp_path / "old.pt")["a"].tolist() == [1, 1]

    def test_a_whole_pickled_module_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="holds Python objects"):
            run(tmp_path, torch.nn.Linear(2, 2))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param(lambda s: {k: v for k, v in s.items() if "stem" not in k}, r"missing \(stem", id="missing"),
            pytest.param(lambda s: s | {"decoder.weight": torch.ones(1)}, r"unexpected \(decoder", id="unexpected"),
            pytest.param(lambda s: s | {"stem.conv.weight": torch.ones(1)}, "1 instead of 16x3x3x3", id="other shape"),
            pytest.param(lambda s: {}, "holds no weights", id="empty"),
            pytest.param(lambda s: [1, 2], "holds no weights", id="a list"),
            pytest.param(
                lambda s: {k.replace("head.fc.", "fc."): v for k, v in s.items()},
                "add --head-key",
                id="hidden classifier",
            ),
        ],
    )
    def test_weights_that_do_not_fit_are_one_line_that_names_some(
        self, tmp_path: Path, change: Any, message: str
    ) -> None:
        with pytest.raises(ModelError, match=message) as caught:
            run(tmp_path, change(trained()))
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 400
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            pytest.param({"head_key": "fc"}, r"no fc\.weight: its last linear layers are head\.fc", id="unknown head"),
            pytest.param({"class_names": ",".join(map(str, range(300)))}, "300 names", id="300 names"),
            pytest.param({"class_names": "a,b"}, "2 names, the checkpoint's head has 3", id="wrong class count"),
            pytest.param({"class_names": "a,b,a"}, "--class-names gives 'a' twice", id="a name twice"),
            pytest.param({"arch": None}, "--arch is needed to read a file of weights", id="no architecture"),
            pytest.param({"arch": "local-dir:x"}, "a folder of timm's goes to --weights", id="a folder as --arch"),
            pytest.param({"mean": (0.5,)}, "--mean needs three numbers", id="one mean"),
            pytest.param({"mean": (123.7, 116.3, 103.5)}, "--mean needs three numbers in 0..1", id="means of bytes"),
            pytest.param({"std": (0.0, 1.0, 1.0)}, "--std must be above 0", id="zero std"),
            pytest.param({"arch": "fastvit_t8.apple_in1k"}, "type --arch fastvit_t8", id="a tag"),
            pytest.param({"arch": "fastvit_t9"}, "did you mean 'fastvit_t8'", id="unknown architecture"),
            pytest.param({"weights": "nowhere.pt"}, "no weights file", id="no file"),
            pytest.param(
                {"arch": "mobilevitv2_075"},
                "does not fit mobilevitv2_075: .*of another shape.*type the --arch of your training",
                id="another architecture",
            ),
        ],
    )
    def test_wrong_options_are_one_line(self, tmp_path: Path, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ReinforceError, match=message):
            run(tmp_path, trained(), **options)

    @pytest.mark.parametrize("name", ["broken.pt", "broken.safetensors"])
    def test_broken_files_are_one_line(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"PK\3\4 nothing that anyone could read")
        with pytest.raises(ModelError, match=name):
            run(tmp_path, {}, weights=str(tmp_path / name))

    def test_nothing_is_overwritten_silently(self, tmp_path: Path) -> None:
        run(tmp_path, trained())
        with pytest.raises(OutputExistsError):
            run(tmp_path, trained(2))
        assert load_model(run(tmp_path, trained(2), overwrite=True))[1].num_classes == 2


def test_an_imported_model_can_be_asked_for_other_classes(tmp_path: Path) -> None:
    out = run(tmp_path, trained())
    assert create_model(str(out), class_names=("x", "y"))[1].class_names == ("x", "y")


def test_usage_errors_are_usage_errors() -> None:
    with pytest.raises(UsageError):
        ImportModelConfig(arch=ARCH, weights="a", out="b", mean=(1.0, 2.0))


@pytest.mark.parametrize(
    ("module", "absent"),
    [
        pytest.param("reinforce.models", ("open_clip", "faiss", "onnx", "ray", "zarr", "train"), id="models"),
        pytest.param("reinforce.import_model", ("torch", "timm", "zarr"), id="import_model"),
    ],
)
def test_an_import_brings_in_nothing_that_it_need_not(module: str, absent: tuple[str, ...]) -> None:
    code = f"import sys, {module}; print(*sorted(set({absent!r}) & set(sys.modules)))"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split() == []


def test_it_is_known_by_its_folder_and_says_what_it_assumed(tmp_path: Path) -> None:
    """A wrong normalisation is the one mistake that nothing else would show."""
    torch.save(trained(), tmp_path / "my.pt")
    config = ImportModelConfig(arch=ARCH, weights=str(tmp_path / "my.pt"), out=str(tmp_path / "mine"),
                               mean=(0.4, 0.5, 0.6), class_names="ant,bee,cat")  # fmt: skip
    said = str(import_model(config))
    assert "3 classes (ant, bee, cat), registered as 'mine'" in said
    assert "--mean 0.4,0.5,0.6 --std 1,1,1" in said
    assert "train evaluate --model mine" in said
    assert load_model("mine")[1].class_names == ("ant", "bee", "cat")


@pytest.mark.parametrize(
    ("arch", "said"),
    [pytest.param("test_efficientnet", "--image-size 160:", id="cnn"), pytest.param("test_vit", "0.5:", id="vit")],
)
def test_a_size_that_the_weights_cannot_tell_is_named(tmp_path: Path, arch: str, said: str) -> None:
    torch.save(timm.create_model(arch, num_classes=2).state_dict(), tmp_path / "my.pt")
    config = ImportModelConfig(arch=arch, weights=str(tmp_path / "my.pt"), out=str(tmp_path / "mine"))
    assert f"{said} type those of your training" in str(import_model(config))


@pytest.mark.parametrize("name", ["resnet18", "vit_small_patch16_224"])
def test_an_architecture_is_not_hidden_by_a_model_of_its_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"the name of the architecture {name}"):
        run(tmp_path, trained(), out=str(tmp_path / name))


def test_a_provenance_that_others_wrote_names_no_stores() -> None:
    _, info = create_model(ARCH, class_names=("a", "b"), image_size=32)
    assert used_stores(info.with_provenance(training="on a Tuesday")) == []
