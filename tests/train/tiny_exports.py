"""Small models to export: untrained, but with every normalisation's statistics and every head far from their start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from reinforce.models import create_model, save_model

NAMES = ("ant", "bee", "fly \"é\" 'x'")
TRAINING = {
    "verb": "distill",
    "store": {"manifest_digest": "ab" * 32, "transfer": "web", "target": "logits",
              "teacher": {"name": "big", "weights_sha256": "cd" * 32, "license": "cc-by-nc-4.0"}},
}  # fmt: skip


def stirred(model: nn.Module) -> nn.Module:
    """As if trained: fused branches and folded statistics change its answers where they are wrong."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor, low in ((module.running_mean, -0.2), (module.running_var, 0.6), (module.weight, 0.8)):
                    tensor.copy_(low + 0.6 * torch.rand(tensor.shape, generator=generator))
        for name, tensor in model.named_parameters():
            if name.startswith(("head", "fc", "classifier")) and tensor.ndim > 1:
                tensor.mul_(8)
    return model


def write_model(folder: Path, name: str, *, training: dict[str, Any] | None = None, **options: Any) -> Path:
    torch.manual_seed(0)
    model, info = create_model(name, class_names=NAMES, **options)
    provenance = {"source": f"timm:{name}.tag", "license": "apache-2.0", "training": training or TRAINING}
    save_model(folder, stirred(model), info.with_provenance(**provenance))
    return folder
