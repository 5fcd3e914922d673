"""Errors name the place, the fault and the fix; long lists are cut, and their rest is counted."""

from __future__ import annotations

import pytest

from soupmerge.errors import (
    InputError,
    NetworkError,
    NumericsError,
    OutputError,
    SoupmergeError,
    UnsafeError,
    UsageError,
    enumerated,
    itemised,
    near_miss,
    printable,
    short_repr,
)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (SoupmergeError, 70),
        (UsageError, 2),
        (InputError, 3),
        (UnsafeError, 4),
        (OutputError, 5),
        (NetworkError, 6),
        (NumericsError, 7),
    ],
)
def test_each_kind_of_error_has_its_exit_status(kind: type[SoupmergeError], status: int) -> None:
    error = kind("is odd", problems=["a", "b"], where="file\n", fix="mend it")
    assert error.exit_status == status
    assert str(error) == "file\\n: is odd: 2 problems:\n  - a\n  - b\nmend it"
    assert (error.what, error.problems, error.fix) == ("is odd", ("a", "b"), "mend it")
    assert str(kind("is odd")) == "is odd"


@pytest.mark.parametrize("count", [1, 2, 10, 11, 12, 1234])
def test_a_list_shows_ten_and_says_how_many_more_there_are(count: int) -> None:
    items = [f"item {i}." for i in range(count)]
    for text in (enumerated(items), itemised(items)):
        assert [item in text for item in items] == [i < 10 for i in range(count)]
        assert (f"and {count - 10:,} more" in text) == (count > 10)
    assert (f"{count:,} problems" in itemised(items)) == (count > 1)
    assert InputError("is odd", problems=items).problems == tuple(items)


def test_a_near_miss_is_named_and_else_what_is_known() -> None:
    assert near_miss("wieghts", ["weights", "groups"]) == "did you mean 'weights'?"
    assert near_miss("x", ["weights", "groups"]) == "choose from weights, groups"
    assert near_miss("x", map(str, range(15))).endswith("9, and 5 more")


def test_text_of_strangers_cannot_steer_a_terminal() -> None:
    assert printable("a\x1b[2J\nä\u202e") == "a\\x1b[2J\\nä\\u202e"
    assert printable("plain ä") == "plain ä"


def test_a_value_of_strangers_is_cut_short() -> None:
    deep: list[object] = []
    for _ in range(10_000):
        deep = [deep]
    assert len(short_repr(deep)) < 100
    assert len(short_repr("x" * 1_000_000)) < 100
    assert "13,288 bits" in short_repr(10**4000)
    assert short_repr(2**128 - 1) == str(2**128 - 1)
    assert short_repr(2**128) == "an integer of 129 bits"
    assert short_repr(object()) == "a object"
    assert short_repr([0.5, None, True, b"x", "y"]) == "[0.5, None, True, b'x', 'y']"
