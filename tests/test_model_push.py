"""`reinforce push` of a model: the folder that timm loads from the Hub arrives whole, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hub_server import HubServer, hub_server

from reinforce.cli import command
from reinforce.command import run_group
from reinforce.models import create_model, save_model
from reinforce.models.directory import read_info
from reinforce.models.hub_folder import hub_folder

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
URL, NAME = "hf://team/student", "team/student"


@pytest.fixture
def hub():
    with hub_server() as server:
        yield server


@pytest.fixture
def run(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    module, info = create_model("test_efficientnet", class_names=("cat", "dog"), image_size=32)
    save_model(tmp_path / "run", module, info)
    return tmp_path / "run"


@pytest.fixture
def folder(run: Path, tmp_path: Path) -> Path:
    out = tmp_path / "student-hub"
    out.mkdir()
    for name, content in hub_folder(run, read_info(run).with_provenance(license="mit")).items():
        (out / name).write_bytes(content)
    return out


def push(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str]:
    """Exit status, and what was printed; one line of error where it failed."""
    capsys.readouterr()
    status = run_group(command, ["push", *argv, "--json", "--quiet"])
    said = capsys.readouterr()
    return status, said.out or said.err


def test_its_files_become_a_private_repository_that_timm_understands(hub: HubServer, folder: Path, capsys) -> None:
    (folder / "notes.txt").write_text("mine alone")
    status, said = push(capsys, str(folder), URL)
    assert (status, json.loads(said)["copied"]) == (0, 4)
    repository = hub.repository(NAME, "model")
    sent = {name: data for name, data in repository.files.items() if name != ".gitattributes"}
    assert sent.keys() == {"README.md", "config.json", "model.json", "model.safetensors"}
    assert sent == {name: (folder / name).read_bytes() for name in sent}
    assert repository.private
    assert json.loads(push(capsys, str(folder), URL)[1])["there_before"] == 4


def test_its_licence_is_stated_by_its_export(hub: HubServer, folder: Path, capsys) -> None:
    status, said = push(capsys, str(folder), URL, "--data-license", "MIT")
    assert (status, "type train export --license" in said, hub.repositories) == (2, True, {})


def test_another_model_there_is_replaced_only_when_asked(hub: HubServer, folder: Path, capsys) -> None:
    push(capsys, str(folder), URL)
    before = dict(hub.repository(NAME, "model").files)
    (folder / "model.safetensors").write_bytes(b"other weights")
    status, said = push(capsys, str(folder), URL)
    assert (status, hub.repository(NAME, "model").files) == (1, before)
    assert "model.safetensors is there with other content: type --repair" in said
    assert push(capsys, str(folder), URL, "--repair")[0] == 0
    assert hub.repository(NAME, "model").files["model.safetensors"] == b"other weights"


@pytest.mark.parametrize(
    ("destination", "words"),
    [
        ("hf://datasets/team/student", "type hf://team/student,"),
        ("hf://datasets/team/student@v1/folder", "type hf://team/student@v1,"),
        ("hf://team/student/folder", "type hf://team/student,"),
        ("s3://bucket/student", "type hf://OWNER/NAME,"),
        ("elsewhere", "type hf://OWNER/NAME,"),
    ],
)
def test_it_goes_to_a_models_repository_alone(destination: str, words: str, folder: Path, capsys) -> None:
    status, said = push(capsys, str(folder), destination)
    assert (status, said.count("\n")) == (2, 1)
    assert words in said


def test_a_run_is_exported_first(run: Path, capsys) -> None:
    status, said = push(capsys, str(run), URL)
    assert (status, said.count("\n")) == (2, 1)
    assert f"type train export --model {run} --format timm --out FOLDER" in said


@pytest.mark.parametrize("name", ["model.safetensors", "README.md", "config.json", "a link", "no architecture"])
def test_a_folder_that_is_not_whole_goes_nowhere(name: str, folder: Path, capsys) -> None:
    if name == "a link":
        (folder / "model.safetensors").rename(folder.parent / "elsewhere")
        (folder / "model.safetensors").symlink_to(folder.parent / "elsewhere")
    elif name == "no architecture":
        (folder / "model.json").write_text('{"provenance": [1]}')
    else:
        (folder / name).unlink()
    status, said = push(capsys, str(folder), URL, "--public")
    assert (status, said.count("\n")) == (2, 1)
    assert "is no whole folder for the Hub" in said


def test_public_needs_a_licence(hub: HubServer, run: Path, folder: Path, capsys) -> None:
    assert push(capsys, str(folder), URL, "--public")[0] == 0
    assert not hub.repository(NAME, "model").private
    for name, content in hub_folder(run).items():
        (folder / name).write_bytes(content)
    status, said = push(capsys, str(folder), "hf://team/unlicensed", "--public")
    assert (status, said.count("\n")) == (2, 1)
    assert "no licence is known of the weights, so" in said
    assert "--data-license" in said
