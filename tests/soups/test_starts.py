"""Where learning starts: the logits of the coefficients before the first step."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.errors import SoupmergeError
from soupmerge.schedule import stream
from soupmerge.soups.learn.starts import corner_starts, start
from tests.soups.planted import make_ingredients


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("groups", [1, 7])
def test_xavier_draws_each_group_as_a_matrix_of_one_row(
    tmp_path: Path, k: int, groups: int
) -> None:
    """Glorot & Bengio 2010: uniform within ±√(6 / (fan_in + fan_out)), here of a matrix (1, K).

    Drawn as one matrix, the bound would shrink with the number of groups.
    """
    ingredients = make_ingredients(tmp_path / "in", k)
    names = {str(g): () for g in range(groups)}
    generator = seeded(3)
    rows = [nn.init.xavier_uniform_(torch.empty(1, k), generator=generator) for _ in range(groups)]
    assert torch.equal(start("xavier", ingredients, names, seeded(3)), torch.cat(rows))
    drawn = torch.cat(
        [start("xavier", ingredients, names, seeded(s)) for s in range(200)]
    ).flatten()
    bound = math.sqrt(6 / (1 + k))
    assert stats.kstest(drawn.numpy(), stats.uniform(-bound, 2 * bound).cdf).pvalue > 0.01


def test_starts_are_what_they_say(ingredients: sm.Ingredients, tmp_path: Path) -> None:
    groups = ingredients.groups("tensor")
    none = torch.Generator()

    def rows(settings: str) -> Tensor:
        return start(settings, ingredients, groups, none).softmax(1).double()

    even = torch.full((len(groups), 3), 1 / 3, dtype=torch.float64)
    torch.testing.assert_close(rows("uniform"), even, atol=1e-6, rtol=0)
    for k in range(3):
        only = 0.9 * torch.eye(3, dtype=torch.float64)[k] + 0.1 / 3
        logits = start(f"only:{k + 1}:0.1", ingredients, groups, none)
        assert torch.equal(logits, only.log().float().expand(len(groups), 3))
    first = 0.95 * torch.eye(3, dtype=torch.float64)[0] + 0.05 / 3
    torch.testing.assert_close(rows("only:1"), first.expand(len(groups), 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(rows("only:1:1"), even, atol=1e-6, rtol=0)
    recipe = sm.Recipe.of(ingredients, [0.2, 0.8, 0.0])
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_json()))
    near = 0.95 * torch.tensor(recipe.weights[0], dtype=torch.float64) + 0.05 / 3
    found = rows(f"recipe:{tmp_path}/recipe.json")
    torch.testing.assert_close(found, near.expand(len(groups), 3), atol=1e-6, rtol=0)


def test_a_recipe_of_finer_groups_gives_each_group_its_mean(
    ingredients: sm.Ingredients, tmp_path: Path
) -> None:
    fine, generator = ingredients.groups("tensor"), torch.Generator().manual_seed(0)
    weights = torch.rand(len(fine), 3, generator=generator, dtype=torch.float64).softmax(1)
    recipe = sm.Recipe.of(ingredients, weights.tolist(), by="tensor")
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_json()))
    found = start(
        f"recipe:{tmp_path}/recipe.json", ingredients, ingredients.groups("model"), generator
    )
    mean = 0.95 * weights.mean(0) + 0.05 / 3
    torch.testing.assert_close(found.double().softmax(1)[0], mean, atol=1e-6, rtol=0)


def test_corners_start_near_the_best_ingredient_of_each_objective(
    ingredients: sm.Ingredients,
) -> None:
    """Mixed with a share of the uniform soup; any other start is taken for each corner alike."""
    groups = ingredients.groups("tensor")
    losses = torch.tensor([[1.0, 0.5, 2.0], [3.0, 3.0, 0.1]])
    for init, share in (("best", 0.3), ("best:0.1", 0.1)):
        found = corner_starts(init, ingredients, groups, 0, losses).softmax(2)
        expected = (1 - share) * torch.eye(3)[[1, 2]] + share / 3
        torch.testing.assert_close(found, expected[:, None].expand_as(found))
    drawn = corner_starts("xavier", ingredients, groups, 5, losses)
    assert torch.equal(drawn[0], start("xavier", ingredients, groups, stream("start", 5)))
    assert not torch.equal(drawn[0], drawn[1])
    even = corner_starts("uniform", ingredients, groups, 0, losses)
    assert torch.equal(even, torch.zeros(2, len(groups), 3))
    for init, says in (("bset", "did you mean 'best'"), ("best:0", r"in \(0, 1\], not 0;")):
        with pytest.raises(SoupmergeError, match=says):
            corner_starts(init, ingredients, groups, 0, losses)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ("xavjer", "did you mean 'xavier'"),
        ("only", "unknown start 'only'; did you mean 'only:N'"),
        ("unifrom", "did you mean 'uniform'"),
        ("only:1:0", r"in \(0, 1\], not 0;"),
        ("only:1:-0.5", r"in \(0, 1\], not -0.5"),
        ("only:4", "names none of the 3"),
        ("only:0", "names none of the 3"),
        ("only:1:2", r"in \(0, 1\], not 2"),
        ("only:1:x", "not a number"),
        ("recipe:missing.json", "no such file"),
    ],
)
def test_starts_that_cannot_be_meant(ingredients: sm.Ingredients, settings: str, says: str) -> None:
    with pytest.raises(SoupmergeError, match=says):
        start(settings, ingredients, ingredients.groups("model"), torch.Generator())


def test_a_recipe_of_other_ingredients_is_no_start(
    ingredients: sm.Ingredients, tmp_path: Path
) -> None:
    recipe = sm.Recipe.of(sm.Ingredients(ingredients.checkpoints[::-1]), [0.2, 0.8, 0.0])
    (tmp_path / "recipe.json").write_text(json.dumps(recipe.to_json()))
    with pytest.raises(SoupmergeError, match="these are not its ingredients"):
        start(
            f"recipe:{tmp_path}/recipe.json",
            ingredients,
            ingredients.groups("model"),
            torch.Generator(),
        )
