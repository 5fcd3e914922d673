"""Initial logits of the coefficients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from soupmerge.errors import UsageError, near_miss
from soupmerge.numbers import count, exact
from soupmerge.schedule import stream
from soupmerge.weights.ingredients import Ingredients
from soupmerge.weights.recipe_files import read_recipe

FLOOR = 0.05
"""Share of the uniform soup in given coefficients, because a softmax cannot move from a zero."""

BEST, BEST_SHARE = "best", "0.3"
"""The start at the best ingredient, and the share of the uniform soup that it is mixed with."""

KINDS = ("xavier", "uniform", BEST, "only:N", "recipe:FILE")


def corner_starts(
    init: str,
    ingredients: Ingredients,
    groups: Mapping[str, Sequence[str]],
    seed: int,
    losses: Tensor,
) -> Tensor:
    """Return the initial logits ``(T, G, K)`` of a soup for each of T objectives.

    Args:
        init: ``best`` or ``best:SHARE``: for each objective, the ingredient with the lowest loss,
            mixed with a share of the uniform soup, 0.3 by default. Anything else is a `start` for
            each of them.
        ingredients: the K ingredients.
        groups: group → tensor names.
        seed: seed for ``xavier``.
        losses: ``(T, K)``, the loss of each objective for each ingredient.

    Raises:
        UsageError, InputError: as `start`.
    """
    kind, _, share = init.partition(":")
    corners = []
    for t, row in enumerate(losses):
        one = f"only:{int(row.argmin()) + 1}:{share or BEST_SHARE}"
        key = ("start", seed, t) if t else ("start", seed)
        corners.append(start(one if kind == BEST else init, ingredients, groups, stream(*key)))
    return torch.stack(corners)


def start(
    init: str,
    ingredients: Ingredients,
    groups: Mapping[str, Sequence[str]],
    generator: torch.Generator,
) -> Tensor:
    """Return the initial logits ``(G, K)``.

    Args:
        init: ``xavier``: Glorot-uniform for the softmax of each group as a matrix ``(1, K)``, so
            that the scale √(6 / (1 + K)) does not depend on the number of groups. ``uniform``:
            zeros, from which learning got stuck in the paper. ``only:N``: the N-th ingredient,
            counted from 1. ``recipe:FILE``: the coefficients of a recipe or soup of the same
            ingredients. The last two are mixed with a share of the uniform soup: 0.05, or the
            share in ``only:N:SHARE``.
        ingredients: the K ingredients.
        groups: group → tensor names. If the recipe has other groups, a group starts at the mean
            over its tensors.
        generator: source of randomness for ``xavier``.

    Raises:
        UsageError: an unknown start.
        InputError: the recipe is of other ingredients.
    """
    k = len(ingredients)
    kind, _, rest = init.partition(":")
    if init == "xavier":
        rows = [torch.empty(1, k) for _ in groups]
        return torch.cat([nn.init.xavier_uniform_(row, generator=generator) for row in rows])
    if init == "uniform":
        return torch.zeros(len(groups), k)
    if kind == "only" and rest:
        number, _, share = rest.partition(":")
        return _logits(_one_hot(number, k, init).expand(len(groups), k), share)
    if kind == "recipe" and rest:
        return _logits(_rows_of(rest, ingredients, groups), "")
    raise UsageError(f"unknown start {init!r}", where="init", fix=near_miss(init, KINDS))


def _logits(rows: Tensor, text: str) -> Tensor:
    share = float(exact(text, "init")) if text else FLOOR
    if not 0 < share <= 1:
        what = f"the share of the uniform soup must be in (0, 1], not {share:g}"
        raise UsageError(what, where="init", fix="write, for example, only:2:0.05")
    return ((1 - share) * rows + share / rows.shape[1]).log().float()


def _one_hot(number: str, k: int, init: str) -> Tensor:
    chosen = count(number)
    if chosen is None or not 1 <= chosen <= k:
        what = f"{init!r} names none of the {k} ingredients"
        raise UsageError(what, where="init", fix=f"write only:1 … only:{k}")
    return torch.eye(k, dtype=torch.float64)[chosen - 1]


def _rows_of(path: str, ingredients: Ingredients, groups: Mapping[str, Sequence[str]]) -> Tensor:
    recipe = read_recipe(path)
    recipe.require_made_of(ingredients, where=path)
    by_tensor = recipe.rows_by_tensor(ingredients)
    means = [
        torch.tensor([by_tensor[name] for name in names], dtype=torch.float64).mean(0)
        for names in groups.values()
    ]
    return torch.stack(means).clamp(min=0)
