"""JSON has one reading: a key that stands twice, or that is not known, is refused and named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from soupmerge.storage.reading import TwiceError, parse_json, strangers

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
)


@given(values)
def test_a_value_is_read_as_it_was_written(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value


@given(st.text(), values, st.lists(st.sampled_from(["[{}]", '{{"a": {}}}', "[1, {}]"]), max_size=4))
def test_a_key_twice_is_refused_however_deep_it_stands(
    key: str, value: Any, around: list[str]
) -> None:
    name, held = json.dumps(key), json.dumps(value)
    text = f'{{{name}: {held}, "other {name[1:]}: 0, {name}: {held}}}'
    for frame in around:
        text = frame.format(text)
    with pytest.raises(TwiceError, match="stands there twice"):
        parse_json(text)


def test_the_key_that_stands_twice_is_named() -> None:
    with pytest.raises(TwiceError, match="'b' stands there twice"):
        parse_json('{"a": {"c": 1}, "b": {"c": 2}, "b": 3}')


def test_an_unknown_key_is_named_with_the_one_that_may_be_meant() -> None:
    known = ("format", "weights", "affine")
    assert strangers(dict.fromkeys(known), known) == []
    first, second = strangers({"wieghts": 0, "format": 0, "affien": 0}, known, "here: ")
    assert first.startswith("here: 'affien'")
    assert "did you mean 'affine'?" in first
    assert "did you mean 'weights'?" in second
