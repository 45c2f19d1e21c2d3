"""The command line made from config dataclasses: options, errors on one line, exit statuses, JSON."""

from __future__ import annotations

import errno
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from reinforce.command import DEFAULTS, POSITIONAL, LazyGroup, OutputOptions, TalkOptions, field_docs, run_group
from reinforce.errors import StoreError, UnknownNameError, UsageError


@dataclass(frozen=True, kw_only=True)
class BuyConfig(TalkOptions):
    shop: str
    """Where."""


def buy(config: BuyConfig) -> dict[str, Any]:
    """Buy color."""
    return {"shop": config.shop}


@dataclass(frozen=True, kw_only=True)
class PaintConfig(TalkOptions):
    wall: str = field(metadata=POSITIONAL)
    """The wall."""
    color: Literal["red", "blue"] = "red"
    """Its color."""
    coats: int | None = None
    """How often."""
    widths: tuple[float, ...] = (1.0, 2.5)
    """Of the brushes, in cm."""
    wet: bool = False
    """Do not wait."""

    def __post_init__(self) -> None:
        if self.coats is not None and self.coats < 1:
            raise UsageError(f"--coats must be at least 1, not {self.coats}")


def paint(config: PaintConfig) -> dict[str, Any]:
    """Paint a wall."""
    if config.wall == "wet":
        raise StoreError("the wall is wet: wait")
    if config.wall == "gone":
        raise UnknownNameError("wall", "nort", ["north", "south"])
    if config.wall == "broken":
        raise RuntimeError("two\nlines")
    if config.wall == "full":
        raise OSError(errno.ENOSPC, "No space left on device")
    if config.wall == "here":
        Path.cwd()
    names = ("wall", "color", "coats", "widths", "wet")
    return {name: getattr(config, name) for name in names}


SHOPS = {"corner": {"product": "red", "count": 3}}


def shop_defaults(config_class: type, name: str) -> dict[str, Any]:
    assert config_class is OrderConfig
    if name not in SHOPS:
        raise UnknownNameError("shop", name, SHOPS)
    return SHOPS[name]


@dataclass(frozen=True, kw_only=True)
class OrderConfig(TalkOptions):
    shop: str | None = field(default=None, metadata={DEFAULTS: shop_defaults})
    """Where, which says what they usually sell."""
    product: str
    """What."""
    count: int = 1
    """How many."""

    def __init__(self, **typed: Any) -> None:
        given = SHOPS.get(typed.get("shop", ""), {})
        for name, value in (
            {"shop": None, "count": 1, "json": False} | given | typed | {"seen": sorted(typed)}
        ).items():
            object.__setattr__(self, name, value)


def order(config: OrderConfig) -> dict[str, Any]:
    """Order color."""
    return vars(config)


@dataclass(frozen=True, kw_only=True)
class DryConfig(OutputOptions):
    engine: Literal["local", "ray"] = "local"
    """Who computes."""


def dry(config: DryConfig) -> dict[str, Any]:
    """Wait, and be stopped."""
    raise KeyboardInterrupt


@dataclass(frozen=True, kw_only=True)
class ContinueConfig(TalkOptions):
    resume: bool = False
    """Go on."""


def go_on(config: ContinueConfig) -> dict[str, Any]:
    """Never overwrite, and be stopped."""
    raise KeyboardInterrupt


VERBS = {
    "go-on": (f"{__name__}:go_on", "Go on."),
    "dry": (f"{__name__}:dry", "Wait."),
    "paint": (f"{__name__}:paint", "Paint a wall."),
    "buy": (f"{__name__}:buy", "Buy color."),
    "order": (f"{__name__}:order", "Order color."),
}
GROUP = LazyGroup("house", verbs=VERBS)


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["north"], {"wall": "north", "color": "red", "coats": None, "widths": [1.0, 2.5], "wet": False}),
        (["north", "--widths", "3,4e-1"], {"widths": [3.0, 0.4]}),
        (["--color", "blue", "--coats", "2", "--wet", "north"], {"color": "blue", "coats": 2, "wet": True}),
    ],
    ids=["defaults", "comma list", "all options"],
)
def test_options_reach_the_config(
    argv: list[str], expected: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_group(GROUP, ["paint", *argv, "--json"]) == 0
    out = capsys.readouterr()
    assert json.loads(out.out).items() >= expected.items()
    assert out.err == ""


@pytest.mark.parametrize(
    ("argv", "status", "words"),
    [
        (["paint", "north", "--coats", "0"], 2, "--coats must be at least 1"),
        (["paint", "north", "--color", "green"], 2, "'red', 'blue'"),
        (["paint", "north", "--colour", "red"], 2, "--color"),
        (["paint", "north", "--widths", "1,x"], 2, "'x'"),
        (["paint"], 2, "WALL"),
        (["buy"], 2, "--shop"),
        (["order"], 2, "--product"),
        (["order", "--shop", "comer"], 2, "did you mean 'corner'?"),
        (["pant", "north"], 2, "did you mean 'paint'?"),
        (["paint", "gone"], 2, "did you mean 'north'?"),
        (["paint", "wet"], 1, "the wall is wet: wait"),
        (["paint", "broken"], 1, "RuntimeError: two lines (--debug"),
    ],
    ids=[
        "config",
        "choice",
        "option",
        "number",
        "missing",
        "missing option",
        "nothing gives it",
        "unknown giver",
        "verb",
        "unknown name",
        "failure",
        "unforeseen",
    ],
)
def test_an_error_is_one_line_and_a_status(
    argv: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_group(GROUP, argv) == status
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.count("\n") == 1
    assert out.err.startswith("house: ")
    assert words in out.err


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--shop corner", {"product": "red", "count": 3, "seen": ["json", "shop"]}),
        ("--count 1 --shop corner", {"product": "red", "count": 1, "seen": ["count", "json", "shop"]}),
        ("--product blue --shop corner", {"product": "blue", "count": 3, "seen": ["json", "product", "shop"]}),
        ("--product blue", {"product": "blue", "count": 1, "seen": ["json", "product"]}),
    ],
    ids=["all of them", "a default typed", "a required one typed", "none"],
)
def test_an_option_may_give_defaults_to_others(
    line: str, expected: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """The config class gets what was typed alone, and required options count as given."""
    assert run_group(GROUP, ["order", *line.split(), "--json"]) == 0
    assert json.loads(capsys.readouterr().out).items() >= expected.items()


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["dry"], "stopped: type the same command with --resume to continue"),
        (["dry", "--overwrite"], "stopped: type the same command with --resume instead of --overwrite to continue"),
        (["dry", "--dry-run"], "interrupted"),
        (["go-on"], "stopped: type the same command with --resume to continue"),
    ],
    ids=" ".join,
)
def test_a_stopped_verb_says_how_to_go_on(argv: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_group(GROUP, argv) == 130
    assert capsys.readouterr().err.splitlines()[-1] == f"house: {line}"


@pytest.mark.parametrize(
    ("argv", "rank", "ranks", "said"),
    [
        ("--workers 3", "0", "1", "3"),
        ("--workers 2", "0", "2", "2 for each of 2"),
        ("--workers 1 --device cuda:0,cuda:1,cuda:2", "0", "1", "1 for each of 3"),
        ("--workers 3", "1", "2", None),
        ("--workers 3 --engine ray", "0", "1", None),
        ("--workers 2", "0", "1", None),
        ("--workers -1", "0", "2", None),
    ],
)
def test_more_processes_than_processors_are_warned_of_in_one_line(
    argv: str, rank: str, ranks: str, said: str | None, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("reinforce.decoding_workers.usable_cores", lambda: 2)
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", ranks)
    run_group(GROUP, ["dry", *argv.split()])
    lines = [line for line in capsys.readouterr().err.splitlines() if "workers" in line]
    line = f"warning: --workers {said} is more than the 2 processors here: the processes will wait for each other"
    assert lines == ([line] if said else [])


def test_a_full_disk_needs_no_debug(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_group(GROUP, ["paint", "full"]) == 1
    assert capsys.readouterr().err.endswith(": No space left on device: free some, then type the same command again\n")


def test_a_working_folder_that_was_removed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert run_group(GROUP, ["paint", "here"]) == 1
    assert "the working folder is not there any more: cd into one that is" in capsys.readouterr().err


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(RuntimeError):
        run_group(GROUP, ["paint", "broken", "--debug"])


def test_help_is_made_from_the_docstrings(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_group(GROUP, ["paint", "--help"]) == 0
    text = capsys.readouterr().out
    expected = ("Paint a wall.", "--coats INTEGER", "Of the brushes, in cm.", "default: 1.0,2.5")
    assert all(words in text for words in expected)
    assert field_docs(PaintConfig)["json"] == "Print exactly one JSON object on stdout."


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        pytest.param(["paint"], "Missing argument 'WALL': type shop paint [OPTIONS] WALL", id="argument"),
        pytest.param(["buy"], "Missing option '--shop': type shop buy --shop SHOP [OPTIONS]", id="option"),
    ],
)
def test_what_is_missing_is_shown_in_its_place(
    argv: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    verbs = {"paint": ("test_command:paint", "Paint."), "buy": ("test_command:buy", "Buy.")}
    assert run_group(LazyGroup("shop", verbs=verbs), argv) == 2
    assert capsys.readouterr().err == f"shop: {line}\n"
