"""Names in tars: what an image of a folder is called, and that its key comes back."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reinforce.data.member_names import member_names
from reinforce.errors import DataError

PARTS = st.text(st.sampled_from("ab.%/2EJé"), min_size=1, max_size=6)
NAMES = st.builds(lambda part, suffix: part + suffix, PARTS, st.sampled_from(["", ".jpg", ".PNG", ".txt"]))


@pytest.mark.parametrize(
    ("key", "stem", "suffix"),
    [
        ("cat/1.jpg", "cat/1", "jpg"),
        ("1.JPEG", "1", "JPEG"),
        ("v1.0/cat/a.v2.png", "v1.0/cat/a%2Ev2", "png"),
        ("100%.png", "100%25", "png"),
        ("50%/x.png", "50%25/x", "png"),
        ("../x/1.jpg", "%2E%2E/x/1", "jpg"),
        ("./1.jpg", "%2E/1", "jpg"),
        (".hidden.png", "%2Ehidden", "png"),
        (".png", "%2Epng", ""),
        ("00000012", "00000012", ""),
        ("scan.dat", "scan%2Edat", ""),
        ("é/ü.webp", "é/ü", "webp"),
    ],
)
def test_names(key: str, stem: str, suffix: str) -> None:
    assert member_names([key]) == [(stem, suffix)]


def test_images_that_differ_in_their_suffix_keep_it() -> None:
    assert member_names(["a/1.jpg", "a/1.png", "b/1.png"]) == [
        ("a/1%2Ejpg", "jpg"),
        ("a/1%2Epng", "png"),
        ("b/1", "png"),
    ]


def test_names_that_collide_are_named() -> None:
    with pytest.raises(DataError, match=r"'1\.jpg\.gif' and '1\.jpg' would both be called '1%2Ejpg' in a tar"):
        member_names(["1.jpg.gif", "1.jpg", "1.png"])


@settings(max_examples=100, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=8, unique=True))
def test_stems_are_unique_hold_no_dot_in_their_base_name_and_lead_back(keys: list[str]) -> None:
    try:
        names = member_names(keys)
    except DataError:
        return
    assert len({stem for stem, _ in names}) == len(keys)
    for key, (stem, suffix) in zip(keys, names, strict=True):
        assert "." not in stem.rpartition("/")[2]
        assert unquote(stem) in (key, key.removesuffix(f".{suffix}"))
        assert not {".", ".."} & {*stem.split("/")}
