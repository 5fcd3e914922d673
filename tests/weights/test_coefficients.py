"""Coefficients as they are written and read, and the recipe that holds them."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import soupmerge as sm
from soupmerge.errors import UsageError
from soupmerge.weights.coefficients import parse_rows, parse_weights
from tests.weights.drawing import (
    QUIET,
    Drawn,
    affine,
    laws,
    many,
    mixes,
    rows_of,
    same,
    written,
)

pytestmark = QUIET


@laws
@given(drawn=mixes(row=affine), data=st.data())
def test_a_recipe_survives_json(drawn: Drawn, data: st.DataObject) -> None:
    states, _ = drawn
    with written(states) as ingredients:
        rows = [data.draw(rows_of(len(states), affine)) for _ in ingredients.groups("tensor")]
        recipe = sm.Recipe.of(ingredients, rows, by="tensor", affine=True)
        again = sm.Recipe.from_json(json.loads(json.dumps(recipe.to_json())))
        assert again == recipe
        assert same(sm.mix(ingredients, again), sm.mix(ingredients, recipe))


@many
@given(row=st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=6))
def test_written_coefficients_are_read_exactly(row: list[int]) -> None:
    texts = [f"{number / 10**9!r}" for number in row]
    assert parse_weights(",".join(texts)) == tuple(map(float, texts))


@many
@given(parts=st.lists(st.integers(0, 10**6), min_size=1, max_size=6).filter(any))
def test_normalised_coefficients_are_shares(parts: list[int]) -> None:
    shares = parse_weights(",".join(map(str, parts)), normalize=True)
    assert shares == tuple(float(Fraction(part, sum(parts))) for part in parts)


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        (["0.25,0.75"], [(0.25, 0.75)] * 3),
        (["uniform"], [(0.5, 0.5)] * 3),
        ([" uniform ", "head= 1 , 0 "], [(0.5, 0.5), (0.5, 0.5), (1.0, 0.0)]),
        (["a=1,0", "head=0,1", "a=b=uniform"], [(1.0, 0.0), (0.5, 0.5), (0.0, 1.0)]),
        (["head=0,1", "1/3,2/3"], [(1 / 3, 2 / 3), (1 / 3, 2 / 3), (0.0, 1.0)]),
    ],
)
def test_a_row_is_for_its_group_or_for_all_that_have_none(
    texts: list[str], wanted: list[tuple[float, ...]]
) -> None:
    assert parse_rows(texts, ["a", "a=b", "head"], 2) == wanted


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["hade=1,0", "uniform"], "unknown group 'hade'; did you mean 'head'"),
        (["uniform", "1,0"], "all groups should have one row, but two are given"),
        (
            ["head=1,0", "uniform", "head=0,1"],
            "group 'head' should have one row, but two are given",
        ),
        (["head=1,0"], "groups without a row: a; add a row for all others"),
        ([], "groups without a row: 2 problems"),
        (["1,x"], "'x' is not a number"),
    ],
)
def test_rows_that_cannot_be_meant_are_refused(texts: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=f"^coefficients: {words}"):
        parse_rows(texts, ["a", "head"], 2)


def test_rows_are_divided_by_their_sums_each_by_its_own() -> None:
    rows = parse_rows(["1,3", "head=2,2"], ["a", "head"], 2, normalize=True)
    assert rows == [(0.25, 0.75), (0.5, 0.5)]
    with pytest.raises(UsageError, match="--normalize: 1,-1 sum to 0.*change the coefficients"):
        parse_rows(["1,-1"], ["a"], 2, normalize=True)
    assert parse_weights("0,0") == (0.0, 0.0)
