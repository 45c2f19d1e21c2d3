"""`train export --format onnx`: ONNX Runtime answers as training does, and the file says how to feed it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from tiny_exports import NAMES, TRAINING, write_model
from torch import nn

import train.cli
from reinforce.command import run_group
from reinforce.errors import MissingExtraError, ModelError, OutputExistsError, UsageError
from reinforce.models import Preprocess, create_model, load_model, upsample
from reinforce.models.info import ModelInfo
from train.export.deployed import InputKind, Signature, inference_copy
from train.export.export import ExportConfig, ExportResult, export
from train.export.onnx_file import batch_sizes, compare, measure_parity, probe_views, write_onnx

Case = tuple[str, dict[str, Any], dict[str, Any]]
SEGMENTS = {"task": "segmentation", "head": "linear"}
ASPP = {**SEGMENTS, "head": "deeplabv3"}
CASES = [
    pytest.param(("fastvit_t8", {"image_size": 64}, {}), id="fastvit"),
    pytest.param(("mobilevitv2_050", {"image_size": 64}, {"input": "normalized", "dynamic_batch": True}), id="mobile"),
    pytest.param(("fastvit_t8", {"image_size": 64, **SEGMENTS}, {"input": "normalized"}), id="fastvit-map"),
    pytest.param(("mobilevitv2_050", {"image_size": 32, **ASPP}, {"batch_size": 4}), id="aspp"),
    pytest.param(("test_vit", {"image_size": 32, **SEGMENTS}, {"dynamic_batch": True}), id="vit-map"),
    pytest.param(("test_efficientnet", {"image_size": 64}, {"image_size": 96}), id="resized"),
]


class Exported:
    """A model directory beside the file made from it."""

    def __init__(self, folder: Path, case: Case) -> None:
        name, made, self.options = case
        self.directory, self.file = write_model(folder / "model", name, **made), folder / "model.onnx"
        config = ExportConfig(model=str(self.directory), format="onnx", out=str(self.file), **self.options)
        self.result = export(config)
        self.kind: InputKind = config.input
        self.session = onnxruntime.InferenceSession(str(self.file), providers=["CPUExecutionProvider"])
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map

    def run(self, images_BPP3: np.ndarray) -> np.ndarray:
        """By the file's own description alone."""
        how = json.loads(self.metadata["preprocessing"])
        pixels = images_BPP3.transpose(0, 3, 1, 2).astype(np.float32)
        if how["normalized_by"] == "the caller":
            mean, std = (np.array(how[name], np.float32).reshape(1, 3, 1, 1) for name in ("mean", "std"))
            pixels = (pixels / 255 - mean) / std
        return self.session.run(["logits"], {"pixels": np.ascontiguousarray(pixels)})[0]

    def wanted(self, images_BPP3: np.ndarray) -> np.ndarray:
        """As training and evaluation have it, without anything of train.export."""
        size = self.options.get("image_size")
        task = load_model(self.directory)[1].task
        model, info = create_model(str(self.directory), image_size=size, task=task)
        with torch.no_grad():
            logits = model(Preprocess.from_info(info)(images_BPP3))
        return (upsample(logits, info.image_size) if task == "segmentation" else logits).numpy()


@pytest.fixture(scope="module", params=CASES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return Exported(tmp_path_factory.mktemp("export"), request.param)


def test_the_file_answers_as_the_trained_model_does(exported: Exported) -> None:
    size = json.loads(exported.metadata["preprocessing"])["size_px"]
    batch = exported.options.get("batch_size", 1)
    for seed, count in enumerate((batch, 3) if "dynamic_batch" in exported.options else (batch, batch)):
        images = np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)
        given, wanted = exported.run(images), exported.wanted(images)
        assert given.shape == wanted.shape
        assert np.abs(given - wanted).max() <= 2e-5 * np.abs(wanted).max()


def test_the_verb_measured_the_same(exported: Exported) -> None:
    parity = exported.result.parity
    assert parity is not None
    assert parity.holds
    assert 0 < parity.max_difference <= 2e-5 * parity.max_logit
    assert parity.top1_agreement == 1.0
    assert parity.num_images >= 6
    assert str(parity) in str(exported.result)


def test_the_file_says_what_it_is(exported: Exported) -> None:
    written = json.loads((exported.directory / "model.json").read_text())
    facts = exported.metadata
    assert json.loads(facts["class_names"]) == list(NAMES)
    assert facts["task"] == written["task"]
    assert facts["license"] == "apache-2.0"
    assert facts["weights_sha256"] == written["provenance"]["weights_sha256"]
    assert json.loads(facts["store_manifest_digests"]) == [TRAINING["store"]["manifest_digest"]]  # type: ignore[index]
    assert json.loads(facts["provenance"]) == written["provenance"]
    how = json.loads(facts["preprocessing"])
    assert how["framing"].startswith("the whole image" if facts["task"] == "segmentation" else "the largest central")
    assert (how["mean"], how["std"]) == (written["mean"], written["std"])
    assert (how["size_px"], how["colour_order"]) == (exported.options.get("image_size", written["image_size"]), "RGB")


def test_shapes_are_fixed_unless_asked_for(exported: Exported) -> None:
    (taken,), (given,) = exported.session.get_inputs(), exported.session.get_outputs()
    batch = "batch" if "dynamic_batch" in exported.options else exported.options.get("batch_size", 1)
    size = json.loads(exported.metadata["preprocessing"])["size_px"]
    assert (taken.name, taken.type, taken.shape) == ("pixels", "tensor(float)", [batch, 3, size, size])
    sides = [size, size] if exported.metadata["task"] == "segmentation" else []
    assert (given.name, given.shape) == ("logits", [batch, 3, *sides])


def test_no_training_branch_is_left(exported: Exported) -> None:
    """FastViT's parallel branches are one convolution each; normalisations are part of convolutions."""
    nodes = onnx.load(exported.file).graph.node
    model, info = load_model(exported.directory)
    convolutions = [module for module in inference_copy(model, info.image_size).modules() if type(module) is nn.Conv2d]
    kinds = [node.op_type for node in nodes]
    assert kinds.count("BatchNormalization") <= (1 if exported.options.get("batch_size") == 4 else 0)
    assert kinds.count("Conv") == len(convolutions)


@pytest.mark.parametrize("options", [{}, SEGMENTS], ids=["rows", "maps"])
@pytest.mark.parametrize("name", ["fastvit_t8", "mobilevitv2_050", "test_vit"])
def test_fusing_changes_nothing_but_rounding(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    model, info = load_model(write_model(tmp_path / "model", name, image_size=64, **options))
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    fused = inference_copy(model, 64)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        wanted, given = model(images), fused(images)
    assert (given - wanted).abs().max() <= 1e-5 * wanted.abs().max()
    assert (name == "fastvit_t8") == (len(fused.state_dict()) < len(weights))
    assert model.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    assert info.num_classes == 3


@pytest.mark.parametrize("name", ["fastvit_t8", "mobilevitv2_050", "test_vit"])
def test_timm_reloads_what_is_exported_from(name: str, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", name, image_size=64)
    ours, info = load_model(folder)
    weights = str(folder / "model.safetensors")
    theirs = timm.create_model(name, num_classes=3, checkpoint_path=weights, **info.model_args).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(theirs(images), ours(images))


def test_a_file_of_other_weights_is_noticed(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", "test_efficientnet", image_size=32)
    export(ExportConfig(model=str(folder), format="onnx", out=str(tmp_path / "a.onnx")))
    model, info = load_model(folder)
    signature = Signature(image_size=32, kind="pixels", batch_size=1, is_dynamic=False)
    assert measure_parity(tmp_path / "a.onnx", model, info, signature).holds
    with torch.no_grad():
        model.classifier.bias[0] += 0.05  # type: ignore[union-attr, index]
    parity = measure_parity(tmp_path / "a.onnx", model, info, signature)
    assert parity.max_difference == pytest.approx(0.05, rel=1e-2)
    assert not parity.holds


class OtherWhenExported(nn.Module):
    """Answers differently while it is traced, as code that asks `is_exporting` can."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 3)

    def forward(self, images_B3PP: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(images_B3PP.mean(dim=(2, 3)))
        return logits * 2 if torch.compiler.is_exporting() else logits


def test_a_conversion_that_changes_answers_leaves_the_former_file(tmp_path: Path) -> None:
    info = ModelInfo(architecture="mine", image_size=16, class_names=NAMES)
    out = tmp_path / "mine.onnx"
    out.write_bytes(b"former")
    signature = Signature(image_size=16, kind="pixels", batch_size=1, is_dynamic=False)
    facts = dict.fromkeys(("architecture", "task", "input", "output"), "x")
    with pytest.raises(ModelError, match="is not the trained one, nothing was written: ONNX Runtime differs"):
        write_onnx(OtherWhenExported().eval(), info, signature, facts, out)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("mine.onnx", b"former")]


def test_not_a_number_is_no_parity() -> None:
    logits = np.array([[1.0, 2.0], [3.0, 0.0]], np.float32)
    assert compare(logits, logits).holds
    broken = logits.copy()
    broken[1, 1] = np.nan
    assert not compare(logits, broken).holds


@pytest.mark.parametrize("batch_size", [1, 4, 5, 9])
def test_every_probe_is_run_at_every_batch_size(batch_size: int) -> None:
    sizes = batch_sizes(Signature(image_size=8, kind="pixels", batch_size=batch_size, is_dynamic=False))
    views = probe_views(8, sum(sizes)).numpy()
    assert set(sizes) == {batch_size}
    assert {views[index].min() for index in range(len(views))} >= {0, 255}
    assert len({view.tobytes() for view in views}) == 6


class TestOptions:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return write_model(tmp_path / "model", "test_efficientnet", image_size=32)

    def test_nothing_is_overwritten_silently(self, folder: Path, tmp_path: Path) -> None:
        out = tmp_path / "a.onnx"
        out.write_bytes(b"mine")
        config = {"model": str(folder), "format": "onnx", "out": str(out)}
        with pytest.raises(OutputExistsError, match="type --overwrite"):
            export(ExportConfig(**config))  # type: ignore[arg-type]
        assert out.read_bytes() == b"mine"
        export(ExportConfig(**config, overwrite=True))  # type: ignore[arg-type]
        assert onnx.load(out).graph.input[0].name == "pixels"
        assert not list(tmp_path.glob(".*"))

    def test_a_missing_licence_is_said(self, folder: Path, tmp_path: Path) -> None:
        data = json.loads((folder / "model.json").read_text())
        del data["provenance"]["license"]
        (folder / "model.json").write_text(json.dumps(data))
        result = export(ExportConfig(model=str(folder), format="onnx", out=str(tmp_path / "new" / "b.onnx")))
        assert result.license == "unknown"
        assert result.unlicensed == ("the weights", "transfer set web")
        assert "no licence is recorded of the weights, transfer set web: --license states that" in str(result)

    @pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
    def test_a_missing_package_is_named(self, package: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtraError, match=rf"^--format onnx needs {package}: pip install '.*\[export\]'$"):
            export(ExportConfig(model=str(folder), format="onnx", out="a.onnx"))

    @pytest.mark.parametrize(
        ("options", "line"),
        [
            ({"format": "onnx", "out": "a.pb"}, r"--out is a.pb: it must be a name that ends in \.onnx"),
            ({"format": "coreml", "out": "a.onnx"}, r"--out is a.onnx: it must be a name that ends in \.mlpackage"),
            ({"format": "onnx", "out": "a.onnx", "batch_size": 0}, "--batch-size is 0"),
            ({"format": "onnx", "out": "a.onnx", "batch_size": 2, "dynamic_batch": True}, "leave --batch-size out"),
            ({"format": "coreml", "out": "a.mlpackage", "dynamic_batch": True}, "--dynamic-batch has no meaning for"),
            ({"format": "timm", "out": "a", "image_size": 64}, "--image-size has no meaning for --format timm"),
        ],
        ids=lambda value: None,
    )
    def test_options_that_do_not_fit(self, options: dict[str, Any], line: str) -> None:
        with pytest.raises(UsageError, match=line):
            ExportConfig(model="m", **options)

    def test_what_answers_nothing_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="architecture without weights"):
            export(ExportConfig(model="fastvit_t8", format="onnx", out="a.onnx"))
        from reinforce.models import save_model

        save_model(tmp_path / "bare", *create_model("test_efficientnet"))
        with pytest.raises(ModelError, match="has no head"):
            export(ExportConfig(model=str(tmp_path / "bare"), format="onnx", out="a.onnx"))

    def test_the_command_prints_one_object(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        argv = ["export", "--model", str(folder), "--format", "onnx", "--out", "a.onnx", "--license", "mit", "--json"]
        assert run_group(train.cli.command, argv) == 0
        printed = capsys.readouterr()
        found = json.loads(printed.out)
        assert found["parity"].keys() == {"max_difference", "max_logit", "top1_agreement", "num_images"}
        assert found["bytes"] == Path("a.onnx").stat().st_size
        assert (found["license"], printed.err) == ("mit", "")
        assert isinstance(ExportResult(**found), ExportResult)
