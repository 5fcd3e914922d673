"""Ingredients in memory give the soups that those in files give."""

from __future__ import annotations

import pytest
import torch

import soupmerge as sm
from soupmerge.weights import in_memory as module
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


def test_half_of_the_free_memory_may_be_used(
    ingredients: sm.Ingredients, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = sum(info.bytes for one in ingredients for info in one.infos.values())
    system = {"SC_AVPHYS_PAGES": 2 * size, "SC_PAGE_SIZE": 1}
    monkeypatch.setattr("os.sysconf", system.__getitem__)
    assert in_memory(ingredients) is not ingredients
    system["SC_AVPHYS_PAGES"] -= 2
    assert in_memory(ingredients) is ingredients


@pytest.mark.parametrize("error", [AttributeError, OSError, ValueError])
def test_four_gib_may_be_used_where_free_memory_is_unknown(
    ingredients: sm.Ingredients, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def unknown(name: str) -> int:
        raise error(name)

    monkeypatch.setattr("os.sysconf", unknown)
    assert module._free_share() == 4 * 2**30
    assert in_memory(ingredients) is not ingredients
