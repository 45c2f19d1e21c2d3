from __future__ import annotations

import multiprocessing
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reinforce import catalog, locking
from reinforce.errors import MissingDataError, ModelError, UnknownNameError, UsageError
from reinforce.list_names import ListConfig, list_names


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home and an empty working folder two levels below a project."""
    monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))
    folder = tmp_path / "project" / "sub" / "work"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def make(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


class TestHome:
    def test_variable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REINFORCE_HOME", "~/x")
        assert catalog.home() == Path.home() / "x"

    @pytest.mark.parametrize(
        ("platform", "variables", "expected"),
        [
            pytest.param("linux", {"HOME": "/h"}, "/h/.cache/reinforce", id="linux"),
            pytest.param("linux", {"HOME": "/h", "XDG_CACHE_HOME": "/c"}, "/c/reinforce", id="linux, XDG"),
            pytest.param("darwin", {"HOME": "/h"}, "/h/Library/Caches/reinforce", id="macOS"),
            pytest.param("win32", {"HOME": "/h", "LOCALAPPDATA": "/l"}, "/l/reinforce", id="windows"),
        ],
    )
    def test_default(
        self, monkeypatch: pytest.MonkeyPatch, platform: str, variables: dict[str, str], expected: str
    ) -> None:
        for name in ("REINFORCE_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.platform", platform)
        assert catalog.home() == Path(expected)


class TestOverriding:
    @pytest.fixture
    def files(self, work: Path, tmp_path: Path) -> None:
        write(tmp_path / "home" / "catalog.toml", '[data]\na = "/home"\nb = "/home"\nc = "/home"\n')
        write(work.parents[1] / "reinforce.toml", '[data]\na = "/project"\nb = "/project"\n')
        write(work / "reinforce.toml", '[data]\na = "/work"\n')

    @pytest.mark.usefixtures("files")
    def test_the_nearest_file_wins_name_by_name(self) -> None:
        assert [(entry.name, entry.path) for entry in catalog.entries("data")] == [
            ("a", "/work"), ("b", "/project"), ("c", "/home"),
        ]  # fmt: skip

    @pytest.mark.usefixtures("files")
    def test_entries_say_which_file_names_them(self, work: Path) -> None:
        assert catalog.entries("data")[0].origin_file == str(work / "reinforce.toml")

    def test_transfer_is_another_name_of_data_and_loses_to_it(self, work: Path) -> None:
        write(work / "reinforce.toml", '[transfer]\na = "/t"\nb = "/t"\n[data]\na = "/d"\n')
        assert {entry.name: entry.path for entry in catalog.entries("data")} == {"a": "/d", "b": "/t"}

    def test_nothing_anywhere(self) -> None:
        assert catalog.entries("models") == catalog.entries("data") == ()

    @pytest.mark.parametrize(
        ("value", "path"),
        [
            pytest.param('"x/y"', "{folder}/x/y", id="relative to the file"),
            pytest.param('"/x"', "/x", id="absolute"),
            pytest.param('"~/x"', "{home}/x", id="home"),
            pytest.param('"t/{0..9}.tar"', "{folder}/t/{{0..9}}.tar", id="pattern"),
            pytest.param('"hf:user/name:test"', "hf:user/name:test", id="hugging face"),
            pytest.param('"s3://bucket/x"', "s3://bucket/x", id="url"),
            pytest.param('{ path = "x" }', "{folder}/x", id="table"),
            pytest.param('{ arch = "vit" }', None, id="table without a path"),
        ],
    )
    def test_paths(self, work: Path, value: str, path: str | None) -> None:
        write(work / "reinforce.toml", f"[data]\na = {value}\n")
        expected = path and path.format(folder=work, home=Path.home())
        assert catalog.entries("data")[0].path == expected

    def test_other_fields_are_kept(self, work: Path) -> None:
        write(work / "reinforce.toml", '[models]\na = { path = "x", license = "MIT", note = "n" }\n')
        assert catalog.entries("models")[0].table == {"license": "MIT", "note": "n"}

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param("[data\n", "not a valid TOML file", id="syntax"),
            pytest.param("data = 3\n", r"\[data\] must be a table", id="no table"),
            pytest.param("[data]\na = 3\n", "a must be a path or a table", id="number"),
            pytest.param("[data]\na = { path = 3 }\n", "a must be a path or a table", id="path that is a number"),
        ],
    )
    def test_malformed_files_are_named(self, work: Path, text: str, message: str) -> None:
        write(work / "reinforce.toml", text)
        with pytest.raises(UsageError, match=f"reinforce.toml.*{message}"):
            catalog.entries("data")


class TestResolveData:
    @pytest.fixture
    def cc3m(self, work: Path) -> Path:
        write(work / "reinforce.toml", '[data]\ncc3m = "sets/cc3m"\ngone = "sets/gone"\nempty = { note = "" }\n')
        return make(work / "sets" / "cc3m")

    def test_catalog_name(self, cc3m: Path) -> None:
        entry = catalog.resolve_data("cc3m")
        assert (entry.name, entry.path) == ("cc3m", str(cc3m))

    def test_catalog_name_wins_over_a_folder_here_unless_it_is_written_as_a_path(self, cc3m: Path, work: Path) -> None:
        make(work / "cc3m")
        assert catalog.resolve_data("cc3m").path == str(cc3m)
        assert catalog.resolve_data("./cc3m").origin_file is None

    @pytest.mark.parametrize(
        ("location", "name"),
        [
            pytest.param("here", "here", id="folder here"),
            pytest.param("./here", "here", id="path"),
            pytest.param("here/", "here", id="trailing separator"),
            pytest.param(".", "work", id="this folder"),
            pytest.param("here/a.tar", "a", id="tar"),
            pytest.param("here/list.csv", "list", id="csv"),
            pytest.param("here/v1.5", "v1.5", id="dots in a folder"),
            pytest.param("gone/{0..9}.tar", "gone", id="pattern"),
            pytest.param("here/cc-{0..9}.tar", "here", id="pattern with a prefix"),
            pytest.param("{0..9}.tar", "work", id="bare pattern"),
            pytest.param("hf:user/name:test", "name", id="hugging face"),
            pytest.param("s3://bucket/x", "x", id="url"),
        ],
    )
    def test_locations_have_short_names(self, work: Path, location: str, name: str) -> None:
        make(work / "here" / "v1.5")
        for file in ("a.tar", "list.csv"):
            (work / "here" / file).touch()
        entry = catalog.resolve_data(location)
        assert (entry.name, entry.origin_file) == (name, None)
        assert entry.path is not None
        assert Path(entry.path) == Path(location)

    @pytest.mark.usefixtures("cc3m")
    @pytest.mark.parametrize(
        ("name", "error", "message"),
        [
            pytest.param("cc3n", UnknownNameError, "did you mean 'cc3m'.*reinforce.toml: .data. cc3n =", id="near"),
            pytest.param("a b", UnknownNameError, '.data. "a b" = "/path"', id="a name that TOML quotes"),
            pytest.param("x/cc3m", MissingDataError, "x/cc3m is not there: check the path", id="path"),
            pytest.param("gone", MissingDataError, "'gone' in .*reinforce.toml. is not there: correct", id="entry"),
            pytest.param("empty", UsageError, "'empty' in .* has no path", id="entry without a path"),
        ],
    )
    def test_what_cannot_be_resolved(self, name: str, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            catalog.resolve_data(name)


class TestResolveModel:
    def test_catalog_name(self, work: Path) -> None:
        write(work / "reinforce.toml", '[models]\nmine = { path = "m", arch = "vit" }\n')
        make(work / "m")
        entry = catalog.resolve_model("mine")
        assert (entry.path, entry.table) == (str(work / "m"), {"arch": "vit"})

    @pytest.mark.parametrize(
        "name", ["fastvit_t8", "fastvit_t8.apple_in1k", "open_clip:ViT-B-32/openai", "hf-hub:timm/x", "no such thing"]
    )
    def test_other_names_pass_through(self, name: str) -> None:
        assert catalog.resolve_model(name) == catalog.Entry(name, None)

    def test_directories(self, work: Path) -> None:
        make(work / "runs" / "a")
        assert catalog.resolve_model("runs/a").path == "runs/a"
        assert catalog.resolve_model("runs").path == "runs"

    @pytest.mark.parametrize("name", ["runs/b", "mine"])
    def test_what_is_not_there(self, work: Path, name: str) -> None:
        write(work / "reinforce.toml", '[models]\nmine = "m"\n')
        with pytest.raises(ModelError, match="is not there"):
            catalog.resolve_model(name)


def _register_many(prefix: str) -> None:
    for number in range(10):
        catalog.register("data", f"{prefix}{number}", "x")


class TestRegister:
    def test_is_found_afterwards(self, work: Path) -> None:
        make(work / "m")
        entry = catalog.register("models", "mine", "m", license="MIT", note=None)
        assert entry == catalog.resolve_model("mine")
        assert (entry.path, entry.table) == (str(work / "m"), {"license": "MIT"})

    def test_keeps_what_else_the_catalog_says(self, tmp_path: Path) -> None:
        path = write(tmp_path / "home" / "catalog.toml", '[data]\na = "/a"\n[models]\nm = "/m"\n[other]\nx = 1\n')
        catalog.register("data", "b", "/b")
        catalog.register("data", "a", "/new")
        assert tomllib.loads(path.read_text()) == {
            "data": {"a": "/new", "b": "/b"}, "models": {"m": "/m"}, "other": {"x": 1},
        }  # fmt: skip

    def test_replaces_an_entry_under_the_alias(self, tmp_path: Path) -> None:
        write(tmp_path / "home" / "catalog.toml", '[transfer]\na = "/old"\n')
        catalog.register("data", "a", "/new")
        assert [entry.path for entry in catalog.entries("data")] == ["/new"]

    @settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), note=st.text(st.characters(codec="utf-8"))
    )
    def test_any_name_and_note_come_back(self, name: str, note: str) -> None:
        catalog.register("data", name, "/x", note=note)
        entry = next(entry for entry in catalog.entries("data") if entry.name == name)
        assert entry.table == {"note": note}

    def test_concurrent_writers_lose_nothing(self) -> None:
        context = multiprocessing.get_context("spawn")
        writers = [context.Process(target=_register_many, args=(prefix,)) for prefix in "ab"]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert len(catalog.entries("data")) == 20
        assert sorted(path.name for path in catalog.home().iterdir()) == ["catalog.toml", "catalog.toml.lock"]

    def test_a_lock_that_stays(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(locking, "_TIMEOUT_SECONDS", 0.0)
        write(tmp_path / "home" / "catalog.toml", "")
        path = tmp_path / "home" / "catalog.toml"
        with locking.hold_lock(path), pytest.raises(UsageError, match="stays locked: wait"):
            catalog.register("data", "a", "/a")

    def test_the_lock_of_a_dead_process_is_free(self, tmp_path: Path) -> None:
        write(tmp_path / "home" / "catalog.toml.lock", "")
        catalog.register("data", "a", "/a")
        assert [entry.name for entry in catalog.entries("data")] == ["a"]

    def test_a_home_that_cannot_be_written(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("REINFORCE_HOME", str(write(tmp_path / "file", "") / "home"))
        with pytest.raises(UsageError, match=r"cannot be written .*: set REINFORCE_HOME"):
            catalog.register("data", "a", "/a")

    def test_a_malformed_catalog_is_not_overwritten(self, tmp_path: Path) -> None:
        path = write(tmp_path / "home" / "catalog.toml", "[data\n")
        with pytest.raises(UsageError, match="not a valid TOML file"):
            catalog.register("data", "a", "/a")
        assert path.read_text() == "[data\n"
        assert sorted(path.parent.glob("catalog.toml*")) == [path, path.with_name("catalog.toml.lock")]


class TestLocations:
    def test_the_latest_wins(self, work: Path) -> None:
        assert catalog.locate("d1") is None
        catalog.remember_location("d1", "old")
        catalog.remember_location("d2", "hf:name")
        catalog.remember_location("d1", Path("x/{0..9}.tar"))
        assert catalog.locate("d1") == str(work / "x/{0..9}.tar")
        assert catalog.locate("d2") == "hf:name"
        assert catalog.locate("d3") is None


def test_list_says_what_is_missing(work: Path) -> None:
    (work / "here-0.tar").touch()
    entries = {"here": "here-{0..1}.tar", "gone": "gone-{0..1}.tar", "file": "here-0.tar", "no": "no", "hub": "hf:x/y"}
    write(work / "reinforce.toml", "[data]\n" + "".join(f'{k} = "{v}"\n' for k, v in entries.items()))
    found = {entry["name"]: entry["present"] for entry in list_names(ListConfig()).entries}
    assert found == {"here": True, "gone": False, "file": True, "no": False, "hub": True}
