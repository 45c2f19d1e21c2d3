"""Encoders, a labelled task and a gallery that several modules search."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from curate_data import CROPS, SIZE_PX, make_gallery, make_task

from reinforce.embed import EmbedConfig, embed
from reinforce.models import create_model, save_model


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two untrained networks of different widths."""
    folder = tmp_path_factory.mktemp("encoders")
    for number, name in enumerate(("test_vit", "test_efficientnet")):
        torch.manual_seed(number)
        model, info = create_model(name, num_classes=0, image_size=SIZE_PX)
        save_model(folder / name, model, info)
    return [str(folder / "test_vit"), str(folder / "test_efficientnet")]


@pytest.fixture(scope="session")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_task(tmp_path_factory.mktemp("task") / "colours")


@pytest.fixture(scope="session")
def images(task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gallery(tmp_path_factory.mktemp("web") / "web", task)


@pytest.fixture(scope="session")
def stores(encoders: list[str], images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The gallery embedded as whole images, and as crops."""
    folder = tmp_path_factory.mktemp("stores")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REINFORCE_HOME", str(folder / "home"))
        for name, crops in (("wholes", 0), ("crops", CROPS)):
            embed(EmbedConfig(gallery=str(images), encoder=tuple(encoders), crops=crops, batch_size=8, workers=0,
                              quiet=True, out=str(folder / f"{name}.zarr")))  # fmt: skip
    return {name: str(folder / f"{name}.zarr") for name in ("wholes", "crops")}
