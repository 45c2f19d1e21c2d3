"""A folder for timm and the Hugging Face Hub, made of a model directory and of what was measured of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import timm
import torch
from reinforce.errors import ModelError
from reinforce.models import ModelInfo, load_model
from reinforce.models.create import find_directory
from reinforce.models.directory import encoder_state
from reinforce.models.hub_folder import hub_folder

from train.evaluations import read_evaluations
from train.export.writing import written_whole


def write_timm_folder(name: str, out: Path, say: Callable[[ModelInfo], ModelInfo]) -> ModelInfo:
    """Written when timm has loaded it and got the very weights; `say` adds to what model.json says, which is returned.

    Raises ModelError, UsageError.
    """
    directory = find_directory(name)
    if directory is None:
        raise ModelError(f"{name} is no model directory, which --format timm is made of: type a run directory")
    model, info = load_model(directory)
    info = say(info)
    kept = [one for one in read_evaluations(directory)
            if one.weights_sha256 == info.provenance.get("weights_sha256")]  # fmt: skip
    files = hub_folder(directory, info, [dataclasses.asdict(one) for one in kept])
    with written_whole(out) as folder:
        folder.mkdir()
        for path, content in files.items():
            (folder / path).write_bytes(content)
        loaded = timm.create_model(f"local-dir:{folder}", pretrained=True).state_dict()
        wanted = encoder_state(model)
        if wanted.keys() != loaded.keys() or not all(torch.equal(loaded[key], wanted[key]) for key in wanted):
            raise ModelError(f"timm {timm.__version__} does not load {info.architecture} from such a folder as it is: "
                             "nothing was written")  # fmt: skip
    return info
