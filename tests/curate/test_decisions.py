"""Decisions on possible leaks: a CSV that outlives a spreadsheet, and that is refused where it can't be meant."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforce.curate.curated import LeakRecord
from reinforce.curate.decisions import COLUMNS, KEEP, LEAK, cell_key, key_cell, read_decisions, write_decisions
from reinforce.errors import DataError, MissingDataError

FEW = settings(deadline=None, max_examples=30)
AWKWARD = ["a,b.jpg", 'say "hi".jpg', "two\nlines.jpg", "cr\r\nlf.png", "semi;colon.png", "tab\there.png", "=1+1.jpg",
           "+1", "-2", "@home.jpg", "'quoted'.jpg", "''", "back\\slash.png", "\\n.png", "no\udcff\udc80utf8.png",
           "007", "1e5", "3/12", "2024-01-02", "TRUE", "mar_12", " spaces .png ", "\ufeffmark.png", "größe/猫.png",
           "🙂.png", "\u2028.png", "\U000e0001.png", "key", "cat", "train/cat/1.jpg"]  # fmt: skip
keys = st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=12) | st.sampled_from(AWKWARD)


def record(key: str, max_cosine: float = 0.97) -> LeakRecord:
    return LeakRecord(key=key, max_cosine=max_cosine, nearest=(("train/1.png", max_cosine), ("=x", 0.5)))


def written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


class TestKeyCells:
    @settings(deadline=None)
    @given(key=keys)
    def test_give_any_key_back_and_no_spreadsheet_reads_them_as_something_else(self, key):
        cell = key_cell(key)
        assert cell_key(cell) == key
        assert cell.isprintable()
        assert cell.encode()  # Unicode
        assert cell[0].isalpha() or cell[0] == "'"
        assert cell_key(cell.removeprefix("'")) == key  # as software that takes the apostrophe for a mark saves it

    @pytest.mark.parametrize(("key", "cell"), [
        ("train/cat/1.jpg", "train/cat/1.jpg"), ("=1+1.jpg", "'=1+1.jpg"), ("007", "'007"), ("TRUE", "'TRUE"),
        ("two\nlines.jpg", "two\\nlines.jpg"), ("no\udcff.png", "no\\udcff.png"), ("a\\b.png", "a\\\\b.png"),
    ])  # fmt: skip
    def test_are_readable(self, key, cell):
        assert key_cell(key) == cell


class TestDecisions:
    @FEW
    @given(decided=st.dictionaries(keys, st.sampled_from([LEAK, KEEP, ""]), max_size=8),
           divider=st.sampled_from(",;\t"), end=st.sampled_from(["\n", "\r\n"]), mark=st.booleans(),
           quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))  # fmt: skip
    def test_outlive_a_spreadsheet(self, tmp_path_factory, decided, divider, end, mark, quoting):
        path = tmp_path_factory.mktemp("decisions") / "leaks.csv"
        write_decisions(path, map(record, decided), {key: value for key, value in decided.items() if value})
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
        with path.open("w", encoding="utf-8-sig" if mark else "utf-8", newline="") as file:
            csv.writer(file, delimiter=divider, lineterminator=end, quoting=quoting).writerows(rows)
        assert read_decisions(path, decided) == {key: value for key, value in decided.items() if value}

    def test_are_shown_with_what_was_found_the_most_similar_first(self, tmp_path):
        path = tmp_path / "leaks.csv"
        write_decisions(path, [record("b/1.png", 0.96), record("a/2.png", 0.99)], {"b/1.png": KEEP})
        with path.open(encoding="utf-8-sig", newline="") as file:
            assert list(csv.reader(file)) == [
                list(COLUMNS),
                ["a/2.png", "", "0.9900", "train/1.png", "'=x", "", "", ""],
                ["b/1.png", "keep", "0.9600", "train/1.png", "'=x", "", "", ""],
            ]

    def test_are_kept_when_they_are_written_again(self, tmp_path):
        path = tmp_path / "leaks.csv"
        write_decisions(path, [record("a.x"), record("b.x"), record("gone.x")], {"a.x": KEEP, "gone.x": LEAK})
        write_decisions(path, [record("new.x"), record("a.x")], read_decisions(path))
        assert read_decisions(path) == {"a.x": KEEP, "gone.x": LEAK}
        assert [line.split(",")[0] for line in path.read_text().splitlines()[1:]] == ["a.x", "new.x", "gone.x"]
        before = path.read_bytes()
        write_decisions(path, [record("a.x"), record("new.x")], read_decisions(path))
        assert path.read_bytes() == before

    def test_may_be_typed_by_hand(self, tmp_path):
        path = written(tmp_path / "d.csv", "Decision,Key,\r\n KEEP ,=odd.jpg,\r\n\r\n,,\r\nLeak,cat,\r\n,dog,\r\n")
        assert read_decisions(path) == {"=odd.jpg": KEEP, "cat": LEAK}

    @pytest.mark.parametrize(("text", "message"), [
        ("", "line 1: the columns are ''"),
        ("key,max_cosine\n", "line 1: the columns are"),
        ("key,decision,note\n", "line 1: the columns are 'key,decision,note'"),
        ("key,decision\na,keep\nb,maybe\n", "line 3: 'maybe' is no decision: type leak, keep, or nothing"),
        ("key,decision\na,keep\nb,\na,keep\n", "line 4: 'a' is in line 2 already"),
        ("key,decision\n,keep\n", "line 2 has no key"),
        ("key,decision\na,keep,more\n", r"line 2 has 3 cells: expected key,decision"),
        ("key,decision\na\\b,keep\n", "line 2: a backslash stands alone"),
        ("key,decision\na\\U99999999,keep\n", "line 2: .*illegal Unicode"),
        ('key,decision\n"a"b,keep\n', "line 2 is no CSV"),
        ('key,decision\na,keep\n"b,keep\n', "line 3 is no CSV"),
        ("key,decision\n1.JPG,keep\n", r"line 2: '1.JPG' is no image of the gallery, did you mean 'x/1.jpg'\?$"),
        ("key,decision\n x/1.jpg ,keep\n", r"did you mean 'x/1.jpg'\?$"),
        ("key,decision\nx/2,keep\n", "line 2: 'x/2' is no image of the gallery: copy keys from the page or from the "),
        ("key,decision\ncut,keep\n", "line 2: 'cut' is no image of the gallery: copy keys from"),
    ])  # fmt: skip
    def test_that_cannot_be_meant_are_refused(self, tmp_path, text, message):
        path = written(tmp_path / "d.csv", text)
        with pytest.raises(DataError, match=message) as refused:
            read_decisions(path, ["a", "b", "cat", "x/1.jpg", "x/2.jpg", "y/2.jpg"])
        assert str(refused.value).startswith(str(path))
        assert "\n" not in str(refused.value)

    def test_in_another_encoding_are_refused(self, tmp_path):
        path = tmp_path / "d.csv"
        path.write_bytes("key,decision\na,keep\ngröße,keep\n".encode("cp1252"))
        with pytest.raises(DataError, match="line 3 is not UTF-8: save it as CSV UTF-8"):
            read_decisions(path)

    def test_that_are_not_there_are_refused(self, tmp_path):
        with pytest.raises(MissingDataError, match="no decisions are there"):
            read_decisions(tmp_path / "none.csv")
