"""Each closed set in `choices` is the set that its implementer knows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import soupmerge as sm
from soupmerge import binding, choices
from soupmerge.choices import MAKERS, ORIGINS
from soupmerge.errors import UsageError
from soupmerge.exports.folder import export
from soupmerge.figures import style
from soupmerge.robustness import ensembles, presets
from soupmerge.robustness.losses import loss_of
from soupmerge.soups.judge.entries import Entry
from soupmerge.soups.learn import stacks
from soupmerge.soups.search import simplex
from soupmerge.weights.recipe_files import read_recipe
from soupmerge.weights.saving import mix_to_file
from soupmerge.weights.selection import select
from soupmerge.weights.tensors import DTYPES

ROOT = Path(__file__).parents[2]


def _judge() -> sm.Benchmark:
    return sm.Benchmark(sm.data("digits", limit=8), name="val")


def _taught() -> sm.Images:
    return sm.data("digits", split="train", limit=8)


def _write_point(net: nn.Module, some: sm.Ingredients, out: Path) -> None:
    """Learn a front in the folder *out*, and write one of its points as a search would."""
    goals, settings = [sm.clean(), sm.against(sm.Linf(0.1))], sm.Settings(epochs=1)
    point = sm.front(net, some, _taught(), goals, settings=settings, run=sm.Run(out)).front.at(0.5)
    (out / "recipe.json").write_text(json.dumps(point.to_json()))
    mix_to_file(out / "soup.safetensors", some, point)


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
    "front": ("front", _write_point),
}
"""Function that writes soups → the origin that it writes, and a call that writes one."""


@pytest.mark.parametrize("writer", WRITERS)
def test_the_origin_of_a_soup_is_written_and_known_everywhere(
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
    with pytest.raises(UsageError, match="origin: unknown origin 'gird'; did you mean 'grid'"):
        sm.Recipe.uniform(ingredients, origin="gird")


def test_what_a_newer_soupmerge_made_can_be_read(ingredients: sm.Ingredients) -> None:
    newer = {**sm.Recipe.uniform(ingredients).to_json(), "origin": "annealing"}
    assert sm.Recipe.from_json(newer).origin == "annealing"


def test_the_documents_name_every_mark() -> None:
    text = (ROOT / "docs" / "reports.md").read_text()
    for maker, label in MAKERS.items():
        assert f"| {label} | " in text, maker


# ---- Sets whose implementer has a table of its own: the names are the same.

TABLES: dict[str, tuple[Any, Any]] = {
    "figure formats": (choices.FIGURE_FORMATS, style.METADATA),
    "dtypes": (choices.FLOATS, [d.name for d in DTYPES.values() if d.is_floating_point]),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_set_has_the_names_of_its_implementer(name: str) -> None:
    listed, implemented = TABLES[name]
    assert len(set(listed)) == len(listed)
    assert set(listed) == set(implemented)


# ---- Sets whose implementer has branches: every name works, any other is refused.

SMALL = sm.Linf(0.1)


def _search(method: str) -> None:
    simplex.check(method, 100)


def _place(place: str, store: str = "fp32") -> None:
    ingredients: Any = type("Three", (), {"infos": {}, "__len__": lambda self: 3})()
    stacks.plan(ingredients, place=place, store=store)


BRANCHES: dict[str, tuple[Any, Callable[[str], Any]]] = {
    "norms": (choices.NORMS, lambda name: sm.Threat(name, 0.1).project(*torch.rand(2, 1, 3, 2, 2))),
    "AutoAttack versions": (
        [v for v in choices.AUTOATTACK_VERSIONS if v != "custom"],
        lambda name: sm.AutoAttack(SMALL, version=name).stages,
    ),
    "precisions": (
        choices.PRECISIONS,
        lambda name: binding.cast(nn.Flatten(), name, torch.device("cpu"))(torch.rand(1, 2)),
    ),
    "objectives": (choices.OBJECTIVES, lambda name: sm.against(SMALL, form=name)),
    "batch-norm modes": (choices.BATCH_NORM_MODES, lambda name: sm.Settings(batch_norm=name)),
    "optimisers": (list(choices.OPTIMISERS), lambda name: sm.Settings(optimiser=name)),
    "families": (list(choices.FAMILIES), lambda name: sm.Settings(family=name)),
    "scalarisations": (
        list(choices.SCALARISATIONS),
        lambda name: sm.Settings(scalarisation=name),
    ),
    "search methods": (list(choices.SEARCH_METHODS), _search),
    "averages": (list(choices.AVERAGES), lambda name: ensembles.Ensemble([nn.Flatten()] * 2, name)),
    "attacks": (choices.attack_names(), lambda name: presets.preset(name, SMALL)),
    "losses": (list(choices.LOSSES), loss_of),
    "augmentations": (list(choices.AUGMENTATIONS), lambda name: sm.Schedule(augment=name)),
    "places": (choices.PLACES, _place),
    "stores": (choices.STORES, lambda name: _place("host", name)),
}


@pytest.mark.parametrize("name", BRANCHES)
def test_every_name_is_taken_and_a_misspelled_one_is_not(name: str) -> None:
    names, use = BRANCHES[name]
    for word in names:
        use(word)
    with pytest.raises(UsageError, match=rf"\b{names[0]}\b"):
        use(f"{names[0]}x")


def test_buffer_policies_dtypes_heads_and_goals_of_races_are_those_listed(
    net: nn.Module, ingredients: sm.Ingredients
) -> None:
    uses: list[tuple[Any, Callable[[str], Any]]] = [
        (choices.BUFFER_POLICIES, lambda name: sm.Recipe.uniform(ingredients, buffers=name)),
        (choices.FLOATS, lambda name: sm.Recipe.uniform(ingredients, dtype=name)),
        (choices.HEADS, lambda name: select(tuple(ingredients), head=name)),
        (choices.RACE_GOALS, lambda name: sm.race(net, ingredients, _judge(), step=1, goal=name)),
    ]
    for names, use in uses:
        for word in names:
            use(word)
        with pytest.raises(UsageError, match=rf"\b{names[0]}\b"):
            use(f"{names[0]}x")


@pytest.mark.parametrize(
    "table",
    [
        *(choices.ATTACKS, choices.LOSSES, choices.AUGMENTATIONS, choices.AVERAGES),
        *(choices.SEARCH_METHODS, choices.NETWORKS),
        *(choices.FAMILIES, choices.SCALARISATIONS, choices.OPTIMISERS),
    ],
    ids=[
        *("attacks", "losses", "augmentations", "averages", "search methods", "networks"),
        *("families", "scalarisations", "optimisers"),
    ],
)
def test_every_place_in_a_table_exists(table: Any) -> None:
    for name, entry in table.items():
        place = getattr(entry, "place", entry).partition("?")[0]
        assert callable(choices.implementation({name: place}, name, "thing"))


def test_wide_resnets_have_the_sizes_in_their_names() -> None:
    for name, entry in choices.NETWORKS.items():
        if found := re.fullmatch(r"(?:dm-)?wrn-(\d+)-(\d+)", name):
            assert entry.place.endswith(f"?depth={found[1]}&widen={found[2]}")


def test_networks_are_used_with_images_of_their_data_sets() -> None:
    sides = {name: entry.side for name, entry in choices.NETWORKS.items()}
    assert sides.pop("digits-cnn") == 8
    large = {name for name in sides if "convstem" in name or "xcit" in name}
    assert all(side == (224 if name in large else 32) for name, side in sides.items())


def test_names_of_closed_sets_cost_no_torch() -> None:
    code = "import sys, soupmerge.choices; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
