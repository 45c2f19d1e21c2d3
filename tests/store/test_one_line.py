"""Names from outside in messages: letters of every script are read, nothing reaches the terminal that it could obey."""

from __future__ import annotations

import unicodedata

import pytest

from reinforce.store.canonical import one_line


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Käfer/IMG_0000.v2.png", "Käfer/IMG_0000.v2.png"),
        ("甲虫 🐞.png", "甲虫 🐞.png"),
        ("e\u0301té", "e\u0301té"),
        ("C:\\data\\new", "C:\\data\\new"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[31mred\x07\x9b2J", "\\x1b[31mred\\x07\\x9b2J"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("zero\u200bwidth\u2028line\ufeff", "zero\\u200bwidth\\u2028line\\ufeff"),
        ("lone \udce4", "lone \\udce4"),
        ("tag \U000e0041", "tag \\U000e0041"),
    ],
)
def test_only_what_is_no_letter_to_be_seen_is_escaped(name: str, shown: str) -> None:
    assert one_line(name) == shown


@pytest.mark.parametrize("kind", ["Cc", "Cf", "Cs", "Zl", "Zp"])
def test_no_sign_of_these_kinds_comes_through(kind: str) -> None:
    signs = [sign for sign in map(chr, range(0x110000)) if unicodedata.category(sign) == kind]
    assert signs
    assert one_line("".join(signs), limit=1 << 30).isascii()


def test_long_names_end_in_dots() -> None:
    assert one_line("ä" * 50, limit=10) == "äääääää..."
