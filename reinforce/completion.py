"""What the Tab key offers for the value of an option: names of the catalog, stores, presets, files.

By the option's name, which means the same in every verb. click asks when the shell does:
`eval "$(_REINFORCE_COMPLETE=bash_source reinforce)"` switches it on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from reinforce.errors import ReinforceError

if TYPE_CHECKING:
    from reinforce import catalog

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def completer_of(name: str) -> Completer | None:
    """For a field of a config; None where nothing can be guessed."""
    return _COMPLETERS.get(name)


def _names(kind: catalog.Kind) -> Completer:
    """Names of the catalog, and folders; a damaged catalog offers none: completing is no place for its error."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from reinforce import catalog

        try:
            names = [entry.name for entry in catalog.entries(kind)]
        except ReinforceError:
            names = []
        plain = [CompletionItem(name) for name in names if name.startswith(incomplete)]
        return [CompletionItem(incomplete, type="dir"), *plain]  # the shell's own list of folders must come first

    return complete


def _files(kind: str) -> Completer:
    return lambda ctx, param, incomplete: [CompletionItem(incomplete, type=kind)]


def _stores(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """*.zarr below the folder that is being typed, and its folders."""
    return [CompletionItem(incomplete, type="dir"), *map(CompletionItem, _found_stores(incomplete))]


def _found_stores(incomplete: str) -> Iterator[str]:
    typed_folder, _, start = incomplete.rpartition("/")
    folder = Path(f"{typed_folder}/" if "/" in incomplete else ".").expanduser()
    try:
        found = sorted(path.name for path in folder.iterdir() if path.suffix == ".zarr")
    except OSError:
        return
    yield from (incomplete.removesuffix(start) + name for name in found if name.startswith(start))


def _presets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from reinforce.paper import RECIPES

    names = sorted(recipe.name for recipe in RECIPES if recipe.verb == ctx.info_name)
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]


_COMPLETERS: dict[str, Completer] = {
    **dict.fromkeys(("teacher", "model", "student", "encoder", "init_from", "online_teacher"), _names("models")),
    **dict.fromkeys(("data", "transfer", "query", "decontaminate"), _names("data")),
    **dict.fromkeys(("cache", "text_cache", "gallery", "store", "stores", "a", "b"), _stores),
    **dict.fromkeys(("runs", "curated", "destination"), _files("dir")),
    **dict.fromkeys(("out", "weights", "html"), _files("file")),
    "preset": _presets,
}
