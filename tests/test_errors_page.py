"""docs/errors.md has a section for every error, and none for one that does not exist."""

from __future__ import annotations

import builtins
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import reinforce
import train
from reinforce import errors

PAGE = (Path(__file__).parents[1] / "docs" / "errors.md").read_text(encoding="utf-8")
TREE = {name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)}


def every_error() -> list[str]:
    """Those of the tree, and those that a part of either package adds to it."""
    for package in (reinforce, train):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    found = {errors.ReinforceError}
    while more := {kind for one in found for kind in one.__subclasses__()} - found:
        found |= more
    return [kind.__name__ for kind in found if kind.__module__.split(".")[0] in ("reinforce", "train")]


def test_every_error_has_its_section() -> None:
    assert sorted(re.findall(r"^### (\w+)$", PAGE, re.M)) == sorted(every_error())


def test_the_tree_in_the_module_is_the_tree_of_the_classes() -> None:
    drawn = re.findall(r"^ *(?:│   )*(?:[├└]── )?(\w+Error)\b", errors.__doc__ or "", re.M)
    assert sorted(drawn) == sorted(TREE)


def test_exit_statuses_and_builtins_are_as_the_page_says() -> None:
    statuses = {name: kind.exit_code for name, kind in TREE.items()}
    assert {name for name, status in statuses.items() if status == 130} == {"StoppedError"}
    assert {name for name, status in statuses.items() if status == 2} == {
        name for name, kind in TREE.items() if issubclass(kind, errors.UsageError)
    }
    builtin_row = next(line for line in PAGE.splitlines() if line.startswith("| as builtins"))
    for builtin, names in re.findall(r"`(\w+)` \(([^)]*)\)", builtin_row):
        for name in re.findall(r"`(\w+)`", names):
            assert issubclass(TREE[name], getattr(builtins, builtin))
