"""Licences of a store's origins: said by an option, the catalog or the model, recorded once, and missed aloud."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image
from s3_server import Bucket
from tiny_builds import LICENCE, ROWS_ONLY, run

from reinforce import catalog
from reinforce.data import open_source
from reinforce.data.licence import data_licence
from reinforce.embed import EmbedConfig, embed
from reinforce.pack import PackConfig, pack
from reinforce.store import Licences, Store

pytestmark = ROWS_ONLY
LIMIT = 8


@pytest.fixture
def unlicensed(teacher: Path, tmp_path: Path) -> Path:
    """A model directory that says nothing of its licence."""
    shutil.copytree(teacher, tmp_path / "unlicensed")
    info = json.loads((tmp_path / "unlicensed/model.json").read_text())
    del info["provenance"]["license"]
    (tmp_path / "unlicensed/model.json").write_text(json.dumps(info))
    return tmp_path / "unlicensed"


def licences() -> Licences:
    return Licences.of_plan(Store.open("out.zarr").plan)


def write_catalog(teacher: Path, images: Path) -> None:
    Path("reinforce.toml").write_text(
        f'[models]\nmine = {{ path = "{teacher}", license = "MIT" }}\n'
        f'[data]\nphotos = {{ path = "{images}", license = "CC-BY-4.0, GPL-2.0-only" }}\n'
    )


def test_the_catalog_says_them(unlicensed: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_catalog(unlicensed, images)
    run(Path("mine"), Path("photos"), limit=LIMIT, data_license=None)
    assert licences() == Licences(weights="MIT", images="CC-BY-4.0, GPL-2.0-only")
    assert "licence" not in capsys.readouterr().err
    assert "- The teacher's weights: `MIT`\n" in Path("out.zarr/README.md").read_text()


@pytest.mark.parametrize(
    ("summary", "said"),
    [
        ('{"license": "CC0-1.0, MIT"}', "CC0-1.0, MIT"),
        ("{}", "unknown"),
        ("[]", "unknown"),
        ("no JSON", "unknown"),
    ],
)
def test_a_curated_set_says_its_own(summary: str, said: str, teacher: Path, images: Path, tmp_path: Path) -> None:
    shutil.copytree(images, tmp_path / "set")
    (tmp_path / "set/curated.json").write_text(summary)
    run(teacher, tmp_path / "set", limit=LIMIT, data_license=None)
    assert licences().images == said


def licence_of(typed: str) -> str:
    return data_licence(catalog.resolve_data(typed), open_source(typed))


@pytest.mark.parametrize("typed", ["packed", "packed/{00000..00000}.tar", "packed/00000.tar"])
def test_what_is_packed_keeps_its_licence(typed: str, teacher: Path, images: Path) -> None:
    write_catalog(teacher, images)
    assert pack(PackConfig(transfer="photos", out="packed", quiet=True)).license == "CC-BY-4.0, GPL-2.0-only"
    assert licence_of(typed) == "CC-BY-4.0, GPL-2.0-only"


@pytest.mark.parametrize("summary", ["curated.json", "pack.json"])
def test_a_set_on_an_object_store_says_its_own(summary: str, teacher: Path, images: Path, bucket: Bucket) -> None:
    pack(PackConfig(transfer=str(images), out="packed", quiet=True))
    tars = {path.name: path.read_bytes() for path in Path("packed").glob("*.tar")}
    url = bucket.upload(tars | {summary: b'{"license": "CC-BY-4.0"}'}, "web/")
    run(teacher, url, limit=LIMIT, data_license=None)
    assert licences().images == licence_of(f"{url}/00000.tar") == "CC-BY-4.0"


def test_a_split_of_a_set_has_the_licence_of_the_set(teacher: Path, tmp_path: Path) -> None:
    for name in ("train/cat/1", "train/dog/2", "test/cat/3"):
        path = tmp_path / f"task/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((48, 48), 60).convert("RGB").save(path)
    Path("reinforce.toml").write_text(f'[data]\ntask = {{ path = "{tmp_path / "task"}", license = "MIT" }}\n')
    pack(PackConfig(transfer="task", out="packed", quiet=True))
    run(teacher, Path("packed@train"), data_license=None)
    assert licences().images == "MIT"


def test_options_win(teacher: Path, images: Path) -> None:
    write_catalog(teacher, images)
    run(Path("mine"), Path("photos"), limit=LIMIT, teacher_license="Apache-2.0", data_license="CC0-1.0")
    assert licences() == Licences(weights="Apache-2.0", images="CC0-1.0")


@pytest.mark.parametrize(
    ("said", "missed"),
    [
        ({}, "the teacher's weights and of the transfer set's images is unknown"),
        ({"data_license": "MIT"}, "the licence of the teacher's weights is unknown"),
        ({"teacher_license": "MIT"}, "the licence of the transfer set's images is unknown"),
        ({"teacher_license": "MIT", "data_license": "MIT"}, None),
    ],
    ids=["none", "of the images", "of the weights", "both"],
)
def test_a_missing_one_is_one_line_and_unknown(
    said: dict[str, str], missed: str | None, unlicensed: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(unlicensed, images, limit=LIMIT, **{"data_license": None} | said)
    lines = [line for line in capsys.readouterr().err.splitlines() if "licence" in line]
    assert len(lines) == (missed is not None)
    assert all(missed in line and "--data-license" in line for line in lines)
    assert len(licences().unknown) == 2 - len(said)


def test_a_store_is_continued_whatever_is_said_of_licences_later(teacher: Path, images: Path) -> None:
    run(teacher, images, limit=LIMIT, data_license="MIT")
    before = Store.open("out.zarr").manifest.digest
    run(teacher, images, limit=LIMIT, data_license="CC0-1.0", teacher_license="MIT", resume=True)
    assert Store.open("out.zarr").manifest.digest == before


def test_the_model_directory_says_its_own(teacher: Path, images: Path) -> None:
    write_catalog(teacher, images)
    run(Path("mine"), Path("photos"), limit=LIMIT)
    assert licences().weights == LICENCE


def test_embedding_stores_have_them_too(unlicensed: Path, images: Path) -> None:
    config = EmbedConfig(gallery=str(images), encoder=(str(unlicensed),), out="out.zarr", workers=0, quiet=True,
                         limit=LIMIT, data_license="CC-BY-4.0")  # fmt: skip
    embed(config)
    assert licences().images == "CC-BY-4.0"
    croissant = json.loads(Path("out.zarr/croissant.json").read_bytes())
    assert croissant["license"] == ["unknown", "CC-BY-4.0"]
