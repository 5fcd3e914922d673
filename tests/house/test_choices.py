"""Closed sets that several rooms share: each has one home, and all who need a member know it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import soupmerge as sm
from soupmerge import choices
from soupmerge.choices import MAKERS, ORIGINS
from soupmerge.errors import UsageError
from soupmerge.exports.folder import export
from soupmerge.robustness import autoattack, ensembles, objectives, presets, threats
from soupmerge.soups.judge.entries import Entry
from soupmerge.training import augment
from soupmerge.weights.recipe import read_recipe

ROOT = Path(__file__).parents[2]


def _judge() -> sm.Benchmark:
    return sm.Benchmark(sm.data("digits", limit=8), name="val")


def _taught() -> sm.Images:
    return sm.data("digits", split="train", limit=8)


WRITERS: dict[str, tuple[str, Callable[..., Any]]] = {
    "grid": (
        "grid",
        lambda net, ingredients, out: sm.grid(net, ingredients, _judge(), step=1, run=sm.Run(out)),
    ),
    "race": (
        "grid",
        lambda net, ingredients, out: sm.race(net, ingredients, _judge(), step=1, run=sm.Run(out)),
    ),
    "greedy": (
        "greedy",
        lambda net, ingredients, out: sm.greedy(net, ingredients, _judge(), run=sm.Run(out)),
    ),
    "path": (
        "path",
        lambda net, some, out: sm.path(net, some, _judge(), points=3, run=sm.Run(out)),
    ),
    "search": (
        "search",
        lambda net, ingredients, out: sm.search(net, ingredients, _judge(), n=2, run=sm.Run(out)),
    ),
    "adapt": (
        "adapt",
        lambda net, ingredients, out: sm.adapt(
            net, ingredients, [sm.data("digits", limit=8)], shots=4, step=1, run=sm.Run(out)
        ),
    ),
    "learn": (
        "learn",
        lambda net, ingredients, out: sm.learn(
            net, ingredients, _taught(), sm.against(None), epochs=1, run=sm.Run(out)
        ),
    ),
}
"""Who writes soups → the origin they write, and how they are made to."""


@pytest.mark.parametrize("writer", WRITERS)
def test_who_writes_a_soup_says_so_and_everybody_knows_it(
    net: nn.Module, ingredients: sm.Ingredients, tmp_path: Path, writer: str
) -> None:
    origin, write = WRITERS[writer]
    some = sm.load(*(ingredient.ref for ingredient in ingredients[:2]))
    write(net, some, tmp_path / "run")
    soup = tmp_path / "run" / "soup.safetensors"
    assert read_recipe(soup).origin == read_recipe(soup.with_name("recipe.json")).origin == origin
    assert Entry(sm.load(soup)[0], net).describe()["made by"] == origin
    assert origin in MAKERS
    export(tmp_path / "card", soup)
    assert ORIGINS[origin].sentence in (tmp_path / "card" / "README.md").read_text()


def test_every_origin_has_a_writer() -> None:
    assert {origin for origin, _ in WRITERS.values()} | {sm.Recipe.origin} == set(ORIGINS)


def test_nobody_can_write_an_origin_that_no_figure_knows(ingredients: sm.Ingredients) -> None:
    with pytest.raises(UsageError, match="origin: no origin 'gird'; did you mean 'grid'"):
        sm.Recipe.uniform(ingredients, origin="gird")


def test_what_a_newer_soupmerge_made_can_be_read(ingredients: sm.Ingredients) -> None:
    told = {**sm.Recipe.uniform(ingredients).to_json(), "origin": "annealing"}
    assert sm.Recipe.from_json(told).origin == "annealing"


def test_the_documents_name_every_mark() -> None:
    text = (ROOT / "docs" / "reports.md").read_text()
    for maker, label in MAKERS.items():
        assert f"| {label} | " in text, maker


def test_a_table_of_words_lists_what_its_room_implements() -> None:
    assert set(choices.NORMS) == set(threats.ORDERS)
    assert set(choices.ATTACKS) == set(presets.PRESETS)
    assert set(choices.AUGMENTATIONS) == set(augment.AUGMENTS)
    assert set(choices.AVERAGES) == set(ensembles.AVERAGES)
    assert set(choices.OBJECTIVES) == {"mix", *objectives.FORMS}
    versions = choices.AUTOATTACK_VERSIONS.values()
    assert all(set(attacks) <= set(autoattack.ATTACKS) for attacks in versions)
