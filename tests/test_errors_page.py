"""docs/errors.md has a section for every error, and none for one that does not exist."""

from __future__ import annotations

import builtins
import inspect
import re
from pathlib import Path

from reinforce import errors

PAGE = (Path(__file__).parents[1] / "docs" / "errors.md").read_text(encoding="utf-8")
CLASSES = {name: kind for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)}


def test_every_error_has_its_section() -> None:
    assert sorted(re.findall(r"^### (\w+)$", PAGE, re.M)) == sorted(CLASSES)


def test_the_tree_in_the_module_is_the_tree_of_the_classes() -> None:
    drawn = re.findall(r"^ *(?:│   )*(?:[├└]── )?(\w+Error)\b", errors.__doc__ or "", re.M)
    assert sorted(drawn) == sorted(CLASSES)


def test_exit_statuses_and_builtins_are_as_the_page_says() -> None:
    statuses = {name: kind.exit_code for name, kind in CLASSES.items()}
    assert {name for name, status in statuses.items() if status == 130} == {"StoppedError"}
    assert {name for name, status in statuses.items() if status == 2} == {
        name for name, kind in CLASSES.items() if issubclass(kind, errors.UsageError)
    }
    builtin_row = next(line for line in PAGE.splitlines() if line.startswith("| as builtins"))
    for builtin, names in re.findall(r"`(\w+)` \(([^)]*)\)", builtin_row):
        for name in re.findall(r"`(\w+)`", names):
            assert issubclass(CLASSES[name], getattr(builtins, builtin))
