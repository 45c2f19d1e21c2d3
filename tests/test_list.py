"""`reinforce list`: the catalog, the paper's data and its presets, for people and for programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from reinforce.list_names import NUM_COLUMNS, NameList, list_names
from reinforce.list_names import ListConfig as Config


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model, a data set of the paper, and one far away."""
    monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))
    for name in ("work/runs/dino", "work/EuroSAT_RGB", "x" * 60 + "/" + "y" * 60):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "work")
    far = tmp_path / ("x" * 60) / ("y" * 60)
    Path("reinforce.toml").write_text(
        f'[models]\ndino = "runs/dino"\ngone = "runs/gone"\n[data]\neurosat = "EuroSAT_RGB"\nfar = "{far}"\n'
        'cc3m = "cc3m/{00000..00331}.tar"\nbucket = "s3://bucket/photos"\nshards = "s3://bucket/{0..3}.tar"\n'
    )
    return tmp_path


def lines(names: NameList, first_word: str) -> list[str]:
    return [line for line in str(names).splitlines() if line.split()[:1] == [first_word]]


@pytest.mark.parametrize(
    ("name", "present", "shown"),
    [
        ("dino", "here", "./runs/dino"),
        ("gone", "missing", "./runs/gone"),
        ("eurosat", "here", "./EuroSAT_RGB"),
        ("bucket", "remote", "s3://bucket/photos"),
        ("shards", "remote", "s3://bucket/{0..3}.tar"),
        ("cc3m", "missing", "./cc3m/{00000..00331}.tar"),
        ("imagenet", "missing", "train/ and val/, or Kaggle's ILSVRC/"),
    ],
)
def test_every_name_has_a_line_that_says_where_it_is(folder: Path, name: str, present: str, shown: str) -> None:
    found = lines(list_names(Config()), name)
    assert found
    assert all(line.split()[1] == present and line.endswith(shown) for line in found)


def test_nothing_is_longer_than_a_line(folder: Path) -> None:
    text = str(list_names(Config()))
    assert max(map(len, text.splitlines())) <= NUM_COLUMNS
    assert text == "\n".join(line.rstrip() for line in text.splitlines())
    assert any("..." in line for line in lines(list_names(Config()), "far"))


def test_columns_are_aligned(folder: Path) -> None:
    text = str(list_names(Config()))
    block = next(block for block in text.split("\n\n") if block.startswith("the paper's data")).splitlines()[1:-1]
    assert len({len(line[: line.index(" images,")].rstrip("0123456789.KMB")) for line in block}) == 1


def test_an_empty_catalog_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert "none: type tools/fetch_assets.py" in str(list_names(Config()))


def test_programs_get_whole_paths_and_values(folder: Path) -> None:
    found = list_names(Config()).to_json()
    assert set(found) == {"entries", "paper_data", "presets"}
    assert {"kind": "models", "name": "gone", "path": str(folder / "work/runs/gone"), "present": False} in found[
        "entries"
    ]
    paper = {item["name"]: item for item in found["paper_data"]}
    assert (paper["eurosat"]["path"], paper["eurosat"]["present"]) == (str(folder / "work/EuroSAT_RGB"), True)
    assert (paper["imagenet"]["path"], paper["imagenet"]["present"]) == (None, False)
    presets = {(item["verb"], item["name"]): item["values"] for item in found["presets"]}
    assert presets["finetune", "eurosat-10"]["epochs"] == 600
    assert presets["adapt", "eurosat-10"]["epochs"] == 400
