"""What --only, --exclude and --head leave out is one ingredient's, in every command alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import soupmerge as sm
from soupmerge.soups.learn.soup import LearnedSoup
from soupmerge.storage.journal import Journal
from soupmerge.weights.front import recipe_at
from tests.shared import Outcome, in_float64

Typed = Callable[..., Outcome]

SELECTIONS: dict[str, dict[str, Any]] = {
    "a layer": {"exclude": ["features.0.*"]},
    "statistics": {"exclude": ["*.running_mean", "*.running_var"]},
    "one variance": {"exclude": ["features.1.running_var"], "base": 2},
    "all but weights": {"only": ["*.weight"], "base": 1},
    "all but a block": {"only": ["features.0.*", "features.1.*"]},
    "all but a norm's parameters": {"only": ["features.1.weight", "features.1.bias"], "base": 1},
    "the head of the base": {"head": "base", "base": 1},
    "the head of the first": {"head": "first", "base": 2},
}


def chosen(ingredients: sm.Ingredients, settings: dict[str, Any]) -> sm.Ingredients:
    return sm.load(*(ingredient.ref for ingredient in ingredients), **settings)


@pytest.mark.parametrize("settings", SELECTIONS.values(), ids=SELECTIONS)
@pytest.mark.parametrize("buffers", ["average", "base"])
def test_what_is_learned_is_what_its_recipe_mixes(
    ingredients: sm.Ingredients, net: nn.Module, settings: dict[str, Any], buffers: str
) -> None:
    """Also where counters come from another ingredient than what is left out."""
    few = chosen(ingredients, settings)
    soup = LearnedSoup(net, few, by="module", buffers=buffers, base=0)
    logits = torch.randn(len(soup.groups), 3, generator=torch.Generator().manual_seed(0))
    parameters = {"logits": logits[None].numpy()}
    recipe = recipe_at(soup.recipe(), "softmax-linear", parameters, (1.0,))
    mixed = sm.mix(few, recipe)
    at_alpha, whole = soup.mix(logits.softmax(1)), soup.weights(logits.softmax(1))
    assert at_alpha.keys() == whole.keys() == mixed.keys()
    rows = recipe.rows_by_tensor(few)
    for name, tensor in mixed.items():
        torch.testing.assert_close(at_alpha[name], tensor, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(whole[name], tensor, rtol=1e-5, atol=1e-6)
        if name in few.selection.copied:
            source = few.selection.copied[name]
            assert rows[name] == tuple(float(k == source) for k in range(3))
            assert torch.equal(at_alpha[name], ingredients[source][name])


@pytest.mark.parametrize("settings", SELECTIONS.values(), ids=SELECTIONS)
def test_what_is_left_out_has_neither_coefficients_nor_a_gradient(
    ingredients: sm.Ingredients, net: nn.Module, tmp_path: Path, settings: dict[str, Any]
) -> None:
    few = chosen(in_float64(ingredients, tmp_path / "wide"), settings)
    left_out = few.selection.copied.keys()
    soup = LearnedSoup(sm.bind(net, ingredients[0]).double(), few, by="tensor")
    assert set(soup.groups) == set(ingredients.mixed) - left_out
    generator = torch.Generator().manual_seed(0)
    shape = len(soup.groups), 3
    logits = torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
    x = torch.rand(16, 1, 8, 8, generator=generator, dtype=torch.float64)
    y = torch.randint(10, (16,), generator=generator)

    def loss_of(theta: dict[str, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(soup.classifier(theta)(x), y)

    alpha, live = logits.softmax(1), torch.ones(len(logits), dtype=torch.bool)
    (expected,) = torch.autograd.grad(loss_of(soup.weights(alpha)), alpha, retain_graph=True)
    at_alpha = soup.mix(alpha)
    leaves = soup.leaves(live, at_alpha)
    assert not left_out & leaves.keys()
    found = torch.autograd.grad(loss_of(soup.substitute(leaves, at_alpha)), list(leaves.values()))
    gradient = soup.gradient(dict(zip(leaves, found, strict=True)), live, at_alpha)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-13)
    assert float(gradient.abs().max()) > 1e-6


def test_a_head_that_fits_one_ingredient_alone_can_be_left_out_of_learning(
    net: nn.Module, ingredients: sm.Ingredients, tmp_path: Path
) -> None:
    wide = {n: t[:7] if n.startswith("head.") else t for n, t in ingredients[0].items()}
    sm.save(tmp_path / "seven.safetensors", wide)
    few = sm.load(tmp_path / "seven.safetensors", ingredients[1].ref, head="base", base=1)
    soup = LearnedSoup(net, few, base=1)
    at_alpha = soup.mix(torch.full((len(soup.groups), 2), 0.5))
    assert torch.equal(at_alpha["head.weight"], ingredients[1]["head.weight"])


DATA = "--data digits --limit 16"
COMMANDS = {
    "grid": f"grid {{refs}} --step 1 {DATA}",
    "race": f"grid {{refs}} --step 1 --race {DATA}",
    "greedy": f"greedy {{refs}} {DATA}",
    "path": f"path {{two}} --points 3 {DATA}",
    "search": f"search {{refs}} -n 3 {DATA}",
    "adapt": f"adapt {{refs}} --step 1 --shots 4 {DATA}",
    "learn": f"learn {{refs}} --eps 0 --epochs 1 --augment none --groups module {DATA}",
}


@pytest.mark.parametrize("line", COMMANDS.values(), ids=COMMANDS)
def test_every_command_leaves_out_what_mix_does(
    ingredients: sm.Ingredients, tmp_path: Path, soupmerge: Typed, line: str
) -> None:
    refs = [ingredient.ref for ingredient in ingredients]
    words = line.format(refs=" ".join(refs), two=" ".join(refs[:2])).split()
    options, base = ["--only", "features.*", "--exclude", "features.1.*", "--head", "first"], 0
    if words[0] != "adapt":  # whose base is the first
        options, base = [*options[:4], "--base", "2"], 1
    out = tmp_path / "run"
    ended = soupmerge(*words, *options, "-o", out)
    assert ended.status == 0, ended
    left_out = {n for n in ingredients.infos if not n.startswith("features.") or "features.1." in n}
    assert 0 < len(left_out) < len(ingredients.infos)
    soup = sm.load(out / "soup.safetensors")[0]
    for name in left_out:
        assert torch.equal(soup[name], ingredients[base][name]), name
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["copied"] == dict.fromkeys(sorted(left_out), base)
    again = tmp_path / "again.safetensors"
    assert soupmerge("mix", "--recipe", out / "recipe.json", "-o", again).status == 0
    assert again.read_bytes() == (out / "soup.safetensors").read_bytes()
    other = soupmerge(*words, "-o", out)
    assert other.status == 2
    assert "selection" in other.err


def test_a_landscape_and_barriers_leave_out_what_mix_does(
    ingredients: sm.Ingredients, tmp_path: Path, soupmerge: Typed
) -> None:
    """Of networks that differ in their heads alone, all soups without the heads are one."""
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for i, path in enumerate(paths):
        state = {
            n: ingredients[i][n] if n.startswith("head.") else t for n, t in ingredients[0].items()
        }
        draw = torch.Generator().manual_seed(i)
        first = state["features.0.weight"]
        state["features.0.weight"] = first + 1e-3 * torch.randn(first.shape, generator=draw)
        sm.save(path, state, model=ingredients.model)
    options = ("--exclude", "head.*", "--data", "digits", "--limit", 40)
    shown = ("landscape", *paths, "--points", 3, *options, "-o", tmp_path / "plane")
    assert soupmerge(*shown).status == 0
    found = Journal(tmp_path / "plane" / "trials.jsonl").records
    losses = [record["metrics"]["clean"]["loss"] for record in found if "metrics" in record]
    assert losses
    assert max(losses) - min(losses) < 0.05
    checked = ("check", *paths[:2], "--points", 3, *options, "-o", tmp_path / "check")
    assert soupmerge(*checked).status == 0
    (barrier,) = json.loads((tmp_path / "check" / "barriers.json").read_text())["barriers"]
    points = [point["loss"] for point in barrier["points"]]
    assert max(points) - min(points) < 0.05
    for words in (shown, checked):
        without = [word for word in words if word not in ("--exclude", "head.*")]
        assert soupmerge(*without).status == 2
