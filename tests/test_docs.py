"""README and docs say what the code does: every command line parses, every module that is named exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, get_type_hints

import click
import pytest

import reinforce.cli
import train.cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GROUPS = {"reinforce": reinforce.cli.command, "train": train.cli.command}
VERB = re.compile(r"^(?:\s{4}|\$ )?((?:reinforce|train) (?:[a-z-]+) .*)$", re.M)


def command_lines() -> list[tuple[str, str]]:
    lines = [(page.name, line) for page in PAGES for line in VERB.findall(page.read_text())]
    return [(name, line) for name, line in lines if "..." not in line]


@pytest.mark.parametrize(("page", "line"), command_lines(), ids=lambda text: text[:60])
def test_a_documented_command_parses(page: str, line: str) -> None:
    program, verb, *argv = shlex.split(line, comments=True)
    group = GROUPS[program]
    command = group.get_command(click.Context(group), verb)
    assert command is not None, f"{page}: no verb {verb}"
    command.make_context(verb, list(argv), resilient_parsing=False)


def test_there_are_command_lines_to_check() -> None:
    assert len(command_lines()) >= 8


def test_every_module_has_its_sentence() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    for package in ("reinforce", "train"):
        for path in sorted((ROOT / package).glob("*.py")):
            if path.stem != "__init__":
                assert f"`{path.stem}`" in page, f"docs/architecture.md does not name {package}/{path.name}"


def test_every_verb_is_imported_as_the_table_says() -> None:
    """The very function that the command line calls, with the config that it takes."""
    page = (ROOT / "docs" / "walkthrough.md").read_text(encoding="utf-8")
    table = re.findall(r"^\| `(reinforce|train) ([a-z-]+)` \| `(from (\S+) import (\w+), (\w+))` \|$", page, re.M)
    verbs = [(program, verb) for program, group in GROUPS.items() for verb in group.verbs]
    assert [(program, verb) for program, verb, *_ in table] == verbs
    for program, verb, line, module, config, function in table:
        names: dict[str, Any] = {}
        exec(line, names)
        assert GROUPS[program].verbs[verb][0] == f"{module}:{function}"
        assert get_type_hints(names[function])["config"] is names[config]


@pytest.mark.parametrize("program", GROUPS)
def test_the_readme_shows_every_verb(program: str) -> None:
    text = (ROOT / "README.md").read_text()
    for verb in GROUPS[program].list_commands(click.Context(GROUPS[program])):
        assert f"{program} {verb}" in text, f"README.md does not show {program} {verb}"


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert page.name == "README.md" or f"({page.name}" in index, f"docs/README.md does not name {page.name}"


def test_relative_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
