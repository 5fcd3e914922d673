"""Fronts as values and files: exact, the same bytes for one preference; and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import soupmerge as sm
from soupmerge.choices import FAMILIES, implementation
from soupmerge.errors import InputError, SoupmergeError, UsageError
from soupmerge.sources.refs import opened
from soupmerge.weights.front import Front
from soupmerge.weights.recipe import Source
from soupmerge.weights.recipe_files import read_front, read_recipe

Typed = Callable[..., Any]
TWO, THREE = ("clean", "linf:8/255"), ("clean", "linf:8/255", "l2:0.5")
SOURCES = (Source("a.pt", "0" * 64), Source("in/b.pt", "1" * 64))
RECIPE = sm.Recipe(SOURCES, ("features", "head"), ((0.5, 0.5), (0.5, 0.5)), by="block")


def front_of(
    objectives: tuple[str, ...] = TWO, family: str = "softmax-linear", recipe: sm.Recipe = RECIPE
) -> Front:
    """Return a front of random float32 parameters, none of which is 0."""
    draw = np.random.default_rng(0)
    shape = (len(objectives), len(recipe.groups), len(recipe.sources))
    start = implementation(FAMILIES, family, "family")().start(draw.normal(size=shape))
    made = {n: (p + 0.1 * draw.normal(size=p.shape)).astype("float32") for n, p in start.items()}
    return Front(objectives, family, made, recipe)


# ---- values


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("objectives", [TWO, THREE])
def test_a_front_survives_json_to_the_bit(family: str, objectives: tuple[str, ...]) -> None:
    front = front_of(objectives, family)
    again = Front.from_json(json.loads(json.dumps(front.to_json())))
    assert again.to_json() == front.to_json()
    assert again.sha256 == front.sha256
    assert all(np.array_equal(p, again.parameters[n]) for n, p in front.parameters.items())
    for name, p in again.parameters.items():
        assert (p.dtype, p.shape) == (np.float32, front.parameters[name].shape)
    share = 1 / len(objectives)
    at = [share] * (len(objectives) - 1)
    preference = [*at, 1 - sum(at)]
    assert again.at(preference) == front.at(preference)
    assert again.at(preference).affine is (family == "affine")


@pytest.mark.parametrize(
    "same",
    [0.6, "0.6", " 0.6 ", "3/5", (0.4, 0.6), [0.4, "3/5"], "0.4,0.6", {"linf:8/255": 0.6}],
    ids=str,
)
def test_a_preference_can_be_written_in_many_ways(same: Any) -> None:
    if isinstance(same, dict):
        same = {**same, "clean": 0.4}
    front = front_of()
    recipe = front.at(same)
    assert recipe == front.at(0.6)
    assert recipe.front == {"sha256": front.sha256, "at": {"clean": 0.4, "linf:8/255": 0.6}}
    assert (recipe.origin, recipe.sources, recipe.by) == ("front", SOURCES, "block")


@given(st.integers(0, 1000))
def test_between_two_ends_coefficients_are_the_softmax_of_the_line(n: int) -> None:
    front, share = front_of(), n / 1000
    ends = front.parameters["logits"].astype(np.float64)
    powers = np.exp((1 - share) * ends[0] + share * ends[1])
    expected = powers / powers.sum(1, keepdims=True)
    np.testing.assert_allclose(front.at(share).weights, expected, rtol=1e-12)


def test_the_hash_depends_on_everything_but_folders() -> None:
    front = front_of()
    moved = replace(RECIPE, sources=(SOURCES[0], Source("elsewhere/b.pt", "1" * 64)))
    assert replace(front, recipe=moved).sha256 == front.sha256
    bent = {"logits": front.parameters["logits"] + np.float32(1e-6)}
    others = [
        replace(front, objectives=("clean", "linf:4/255")),
        replace(front, parameters=bent),
        replace(front, recipe=replace(RECIPE, buffers="base")),
        replace(front, recipe=replace(RECIPE, sources=SOURCES[::-1])),
    ]
    assert len({front.sha256, *(other.sha256 for other in others)}) == 5


@pytest.mark.parametrize(
    ("preference", "says"),
    [
        (-0.1, "'-0.1' is not a preference between clean, linf:8/255; give a share of linf:8/255"),
        (1.1, "not a preference"),
        ("0.5,0.6", "2 shares that sum to 1"),
        ((1.5, -0.5), "not a preference"),
        ((0.2, 0.3, 0.5), "not a preference"),
        ("", "a front holds many soups; give --at 0.6, say, or write front.json@0.6"),
        ("half", "'half' is not a number"),
        (float("nan"), "'nan' is not a number"),
        ({"linf:8/25": 0.6, "clean": 0.4}, "no objective 'linf:8/25'; did you mean 'linf:8/255'"),
        ({"linf:8/255": 0.6}, "not a preference"),
    ],
)
def test_what_is_no_preference_is_refused(preference: Any, says: str) -> None:
    with pytest.raises(UsageError, match="^at: ") as caught:
        front_of().at(preference)
    assert says in str(caught.value)


def test_three_objectives_need_three_shares() -> None:
    with pytest.raises(UsageError, match="give 3 shares that sum to 1"):
        front_of(THREE).at(0.5)
    assert front_of(THREE).at("0.2,0.3,0.5") == front_of(THREE).at(
        {"clean": 0.2, "l2:0.5": 0.5, "linf:8/255": 0.3}
    )


# ---- files


def damaged(**changes: Any) -> dict[str, Any]:
    return {**front_of().to_json(), **changes}


DAMAGE: dict[str, tuple[Any, str]] = {
    "another format": ({"format": "soupmerge-recipe/1"}, "is not a front of format"),
    "a newer one": ({"format": "soupmerge-front/2"}, "use a newer soupmerge"),
    "a list": ([], "give the front.json of soupmerge front"),
    "an unknown key": (damaged(extra=1), "unknown key 'extra'"),
    "no recipe": ({"format": "soupmerge-front/1", "family": "affine"}, "is damaged"),
    "one objective": (damaged(objectives=["clean"]), "two or more distinct objectives"),
    "a repeated one": (damaged(objectives=["clean"] * 2), "not clean, clean"),
    "no such family": (damaged(family="softmax-lienar"), "unknown family 'softmax-lienar'"),
    "a shape": (damaged(parameters={"logits": [[[0.0]]]}), "parameters of the shapes"),
    "another parameter": (damaged(parameters={"rows": [0.0]}), "parameters of the shapes"),
    "NaN": (damaged(parameters={"logits": [[[float("nan")] * 2] * 2] * 2}), "NaN or Inf"),
    "a word": (damaged(parameters={"logits": "many"}), "is damaged"),
    "a ragged table": (damaged(parameters={"logits": [[0.0], [0.0, 1.0]]}), "is damaged"),
    "a damaged recipe": (damaged(recipe={"format": "soupmerge-recipe/1"}), "is a damaged recipe"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_file_that_holds_no_front_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    value, says = DAMAGE[name]
    file = tmp_path / "front.json"
    file.write_text(json.dumps(value))
    with pytest.raises(InputError) as caught:
        read_front(file)
    message = str(caught.value)
    assert message.startswith(f"{file}: ")
    assert message.count(str(file)) == 1
    assert len(message.split("; ")) < 4
    assert says in message


def test_points_are_recipes_and_recipes_have_no_points(tmp_path: Path) -> None:
    front, file, plain = front_of(), tmp_path / "front.json", tmp_path / "recipe.json"
    file.write_text(json.dumps(front.to_json()))
    plain.write_text(json.dumps(RECIPE.to_json()))
    assert read_recipe(f"{file}@0.6") == read_front(tmp_path).at(0.6)
    for ref, says in (
        (f"{file}", "a front holds many soups"),
        (f"{file}@1.5", "not a preference"),
        (f"{plain}@0.6", "is not a front, so it has no point '0.6'"),
        (f"{tmp_path}/missing.json@0.6", "no such file"),
    ):
        with pytest.raises(SoupmergeError, match=says):
            read_recipe(ref)


# ---- soups of fronts


def write_front(ingredients: sm.Ingredients, run: Path, family: str = "softmax-linear") -> Front:
    """Write a front of *ingredients* into the folder *run*."""
    run.mkdir()
    recipe = sm.Recipe.of(
        ingredients, [[1 / 3] * 3] * len(ingredients.groups("module")), by="module"
    )
    front = front_of(family=family, recipe=recipe)
    (run / "front.json").write_text(json.dumps(front.to_json()))
    return front


@pytest.mark.parametrize("family", FAMILIES)
def test_a_point_in_memory_is_the_file_that_mix_writes(
    ingredients: sm.Ingredients, tmp_path: Path, soupmerge: Typed, family: str
) -> None:
    """The same hash, tensors and notes: the preference, and the hash of the front."""
    front = write_front(ingredients, tmp_path / "run", family)
    file, out = tmp_path / "run" / "front.json", tmp_path / "soup.safetensors"
    result = soupmerge("mix", "--recipe", file, "--at", 0.6, "-o", out, "--json")
    assert result.status == 0, result.err
    soup, point = sm.load(out)[0], opened(f"{file}@0.6")
    assert point.sha256 == soup.sha256 == json.loads(result.out)["sha256"]
    assert point.notes_of_soupmerge == soup.notes_of_soupmerge
    assert (point.ref, point.model) == (f"{file}@0.6", "digits-cnn?width=4")
    assert list(point.infos) == list(soup.infos)
    assert all(torch.equal(point[name], soup[name]) for name in soup)
    expected = {"sha256": front.sha256, "at": {"clean": 0.4, "linf:8/255": 0.6}}
    assert read_recipe(out).front == expected
    state = sm.mix(ingredients, front.at("3/5"))
    assert all(torch.equal(soup[name], state[name]) for name in state)
    again = tmp_path / "again.safetensors"
    assert soupmerge("mix", "--recipe", f"{file}@0.4,0.6", "-o", again).status == 0
    assert again.read_bytes() == out.read_bytes()
    third = tmp_path / "third.safetensors"
    assert soupmerge("mix", "--recipe", out, "-o", third).status == 0
    assert third.read_bytes() == out.read_bytes()


def test_two_points_of_a_front_are_two_ingredients(
    ingredients: sm.Ingredients, tmp_path: Path
) -> None:
    """Their soup is that of the mean rows; only a point that is given twice is warned of."""
    front = write_front(ingredients, tmp_path / "run", "softmax-linear")
    file = tmp_path / "run" / "front.json"
    ends = sm.load(f"{file}@0", f"{file}@1")
    mean = (np.array(front.at(0).weights) + np.array(front.at(1).weights)) / 2
    expected = sm.mix(ingredients, replace(front.at(0), weights=tuple(map(tuple, mean.tolist()))))
    for name, tensor in sm.mix(ends, sm.Recipe.uniform(ends)).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)
    with pytest.warns(UserWarning, match="the same file is given more than once"):
        sm.load(f"{file}@1", f"{file}@1")


def test_a_recipe_is_a_checkpoint_too(ingredients: sm.Ingredients, tmp_path: Path) -> None:
    """With empty tensors and integers, which have no coefficients."""
    odd = {"none": torch.zeros(0, 3), "count": torch.tensor(3), "half": torch.ones(2).bfloat16()}
    sm.save(tmp_path / "x.safetensors", odd)
    sm.save(tmp_path / "y.safetensors", {**odd, "half": 3 * odd["half"]})
    pair = sm.load(tmp_path / "x.safetensors", tmp_path / "y.safetensors")
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(sm.Recipe.uniform(pair).to_json()))
    point = opened(file)
    assert all(torch.equal(point[name], odd[name]) for name in ("none", "count"))
    assert torch.equal(point["half"], 2 * odd["half"])


def test_commands_take_points(
    ingredients: sm.Ingredients, tmp_path: Path, soupmerge: Typed
) -> None:
    front = write_front(ingredients, tmp_path / "run")
    file, few = tmp_path / "run" / "front.json", ("--data", "digits", "--limit", 20)
    judged = soupmerge("eval", file, ingredients[0].ref, "--at", "0,0.6", *few, "--json")
    reports = json.loads(judged.out)["reports"]
    names = [f"{file}@0", f"{file}@0.6", ingredients[0].ref]
    assert [report["model"] for report in reports] == names
    net = sm.model(like=ingredients)
    images = sm.Benchmark(sm.data("digits", split="test", limit=20))
    for share, report in zip((0, 0.6), reports, strict=False):
        expected = images(sm.bind(net, sm.mix(ingredients, front.at(share))))
        assert report["metrics"]["clean"]["correct"] == expected.correct("clean")
    exported = soupmerge("export", file, "--at", 0.6, "-o", tmp_path / "card", "--json")
    assert exported.status == 0, exported.err
    assert read_recipe(tmp_path / "card" / "model.safetensors").front == front.at(0.6).front
    learned = soupmerge(
        *("learn", *(i.ref for i in ingredients), *few, "--eps", 0, "--epochs", 1),
        *("--lr", "1e-9", "--groups", "module", "--init", f"recipe:{file}@0.6"),
        *("-o", tmp_path / "learned"),
    )
    assert learned.status == 0, learned.err
    start = 0.95 * np.array(front.at(0.6).weights) + 0.05 / 3
    found = read_recipe(tmp_path / "learned" / "recipe.json").weights
    np.testing.assert_allclose(found, start, atol=1e-5)


@pytest.mark.parametrize(
    ("line", "status", "says"),
    [
        ("mix --recipe {front} -o out.safetensors", 2, "give --at 0.6, say"),
        ("mix --recipe {front} --at 2 -o out.safetensors", 2, "not a preference"),
        ("mix a.safetensors -w 1 --at 0.5 -o out.safetensors", 2, "--at: needs a front"),
        ("eval {front} --data digits", 2, "give --at 0.6, say"),
        ("eval {front} --at 0,2 --data digits", 2, "not a preference"),
        ("eval {soup} --at 0.5 --data digits", 2, "--at: no front is given"),
        ("export {soup} --at 0.5 -o out", 2, "a.safetensors is not a front"),
        ("mix --recipe {soup} --at 0.5 -o out.safetensors", 2, "is not a front"),
        ("mix --recipe {front}@0.3 --at 0.5 -o out.safetensors", 2, "names a point already"),
    ],
)
def test_points_that_cannot_be_meant(
    ingredients: sm.Ingredients,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    soupmerge: Typed,
    line: str,
    status: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_front(ingredients, tmp_path / "run")
    words = line.format(front="run/front.json", soup=ingredients[0].ref).split()
    result = soupmerge(*words)
    assert (result.status, says in result.err) == (status, True), result.err
