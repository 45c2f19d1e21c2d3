from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reinforce.data import check_keys, hash64, hex64
from reinforce.errors import DataError

KEYS = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), unique=True)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"", "e3b0c44298fc1c14", id="nothing (FIPS 180-4)"),
        pytest.param(b"abc", "ba7816bf8f01cfea", id="abc (FIPS 180-4)"),
        pytest.param("abc", "ba7816bf8f01cfea", id="a string is its UTF-8"),
        pytest.param("é", "4a99557e4033c353", id="not ASCII"),
    ],
)
def test_hash64_is_the_head_of_sha256(content: str | bytes, expected: str) -> None:
    assert hex64(hash64(content)) == expected


def test_hex64_has_16_digits() -> None:
    assert hex64(0xAB) == "00000000000000ab"


@given(keys=KEYS)
def test_good_keys_pass(keys: list[str]) -> None:
    check_keys(keys, "set")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        pytest.param(["a", "b", "a"], "set: the key 'a' is there twice", id="duplicate"),
        pytest.param(["a", ""], "the name '' is empty", id="empty"),
        pytest.param(["a\0b"], "holds a NUL", id="NUL"),
        pytest.param(["a\udcff"], "is not UTF-8", id="surrogate"),
    ],
)
def test_bad_keys_are_named(keys: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_keys(keys, "set")
