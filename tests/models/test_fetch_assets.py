"""The parts of tools/fetch_assets.py that need no registry."""

from __future__ import annotations

import gzip
import io
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reinforce.data import open_labelled
from reinforce.errors import DataError, MissingDataError, MissingExtraError

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture(autouse=True)
def tools_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))


def test_an_idx_file_becomes_tars_that_the_data_part_reads(tmp_path: Path) -> None:
    from assets.fashion_mnist import read_idx, write_tars

    images = np.arange(20 * 4 * 4, dtype=np.uint8).reshape(20, 4, 4)
    labels = np.arange(20, dtype=np.uint8) % 2
    packed = gzip.compress(b"\0\0\x08\x03" + struct.pack(">III", 20, 4, 4) + images.tobytes())
    np.testing.assert_array_equal(read_idx(packed), images)
    for split in ("train", "test"):
        write_tars(tmp_path, split, images, labels)
    (tmp_path / "classes.txt").write_text("even\nodd\n")
    dataset = open_labelled(str(tmp_path))
    sample = dataset.split("test")[7]
    pixels = np.asarray(Image.open(io.BytesIO(dataset.source.read(sample.shard, sample.row))))
    np.testing.assert_array_equal(pixels, images[7])
    assert (dataset.class_names[sample.label], len(dataset.split("test"))) == ("odd", 20)


def test_the_same_images_give_the_same_tar(tmp_path: Path) -> None:
    from assets.fashion_mnist import write_tars

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_tars(tmp_path / name, "train", np.ones((3, 4, 4), np.uint8), np.zeros(3, np.uint8))
    assert (tmp_path / "a" / "train-00000.tar").read_bytes() == (tmp_path / "b" / "train-00000.tar").read_bytes()


def test_another_download_than_expected_is_refused(tmp_path: Path) -> None:
    from assets.download import pip_wheel

    (tmp_path / "x.whl").write_bytes(b"something else")
    with pytest.raises(DataError, match="remove it and start again"):
        pip_wheel("x==1", "x.whl", "0" * 64, tmp_path)


def test_without_apt_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assets.download import debian_package

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDataError, match="there is no apt-get here"):
        debian_package("dataset-fashion-mnist", tmp_path, tmp_path / "out")


def test_without_onnx_one_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assets.dinov2 import make

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"reinforce-vision\[export\]"):
        make(tmp_path, tmp_path / "out")


def test_every_asset_has_its_module() -> None:
    from assets import ASSETS

    promised = {"dinov2-vits14", "efficientnet-lite0", "fashion-mnist", "openclipart"}
    assert {asset.name for asset in ASSETS} == promised | {"photographs"}
    assert all((TOOLS / "assets" / f"{asset.module}.py").is_file() for asset in ASSETS)


def test_scenes_become_whole_tiles(tmp_path: Path) -> None:
    from assets.photographs import TILE_PX, _write_tiles

    pixels = np.random.Generator(np.random.Philox(0)).integers(0, 256, (2 * TILE_PX + 9, TILE_PX + 5, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "Storm.jpg")
    _write_tiles(tmp_path / "Storm.jpg", tmp_path / "scenes")
    tiles = sorted((tmp_path / "scenes").iterdir())
    assert [path.name for path in tiles] == ["Storm-0-0.jpg", "Storm-1-0.jpg"]
    with Image.open(tiles[0]) as tile:
        assert tile.size == (TILE_PX, TILE_PX)
