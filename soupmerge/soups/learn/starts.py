"""Where learning starts: the logits of the coefficients, before the first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from soupmerge.errors import UsageError, near_miss
from soupmerge.numbers import count, exact
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe import read_recipe

FLOOR = 0.05
"""Share of the uniform soup in a start at given coefficients: a softmax never leaves a zero."""

KINDS = ("xavier", "uniform", "only:N", "recipe:FILE")


def start(
    how: str,
    ingredients: Ingredients,
    groups: Mapping[str, Sequence[str]],
    generator: torch.Generator,
) -> Tensor:
    """Return the logits ``(G, K)`` to start from.

    Args:
        how: ``xavier``: Glorot-uniform for each group's softmax by itself, a matrix ``(1, K)``, so
            that its scale √(6 / (1 + K)) is the same for any number of groups. ``uniform``: zeros,
            from which the paper saw learning stick. ``only:N``: the N-th ingredient, counted from
            1. ``recipe:FILE``: the coefficients of a recipe or soup of these ingredients. The last
            two are mixed with a share of the uniform soup, 0.05, or as ``only:N:0.1`` says.
        ingredients: the K ingredients.
        groups: group → tensor names; a recipe of other groups gives each the mean of its tensors.
        generator: for ``xavier``.

    Raises:
        UsageError: there is no such start.
        InputError: the recipe is of other ingredients.
    """
    k = len(ingredients)
    kind, _, rest = how.partition(":")
    if how == "xavier":
        rows = [torch.empty(1, k) for _ in groups]
        return torch.cat([nn.init.xavier_uniform_(row, generator=generator) for row in rows])
    if how == "uniform":
        return torch.zeros(len(groups), k)
    if kind == "only" and rest:
        number, _, floor = rest.partition(":")
        return _logits(_one_hot(number, k, how).expand(len(groups), k), floor)
    if kind == "recipe" and rest:
        return _logits(_rows_of(Path(rest), ingredients, groups), "")
    raise UsageError(f"no start {how!r}", where="init", fix=near_miss(how, KINDS))


def _logits(rows: Tensor, floor: str) -> Tensor:
    share = float(exact(floor, "init")) if floor else FLOOR
    if not 0 < share <= 1:
        what = f"{share:g} of the uniform soup is not in (0, 1]"
        raise UsageError(what, where="init", fix="write only:2:0.05, say")
    return ((1 - share) * rows + share / rows.shape[1]).log().float()


def _one_hot(number: str, k: int, how: str) -> Tensor:
    chosen = count(number)
    if chosen is None or not 1 <= chosen <= k:
        what = f"{how!r} names none of {k} ingredients"
        raise UsageError(what, where="init", fix=f"write only:1 … only:{k}")
    return torch.eye(k, dtype=torch.float64)[chosen - 1]


def _rows_of(path: Path, ingredients: Ingredients, groups: Mapping[str, Sequence[str]]) -> Tensor:
    recipe = read_recipe(path)
    recipe.require_made_of(ingredients, where=path)
    by_tensor = recipe.rows_by_tensor(ingredients)
    means = [
        torch.tensor([by_tensor[name] for name in names], dtype=torch.float64).mean(0)
        for names in groups.values()
    ]
    return torch.stack(means).clamp(min=0)
