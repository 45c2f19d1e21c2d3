"""Names of the members in which two JSON documents differ."""

from __future__ import annotations

from typing import Any

import pytest

from reinforce.store.differing import differing_members, member


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        ({}, {}, []),
        ({"a": 1, "b": [1]}, {"a": 1, "b": [1]}, []),
        ({"a": 1}, {"a": 2}, ["a"]),
        ({"a": 1}, {}, ["a"]),
        ({}, {"a": None}, ["a"]),
        ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"c": 3, "d": 2}}}, ["a.b.c"]),
        ({"a": {"b": 1}}, {"a": 1}, ["a"]),
        ({"b": 1, "a": {"z": 1, "y": 1}}, {"b": 2, "a": {"z": 2, "y": 2}}, ["a.y", "a.z", "b"]),
        ({"a": [1, 2]}, {"a": [2, 1]}, ["a"]),
    ],
)
def test_the_innermost_members_are_named(first: dict[str, Any], second: dict[str, Any], names: list[str]) -> None:
    assert differing_members(first, second) == names
    assert differing_members(second, first) == names


@pytest.mark.parametrize(
    ("name", "value"), [("a", {"b": 1}), ("a.b", 1), ("a.c", None), ("a.b.c", None), ("x.y", None)]
)
def test_a_member_is_found_by_its_name(name: str, value: Any) -> None:
    assert member({"a": {"b": 1}}, name) == value
