"""A recipe says all that makes a soup again, tells of no folder, and cannot be meant otherwise."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import soupmerge as sm
from soupmerge.errors import InputError, NumericsError, UsageError
from soupmerge.weights.recipe import TOLERANCE, Source
from soupmerge.weights.recipe_files import read_recipe
from soupmerge.weights.saving import mix_to_file
from soupmerge.weights.selection import Selection

SOURCES = (Source("/home/me/a.safetensors", "0" * 64), Source("hf-hub:me/b@main", "1" * 64))
FULL = sm.Recipe(
    SOURCES,
    ("stem", "head"),
    ((0.25, 0.75), (1 / 3, 2 / 3)),
    by="block",
    buffers="base",
    base=1,
    origin="grid",
    selection=Selection({"x": 1}, frozenset({"y", "z"})),
    calibration={"data": {"ref": "folder:/home/me/cats", "sha256": "2"}, "seed": 3},
    dtype="float16",
    seen=({"by": "grid", "sketch": "whole:" + "0" * 12},),
)


def recipe(*rows: tuple[float, ...], **more: Any) -> sm.Recipe:
    given = {"groups": ("model", "head")[: len(rows)], **more}
    return sm.Recipe(SOURCES, weights=rows, **given)


# ---- what cannot be meant


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ((0.5,), "2 checkpoints, 1 coefficients"),
        ((0.2, 0.3, 0.5), "2 checkpoints, 3 coefficients"),
        (
            (0.5, 0.5 + 1.1 * TOLERANCE),
            "0.5, 0.500001 sum to 1.0000011, not 1; write exact fractions",
        ),
        ((0.5, 0.5 - 1.1 * TOLERANCE), "not 1; write exact fractions"),
        ((0.75, 0.75), "0.75, 0.75 sum to 1.5, not 1"),
        ((1.25, -0.25), "1.25, -0.25 are not all between 0 and 1; give --affine"),
        ((-1e-9, 1 + 1e-9), "are not all between 0 and 1; give --affine"),
        ((float("nan"), 0.5), "nan, 0.5 are not all finite"),
        ((float("inf"), -float("inf")), "are not all finite"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused_with_its_group(
    row: tuple[float, ...], words: str
) -> None:
    with pytest.raises(UsageError, match=f"^invalid coefficients: .*{words}"):
        recipe(row)
    with pytest.raises(UsageError, match=f"head: .*{words}"):
        recipe((0.5, 0.5), row, by="block")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"by": "blocks"}, "did you mean 'block'"),
        ({"groups": ()}, "0 groups, but 1 rows"),
        ({"groups": ("a", "b")}, "2 groups, but 1 rows"),
        ({"buffers": "mean"}, "unknown buffer policy 'mean'"),
        ({"dtype": "float31"}, "unknown dtype 'float31'; did you mean 'float32'"),
        ({"dtype": "int64"}, "unknown dtype 'int64'"),
        ({"base": 2}, "base ingredient 2 is not one of 2"),
        ({"base": -1}, "base ingredient -1 is not one of 2"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused(more: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        recipe((0.5, 0.5), **more)


def test_no_group_is_no_recipe_and_all_faults_are_listed_at_once() -> None:
    with pytest.raises(UsageError, match="no group of tensors"):
        sm.Recipe(SOURCES, (), ())
    with pytest.raises(UsageError) as caught:
        recipe((0.5, 0.6), (2.0, -1.0), by="x", buffers="y", base=7)
    assert len(caught.value.problems) == 5


@pytest.mark.parametrize("slack", [0.0, 0.9 * TOLERANCE, -0.9 * TOLERANCE])
def test_what_writing_as_decimals_costs_is_allowed(slack: float) -> None:
    assert recipe((0.5, 0.5 + slack)).weights == ((0.5, 0.5 + slack),)
    assert recipe((2.0, -1.0 + slack), affine=True).weights == ((2.0, -1.0 + slack),)
    assert recipe((0.0, 1.0)).mean_weights == (0.0, 1.0)


def test_affine_coefficients_extrapolate_and_never_make_a_variance_negative(
    tmp_path: Path,
) -> None:
    for i, variance in enumerate((1.0, 3.0)):
        state = {"w": torch.tensor([1.0 + 2 * i]), "bn.running_var": torch.tensor([variance])}
        sm.save(tmp_path / f"{i}.safetensors", state)
    ingredients = sm.load(tmp_path / "0.safetensors", tmp_path / "1.safetensors")
    assert sm.mix(ingredients, sm.Recipe.of(ingredients, [1.5, -0.5], affine=True))["w"].item() == 0
    with pytest.raises(NumericsError, match=r"bn.running_var: the soup's variance.*--buffers base"):
        sm.mix(ingredients, sm.Recipe.of(ingredients, [2.0, -1.0], affine=True))
    kept = sm.mix(
        ingredients, sm.Recipe.of(ingredients, [2.0, -1.0], affine=True, buffers="base", base=1)
    )
    assert kept["bn.running_var"].item() == 3


# ---- as text


def test_a_recipe_survives_its_text_and_is_written_as_the_format_says() -> None:
    summary = json.loads(json.dumps(FULL.to_json()))
    assert sm.Recipe.from_json(summary) == FULL
    assert summary == {
        "format": "soupmerge-recipe/1",
        "ingredients": [
            {"ref": "/home/me/a.safetensors", "sha256": "0" * 64},
            {"ref": "hf-hub:me/b@main", "sha256": "1" * 64},
        ],
        "groups": "block",
        "weights": {"stem": [0.25, 0.75], "head": [1 / 3, 2 / 3]},
        "buffers": {"policy": "base", "base": 1},
        "origin": "grid",
        "copied": {"x": 1},
        "skipped": ["y", "z"],
        "calibration": {"data": {"ref": "folder:/home/me/cats", "sha256": "2"}, "seed": 3},
        "dtype": "float16",
        "seen": [{"by": "grid", "sketch": "whole:000000000000"}],
    }
    plain = recipe((0.5, 0.5))
    needed = {"format", "ingredients", "groups", "weights", "buffers", "origin"}
    assert set(plain.to_json()) == needed
    affine = recipe((2.0, -1.0), affine=True)
    assert affine.to_json()["affine"] is True
    for one in (plain, affine):
        assert sm.Recipe.from_json(one.to_json()) == one
    bare = {k: v for k, v in plain.to_json().items() if k != "origin"}
    assert sm.Recipe.from_json(bare).origin == "mix"


def test_what_travels_tells_of_no_folder() -> None:
    portable = FULL.portable()
    text = json.dumps({**portable.to_json(), "ingredients": portable.to_json()["ingredients"][:1]})
    assert "/home" not in text
    assert "/" not in text.replace("soupmerge-recipe/1", "")
    assert [source.ref for source in portable.sources] == ["a.safetensors", "hf-hub:me/b@main"]
    assert [s.sha256 for s in portable.sources] == [s.sha256 for s in FULL.sources]
    assert portable.calibration == {"data": {"ref": "folder:cats", "sha256": "2"}, "seed": 3}
    assert portable.portable() == portable
    same = dataclasses.replace(portable, sources=FULL.sources, calibration=FULL.calibration)
    assert same == FULL
    for calibration in (None, {"seed": 3}, {"data": {"n": 1}}, {"data": "odd"}):
        odd = dataclasses.replace(FULL, calibration=calibration)
        assert odd.portable().calibration == calibration


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "soupmerge-recipe/2"}, "recipe/1.*use a newer soupmerge"),
        ({"format": "cake"}, "recipe/1.*give a recipe.json or a soup"),
        ({"format": 3}, "give a recipe.json or a soup"),
        ({"ingredients": None}, "is a damaged recipe"),
        ({"ingredients": [{"ref": 1, "sha256": ""}]}, "is a damaged recipe.*1 is not a string"),
        ({"ingredients": [{"ref": "a"}]}, "is a damaged recipe.*sha256"),
        ({"weights": {"stem": [0.5, 0.6], "head": [1, 0]}}, "stem: 0.5, 0.6 sum to 1.1"),
        ({"copied": {"x": 2}}, "copies from an ingredient that is not listed"),
        ({"copied": {"x": -1}}, "copies from an ingredient that is not listed"),
        ({"skipped": [3]}, "3 is not a string"),
        ({"seen": [3]}, "is a damaged recipe"),
        ({"dtype": 3}, "3 is not a string"),
    ],
)
def test_what_is_no_recipe_is_refused_by_name(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=rf"(?s)^here: .*{words}") as caught:
        sm.Recipe.from_json({**FULL.to_json(), **change}, where="here")
    assert "; " in str(caught.value)
    for value in (None, [], "text", 3):
        with pytest.raises(InputError, match="is not a recipe of format"):
            sm.Recipe.from_json(value)


# ---- of ingredients


def test_a_recipe_of_ingredients_is_theirs(ingredients: sm.Ingredients, tmp_path: Path) -> None:
    made = sm.Recipe.of(ingredients, (0.5, 0.25, 0.25), buffers="base", base=2)
    assert made.sources == tuple(Source(c.ref, c.sha256) for c in ingredients)
    assert (made.groups, made.weights, made.by) == (("model",), ((0.5, 0.25, 0.25),), "model")
    assert (made.buffers, made.base, made.origin, made.affine) == ("base", 2, "mix", False)
    assert sm.Recipe.uniform(ingredients, base=1).weights == ((1 / 3,) * 3,)
    assert sm.Recipe.uniform(ingredients, base=1).base == 1
    rows = [[1, 0, 0]] * len(ingredients.groups("block"))
    blocks = sm.Recipe.of(ingredients, rows, by="block")
    assert blocks.groups == tuple(ingredients.groups("block"))
    assert blocks.mean_weights == (1.0, 0.0, 0.0)
    rows[0] = [0, 1, 0]
    means = sm.Recipe.of(ingredients, rows, by="block").mean_weights
    assert means == pytest.approx((1 - 1 / len(rows), 1 / len(rows), 0))


def test_other_ingredients_than_the_recipe_s_are_refused_and_all_listed(
    ingredients: sm.Ingredients,
) -> None:
    made = sm.Recipe.uniform(ingredients)
    made.require_made_of(ingredients)
    two = sm.load(ingredients[0].ref, ingredients[1].ref)
    with pytest.raises(InputError, match="^here: has 3 ingredients, not 2; give a REF for each"):
        made.require_made_of(two, where="here")
    turned = sm.load(*(ingredients[k].ref for k in (0, 2, 1)))
    with pytest.raises(InputError, match="in the same order") as caught:
        made.require_made_of(turned, where="here")
    wanted = [
        f"{ingredients[j].ref} has sha256 {ingredients[j].sha256[:16]}…, "
        f"expected {ingredients[i].sha256[:16]}…"
        for i, j in ((1, 2), (2, 1))
    ]
    assert list(caught.value.problems) == wanted


def test_groups_of_another_network_are_refused(ingredients: sm.Ingredients, tmp_path: Path) -> None:
    made = sm.Recipe.of(ingredients, [[1, 0, 0]] * len(ingredients.groups("block")), by="block")
    other = dataclasses.replace(made, groups=tuple(f"x{g}" for g in made.groups))
    with pytest.raises(
        InputError, match=r"the recipe's groups .\d+. are not those of the files .\d+."
    ):
        sm.mix(ingredients, other)
    few = sm.load(*(ingredient.ref for ingredient in ingredients), exclude=["head.*"])
    with pytest.raises(InputError, match="the recipe copies or leaves out other tensors"):
        sm.mix(few, sm.Recipe.uniform(ingredients))


def test_a_recipe_is_read_from_its_file_and_from_its_soup(
    ingredients: sm.Ingredients, tmp_path: Path
) -> None:
    made = sm.Recipe.of(ingredients, [0.5, 0.25, 0.25], base=1)
    (tmp_path / "recipe.json").write_text(json.dumps(made.to_json()))
    assert read_recipe(tmp_path / "recipe.json") == made
    mix_to_file(tmp_path / "soup.safetensors", ingredients, made)
    assert read_recipe(tmp_path / "soup.safetensors") == made.portable()
    mix_to_file(tmp_path / "shards", ingredients, made, shard_bytes=3000)
    assert read_recipe(tmp_path / "shards") == made.portable()
    assert read_recipe(tmp_path / "shards" / "model.safetensors.index.json") == made.portable()
    with pytest.raises(InputError, match=r"a\.safetensors: is not a recipe"):
        read_recipe(ingredients[0].ref)
