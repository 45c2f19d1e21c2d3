r"""What a person decided of possible leaks (the paper's section B.4), in a CSV that spreadsheet software may edit.

    key,decision,max_cosine,nearest_1,...,nearest_5
    photos/cat.jpg,,0.987,train/17.png,...

`decision` is leak, keep or empty: undecided. The other columns are for the person: they are written anew from what was
found. Keys can hold anything, so a cell holds them in a form that no spreadsheet reads as a formula, number or date, or
changes when it saves: a backslash and what is not printable are Python's escapes (\\, \n, \udcff), and an apostrophe
precedes whatever is not plainly a name. Both are undone on reading, where plain keys may be typed as they are.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Literal, cast

from reinforce.curate.curated import LeakRecord
from reinforce.curate.leaks import NEAREST_SHOWN
from reinforce.errors import DataError, MissingDataError
from reinforce.whole_file import write_whole

Decision = Literal["leak", "keep"]
LEAK: Final = "leak"
KEEP: Final = "keep"
DECISIONS: tuple[Decision, ...] = (LEAK, KEEP)

KEY, DECISION, COSINE = "key", "decision", "max_cosine"
NEAREST = tuple(f"nearest_{place}" for place in range(1, NEAREST_SHOWN + 1))
COLUMNS = (KEY, DECISION, COSINE, *NEAREST)

PLAINLY_A_NAME = re.compile(r"[A-Za-z].*[./_].*[A-Za-z]")
"""Begins and ends with a letter, and has something between that no word has."""
ESCAPE = re.compile(r"\\(?:[\\nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8}|)")


def key_cell(key: str) -> str:
    """A key as it stands in a cell. `cell_key` is the inverse."""
    text = "".join(sign if sign.isprintable() and sign != "\\" else _escape(sign) for sign in key)
    if text.startswith("'"):  # some software takes the first apostrophe away
        text = f"\\x27{text[1:]}"
    return text if PLAINLY_A_NAME.fullmatch(text) else f"'{text}"


def cell_key(cell: str) -> str:
    """Raises ValueError for a backslash that begins no escape."""
    return ESCAPE.sub(lambda found: _unescape(found.group()), cell.removeprefix("'"))


def read_decisions(path: Path, known: Collection[str] | None = None) -> dict[str, Decision]:
    """Key -> what was decided; undecided keys are not in it.

    Commas, semicolons or tabs divide cells; case does not matter in decisions. Raises MissingDataError where there is
    no file, DataError, which names the line, for one that says something else, says it twice, or of a key that is not
    among the `known` ones.
    """
    decisions: dict[str, Decision] = {}
    lines: dict[str, int] = {}
    for line, key, decision in _rows(path):
        if key in lines:
            raise DataError(f"{path} line {line}: {key!r} is in line {lines[key]} already: remove one of them")
        if known is not None and key not in known:
            raise DataError(f"{path} line {line}: {key!r} is no image of the gallery{_meant(key, known)}")
        lines[key] = line
        if decision:
            decisions[key] = _decision(decision, f"{path} line {line}")
    return decisions


def write_decisions(path: Path, leaks: Iterable[LeakRecord], decisions: Mapping[str, Decision]) -> None:
    """Possible leaks, the most similar first, with what was decided of them before; then decisions on other items,
    which may be found again. Raises StoreAccessError."""
    found = sorted(leaks, key=lambda leak: (-leak.max_cosine, leak.key))
    others = sorted(decisions.keys() - {leak.key for leak in found})
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows(leak_row(leak, decisions.get(leak.key, "")) for leak in found)
    writer.writerows(other_row(key, decisions[key]) for key in others)
    data = text.getvalue().encode("utf-8-sig")  # without its mark spreadsheets take UTF-8 for something else
    write_whole(path, lambda file: file.write(data))


def leak_row(leak: LeakRecord, decision: str) -> list[str]:
    """Cells of a possible leak."""
    nearest = [key_cell(key) for key, _ in leak.nearest[:NEAREST_SHOWN]]
    return [key_cell(leak.key), decision, f"{leak.max_cosine:.4f}", *nearest, *[""] * (NEAREST_SHOWN - len(nearest))]


def other_row(key: str, decision: Decision) -> list[str]:
    """Cells of a decision on what was not found this time."""
    return [key_cell(key), decision, "", *[""] * NEAREST_SHOWN]


def _rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, key and decision of every row that is not blank."""
    text = _text(path)
    header = text.partition("\n")[0]
    divider = next((sign for sign in ";\t" if sign in header), ",")  # spreadsheets save in the ways of a language
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=divider, strict=True)
    try:
        columns = _header(next(reader, []), path)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield reader.line_num, *_row(columns, cells, f"{path} line {reader.line_num}")
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num} is no CSV: {error}") from error


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise MissingDataError(f"{path}: no decisions are there: type the path of a leaks.csv") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path} line {line} is not UTF-8: save it as CSV UTF-8") from None


def _header(cells: list[str], path: Path) -> tuple[str, ...]:
    columns = tuple(cell.strip().lower() for cell in cells)
    while columns and not columns[-1]:
        columns = columns[:-1]
    if len(set(columns)) != len(columns) or not {KEY, DECISION} <= set(columns) <= set(COLUMNS):
        raise DataError(f"{path} line 1: the columns are {','.join(columns)!r}: expected {','.join(COLUMNS)}")
    return columns


def _row(columns: tuple[str, ...], cells: list[str], where: str) -> tuple[str, str]:
    if any(cell.strip() for cell in cells[len(columns) :]):
        raise DataError(f"{where} has {len(cells)} cells: expected {','.join(columns)} (quote cells with commas)")
    row = dict(zip(columns, cells, strict=False))
    try:
        key = cell_key(row.get(KEY, ""))
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None
    if not key:
        raise DataError(f"{where} has no key")
    return key, row.get(DECISION, "").strip().lower()


def _meant(key: str, known: Collection[str]) -> str:
    """The one image whose key differs only in what is easily lost. Keys that look alike name different images."""
    same = [other for other in known if _bare(other) == _bare(key)]
    if len(same) == 1:
        return f", did you mean {same[0]!r}?"
    return ": copy keys from the page or from the leaks.csv that curate wrote"


def _bare(key: str) -> str:
    """Without folder, suffix, case, and blanks around it."""
    base = key.strip().rpartition("/")[2]
    return (base.rpartition(".")[0] or base).casefold()


def _decision(text: str, where: str) -> Decision:
    if text not in DECISIONS:
        raise DataError(f"{where}: {text!r} is no decision: type leak, keep, or nothing")
    return cast(Decision, text)


def _escape(sign: str) -> str:
    return sign.encode("unicode_escape").decode()


def _unescape(escape: str) -> str:
    if escape == "\\":
        raise ValueError("a backslash stands alone: type two of them")
    return escape.encode().decode("unicode_escape")
