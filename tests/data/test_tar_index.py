"""The header reader against the standard library's, and against damage."""

from __future__ import annotations

import gzip
import io
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforce.data.files import LocalFiles
from reinforce.data.tar_index import Member
from reinforce.data.tar_index import read_members as read_members_of
from reinforce.errors import DataError, MissingDataError

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=150)
FORMATS = st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])


def read_members(path: Path) -> list[Member]:
    files = LocalFiles(path.parent)
    return read_members_of(str(path), files.size(path.name), files.scan(path.name))


def members_by_tarfile(path: Path) -> list[Member]:
    with tarfile.open(path, "r:") as tar:
        return [Member(info.name, info.isreg() and not info.issparse(), info.offset_data, info.size) for info in tar]


def write(path: Path, files: list[tuple[str, bytes]], format_code: int) -> Path:
    with tarfile.open(path, "w", format=format_code) as tar:
        for name, data in files:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mtime = 1.5 if format_code == tarfile.PAX_FORMAT else 1
            tar.addfile(info, io.BytesIO(data))
    return path


@settings(max_examples=60, deadline=None)
@given(files=st.lists(st.tuples(NAMES, st.binary(max_size=1100)), max_size=6), format_code=FORMATS)
def test_agrees_with_the_standard_library(files: list[tuple[str, bytes]], format_code: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder, "x.tar"), files, format_code)
        found = read_members(path)
        data = path.read_bytes()
    assert [(member.name, data[member.offset : member.offset + member.size_bytes]) for member in found] == files
    assert all(member.regular for member in found)


def test_agrees_on_every_kind_of_member(tmp_path: Path) -> None:
    (tmp_path / "in" / ("long" * 30)).mkdir(parents=True)
    (tmp_path / "in" / "a.png").write_bytes(b"a" * 600)
    (tmp_path / "in" / "soft.png").symlink_to("a.png")
    (tmp_path / "in" / "hard.png").hardlink_to(tmp_path / "in" / "a.png")
    (tmp_path / "in" / ("long" * 30) / "b.png").write_bytes(b"b")
    for format_code in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        path = tmp_path / "x.tar"
        with tarfile.open(path, "w", format=format_code) as tar:
            tar.add(tmp_path / "in", "in")
        found = read_members(path)
        assert [member._replace(name=member.name.rstrip("/")) for member in found] == members_by_tarfile(path)
        assert sum(member.regular for member in found) == 2


def test_sizes_beyond_the_octal_field(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    size = 9 << 30
    info = tarfile.TarInfo("big.png")
    info.size = size
    with path.open("wb") as file:  # a hole: it takes no space
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.truncate(512 + size + 1024)
    assert read_members(path) == [Member("big.png", True, 512, size)]


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return write(tmp_path / "x.tar", [("a.png", b"a" * 700), ("b.png", b"b" * 100)], tarfile.USTAR_FORMAT)


def flip(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def with_size(data: bytes, size: bytes) -> bytes:
    """The first member's size field, under a right checksum."""
    header = data[:124] + size.ljust(12, b"\0") + data[136:148] + b" " * 8 + data[156:512]
    return header[:148] + b"%06o\0 " % sum(header) + header[156:] + data[512:]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda data: data[:300], "at byte 0 of 300: it has no end mark", id="cut in the first header"),
        pytest.param(lambda data: data[:900], "at byte 0 of 900: its last file is cut off", id="cut in a file"),
        pytest.param(lambda data: data[:1536], "at byte 1536 of 1536: it has no end mark", id="cut between files"),
        pytest.param(lambda data: data[:1700], "at byte 1536 of 1700: it has no end mark", id="cut in a header"),
        pytest.param(lambda data: data[:2560], "at byte 2560 of 2560: it has no end mark", id="cut before the end"),
        pytest.param(
            lambda data: flip(data, 1540), "at byte 1536 .*no valid header there", id="flipped bit in a header"
        ),
        pytest.param(lambda data: flip(data, 0), "is not a plain tar", id="flipped bit in the first header"),
        pytest.param(lambda data: data + data, "more data after the end mark", id="two tars joined"),
        pytest.param(lambda data: b"", "at byte 0 of 0: it has no end mark", id="empty file"),
        pytest.param(lambda data: gzip.compress(data, 0), "is not a plain tar .compressed ones", id="compressed"),
        pytest.param(lambda data: with_size(data, b"1zz"), "at byte 0 of .*its size is no number", id="no size"),
    ],
)
def test_damage_is_an_error_never_a_shorter_list(whole: Path, damage: Callable[[bytes], bytes], message: str) -> None:
    whole.write_bytes(damage(whole.read_bytes()))
    with pytest.raises(DataError, match=message):
        read_members(whole)


def test_damaged_extended_header(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tar", [("é" * 80 + ".png", b"")], tarfile.PAX_FORMAT)
    data = bytearray(path.read_bytes())
    assert data[512:515] != b"999"
    data[512:515] = b"abc"
    path.write_bytes(data)
    with pytest.raises(DataError, match="malformed extended header"):
        read_members(path)


def test_an_extended_size_that_is_no_number(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.png")
    info.pax_headers = {"size": "1x"}
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(info)
    with pytest.raises(DataError, match="malformed extended header"):
        read_members(tmp_path / "x.tar")


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="not there"):
        read_members(tmp_path / "x.tar")


def test_a_folder_named_like_a_tar(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_members(tmp_path)


def test_parts_are_read_alike_where_the_system_has_no_pread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    path = write(tmp_path / "x.tar", [("a.png", b"\r\n" * 40), ("b.png", b"second")], tarfile.USTAR_FORMAT)
    expected = read_members(path)
    monkeypatch.delattr("os.pread", raising=False)
    assert read_members(path) == expected
    assert LocalFiles(tmp_path).read_range("x.tar", expected[1].offset, 6) == b"second"
