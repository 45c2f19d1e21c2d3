"""docs/cli.md is what the help of every verb says, whatever terminal it is made on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import cli_docs


@pytest.mark.parametrize("columns", ["40", "200"])
def test_the_page_is_up_to_date(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    if cli_docs.page() != cli_docs.PAGE.read_text(encoding="utf-8"):
        pytest.fail(f"docs/cli.md is behind the code: type {cli_docs.COMMAND}", pytrace=False)


def test_every_option_of_every_verb_is_on_the_page() -> None:
    import click

    text = cli_docs.PAGE.read_text(encoding="utf-8")
    for program, group in cli_docs.GROUPS.items():
        for verb in group.verbs:
            section = text.split(f"## {program} {verb}\n")[1].split("\n## ")[0]
            command = group.get_command(click.Context(group), verb)
            assert command is not None
            for param in command.params:
                assert (param.opts[0] if isinstance(param, click.Option) else str(param.name).upper()) in section
