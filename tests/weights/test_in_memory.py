"""Ingredients in memory give the soups that those in files give."""

from __future__ import annotations

import pytest
import torch

import soupmerge as sm
from soupmerge.weights.in_memory import InMemoryView, in_memory


@pytest.mark.parametrize("policy", ["average", "base"])
def test_soups_of_ingredients_in_memory_are_those_of_files_bit_for_bit(
    ingredients: sm.Ingredients, policy: str
) -> None:
    stacked = in_memory(ingredients)
    assert all(
        isinstance(view, InMemoryView)
        for ingredient in stacked
        for view in ingredient.views.values()
    )
    for row in ([1, 0, 0], [0.2, 0.5, 0.3], [1 / 3] * 3, [1.5, -0.2, -0.3]):
        recipe = sm.Recipe.of(
            ingredients, row, buffers="base" if min(row) < 0 else policy, affine=True
        )
        ours, plain = sm.mix(stacked, recipe), sm.mix(ingredients, recipe)
        assert list(ours) == list(plain)
        assert all(torch.equal(ours[n], plain[n]) for n in plain)


def test_ingredients_in_memory_need_no_files(ingredients: sm.Ingredients) -> None:
    recipe = sm.Recipe.uniform(ingredients)
    before, stacked = sm.mix(ingredients, recipe), in_memory(ingredients)
    for file in ingredients.files:
        file.unlink()
    after = sm.mix(stacked, recipe)
    assert all(torch.equal(before[n], after[n]) for n in before)


def test_what_does_not_fit_stays_in_files(ingredients: sm.Ingredients) -> None:
    assert in_memory(ingredients, most=1000) is ingredients
