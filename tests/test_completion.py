"""The Tab key: what is offered where, in-process as a table and once in a real shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

import reinforce.cli
import train.cli

GROUPS = {"reinforce": reinforce.cli.command, "train": train.cli.command}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two stores and a catalog."""
    monkeypatch.setenv("REINFORCE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name in ("cc3m.zarr", "deeper/other.zarr", "runs/dino"):
        (tmp_path / name).mkdir(parents=True)
    Path("reinforce.toml").write_text(
        '[models]\ndino-ft = "runs/dino"\nmine = "runs/mine"\n[data]\neurosat = "/d/eurosat"\ncc3m = "/d/cc3m"\n'
    )
    return tmp_path


def offered(line: str) -> list[str]:
    """For the last word of a command line, kinds of files in angle brackets."""
    program, *words, incomplete = line.split(" ")
    found = ShellComplete(GROUPS[program], {}, program, "_UNUSED").get_completions(words, incomplete)
    return [item.value if item.type == "plain" else f"<{item.type}>" for item in found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("reinforce bu", ["build"]),
        ("train ", list(train.cli.VERBS)),
        ("reinforce diff c", ["<dir>", "cc3m.zarr"]),
        ("reinforce build --tea", ["--teacher", "--teacher-license"]),
        ("train distill --task ", ["classification", "segmentation"]),
        ("reinforce build --teacher ", ["<dir>", "dino-ft", "mine"]),
        ("reinforce build --teacher d", ["<dir>", "dino-ft"]),
        ("train finetune --data eu", ["<dir>", "eurosat"]),
        ("reinforce plan --transfer cc", ["<dir>", "cc3m"]),
        ("train distill --cache ", ["<dir>", "cc3m.zarr"]),
        ("train distill --cache deeper/", ["<dir>", "deeper/other.zarr"]),
        ("train distill --cache nowhere/", ["<dir>"]),
        ("reinforce verify c", ["<dir>", "cc3m.zarr"]),
        ("train compare r", ["<dir>"]),
        ("reinforce import-model --weights ", ["<file>"]),
        ("train adapt --preset ham10k-1", ["ham10k-100", "ham10k-1000"]),
        ("train distill --preset eurosat-c", ["eurosat-cc3m", "eurosat-curated"]),
        ("train adapt --preset nonsense --mod", ["--model", "--mode"]),
        ("reinforce build --views ", []),
    ],
)
def test_what_is_offered(folder: Path, line: str, expected: list[str]) -> None:
    assert offered(line) == expected


def test_a_damaged_catalog_offers_folders_alone(folder: Path) -> None:
    Path("reinforce.toml").write_text("[models\n")
    assert offered("reinforce build --teacher ") == ["<dir>"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize("program", GROUPS)
def test_bash_takes_the_documented_line_and_loads_no_torch(folder: Path, program: str) -> None:
    (folder / "bin").mkdir()
    command = folder / "bin" / program
    code = f"from {program}.cli import main; import sys; sys.modules['torch'] = sys.modules['zarr'] = None; main()"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}"\n')
    command.chmod(0o755)
    verb, option = {"reinforce": ("build", "--teacher"), "train": ("adapt", "--model")}[program]
    script = f"""
eval "$(_{program.upper()}_COMPLETE=bash_source {program})"
complete -p {program} > /dev/null || exit 1
COMP_WORDS=({program} {verb} {option} d) COMP_CWORD=3
_{program}_completion {program}
echo "${{COMPREPLY[@]}}"
"""
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "dino-ft\n"
    assert "rror" not in done.stderr
