"""`train export --format coreml`: a whole package that says how to feed it. Predicting is for Apple's systems alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import coremltools
import pytest
from tiny_exports import NAMES, write_model

from reinforce.errors import MissingExtraError, ModelError, OutputExistsError
from reinforce.models import ModelInfo
from train.export.coreml import write_coreml
from train.export.deployed import Signature
from train.export.export import ExportConfig, export

# coremltools leaves temporary folders to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
SEGMENTS = {"task": "segmentation", "head": "linear"}


def spec_of(package: Path) -> Any:
    return coremltools.models.MLModel(str(package), skip_model_load=True).get_spec()


def operations(package: Path) -> list[str]:
    (function,) = spec_of(package).mlProgram.functions.values()
    (block,) = function.block_specializations.values()
    return [operation.type for operation in block.operations]


@pytest.mark.parametrize(
    ("name", "made", "kind", "output"),
    [
        pytest.param("fastvit_t8", {"image_size": 64}, "pixels", [1, 3], id="fastvit"),
        pytest.param("mobilevitv2_050", {"image_size": 64, **SEGMENTS}, "pixels", [1, 3, 64, 64], id="mobile-map"),
        pytest.param("test_vit", {"image_size": 32, **SEGMENTS}, "normalized", [1, 3, 32, 32], id="vit-map"),
    ],
)
def test_a_package_takes_pictures_and_says_what_it_is(name: str, made: dict[str, Any], kind: Any, output: list[int],
                                                      tmp_path: Path) -> None:  # fmt: skip
    out = tmp_path / "student.mlpackage"
    folder = write_model(tmp_path / "model", name, **made)
    result = export(ExportConfig(model=str(folder), format="coreml", out=str(out), input=kind))
    description = spec_of(out).description
    (taken,), (given,) = description.input, description.output
    size = made["image_size"]
    if kind == "pixels":
        assert (taken.type.imageType.width, taken.type.imageType.height) == (size, size)
        assert taken.type.imageType.colorSpace == taken.type.imageType.ColorSpace.Value("RGB")
    else:
        assert list(taken.type.multiArrayType.shape) == [1, 3, size, size]
    assert (taken.name, given.name, list(given.type.multiArrayType.shape)) == ("pixels", "logits", output)
    facts = dict(description.metadata.userDefined)
    assert json.loads(facts["class_names"]) == list(NAMES)
    assert json.loads(facts["preprocessing"])["size_px"] == size
    assert facts["weights_sha256"] == json.loads((folder / "model.json").read_text())["provenance"]["weights_sha256"]
    assert description.metadata.license == "apache-2.0"
    assert name != "fastvit_t8" or "batch_norm" not in operations(out)
    assert result.parity is None
    assert result.bytes == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "home") == ["model", "student.mlpackage"]


def test_a_former_package_is_replaced_only_when_told(tmp_path: Path) -> None:
    out = tmp_path / "student.mlpackage"
    out.mkdir()
    (out / "mine").write_text("mine")
    (out / "Manifest.json").write_text("{}")
    config = {"model": str(write_model(tmp_path / "model", "test_efficientnet", image_size=32)), "format": "coreml",
              "out": str(out)}  # fmt: skip
    with pytest.raises(OutputExistsError, match="type --overwrite"):
        export(ExportConfig(**config))  # type: ignore[arg-type]
    assert (out / "mine").read_text() == "mine"
    export(ExportConfig(**config, overwrite=True))  # type: ignore[arg-type]
    assert not (out / "mine").exists()
    assert spec_of(out).description.output[0].name == "logits"
    assert not list(tmp_path.glob(".*"))


def test_what_cannot_be_converted_leaves_the_former_package(tmp_path: Path) -> None:
    from torch import Tensor, nn

    class Sorting(nn.Module):
        def forward(self, images_B3PP: Tensor) -> Tensor:
            return images_B3PP.flatten(1).to_sparse().to_dense()[:, :3]

    out = tmp_path / "student.mlpackage"
    out.mkdir()
    info = ModelInfo(architecture="mine", image_size=8, class_names=NAMES)
    signature = Signature(image_size=8, kind="pixels", batch_size=1, is_dynamic=False)
    with pytest.raises(ModelError, match=r"^coremltools cannot convert this architecture: "):
        write_coreml(Sorting(), info, signature, {}, out)
    assert [path.name for path in tmp_path.iterdir() if path.name != "home"] == ["student.mlpackage"]


def test_without_coremltools_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(MissingExtraError, match=r"^--format coreml needs coremltools: pip install '.*\[export\]'$"):
        export(ExportConfig(model="test_vit", format="coreml", out=str(tmp_path / "a.mlpackage")))
