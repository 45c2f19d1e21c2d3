"""Write docs/cli.md from the help of every verb: `python tools/cli_docs.py` after a change of options.

Lines have one width whatever the terminal is, and options that mean the same in every verb are described once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

import reinforce.cli
import train.cli
from reinforce.command import LazyGroup, OutputOptions, field_docs

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
COMMAND = "python tools/cli_docs.py"
WIDTH = 100
GROUPS: dict[str, LazyGroup] = {"reinforce": reinforce.cli.command, "train": train.cli.command}
INTRODUCTION = f"""\
# Command line

Two commands: `reinforce` makes data, `train` changes weights. Their verbs stand here in the order of a pipeline, with
what `--help` says of each; this page is made from it (`{COMMAND}`). Most commands need nothing but what the
usage line shows: all else has defaults. [README](../README.md) shows them at work,
[errors.md](errors.md) what they may say.

Every verb is a Python function of its config, too: `reinforce build --max-kl 1e-4` is
`reinforce.build.build(BuildConfig(max_kl=1e-4, ...))`: [a walk-through](walkthrough.md), and
[the import of each](walkthrough.md#every-verbs-import).

## The Tab key

Verbs, options, choices, names of the catalog, stores and presets are completed when your shell is told so, with a line
in its start-up file:

```text
~/.bashrc                    eval "$(_REINFORCE_COMPLETE=bash_source reinforce)"
                             eval "$(_TRAIN_COMPLETE=bash_source train)"
~/.zshrc                     eval "$(_REINFORCE_COMPLETE=zsh_source reinforce)"
                             eval "$(_TRAIN_COMPLETE=zsh_source train)"
~/.config/fish/config.fish   _REINFORCE_COMPLETE=fish_source reinforce | source
                             _TRAIN_COMPLETE=fish_source train | source
```

## The verbs
"""


def page() -> str:
    """The whole of docs/cli.md."""
    sections = [INTRODUCTION, *_overview(), *_shared_options()]
    for program, group in GROUPS.items():
        for verb in group.verbs:
            sections += _verb_section(program, group, verb)
    return "\n".join(sections)


def _overview() -> Iterator[str]:
    yield "| verb | |"
    yield "|---|---|"
    for program, group in GROUPS.items():
        for verb, (_, line) in group.verbs.items():
            yield f"| [`{program} {verb}`](#{program}-{verb}) | {line} |"
    yield ""


def _shared_options() -> Iterator[str]:
    yield "## Options that mean the same everywhere\n"
    yield "A verb has those that make sense for it. Exit status: 0 done, 1 failed, 2 a wrong command line, 130 stopped"
    yield "by Ctrl-C. `--version` tells the version of either command.\n"
    yield _block(_records(_any_command(), set(_shared_texts())))


def _verb_section(program: str, group: LazyGroup, verb: str) -> Iterator[str]:
    context = click.Context(group, info_name=program)
    command = group.get_command(context, verb)
    assert command is not None
    yield f"## {program} {verb}\n"
    yield f"{command.help}\n"
    helps = {param.name: param.help for param in command.params if isinstance(param, click.Option)}
    shared = {name for name, text in _shared_texts().items() if helps.get(name) == text}
    own = {param.name or "" for param in command.params} - shared
    context = click.Context(command, info_name=verb, parent=context, terminal_width=WIDTH)
    yield _block(_records(command, own), f"{command.get_usage(context)}\n\n")
    if shared:
        named = " ".join(f"`{param.opts[0]}`" for param in command.params if param.name in shared)
        yield f"[As everywhere](#options-that-mean-the-same-everywhere): {named}\n"


def _block(records: list[tuple[str, str]], head: str = "") -> str:
    formatter = click.HelpFormatter(width=WIDTH)
    if records:
        formatter.write_dl(records, col_max=34)
    return f"```text\n{head}{formatter.getvalue()}".rstrip() + "\n```\n"


def _records(command: click.Command, names: set[str]) -> list[tuple[str, str]]:
    context = click.Context(command)
    records = [param.get_help_record(context) for param in command.params if param.name in names]
    return [record for record in records if record is not None]


def _shared_texts() -> dict[str, str]:
    return field_docs(OutputOptions)


def _any_command() -> click.Command:
    """One with all the shared options."""
    group = GROUPS["train"]
    command = group.get_command(click.Context(group), "adapt")
    assert command is not None
    return command


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    sys.stdout.write(f"{PAGE} is up to date\n")
