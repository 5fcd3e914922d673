"""Defaults: library, commands, documents and paper agree; and what a run decides."""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest

import soupmerge as sm
from soupmerge.soups.learn.settings import FRONT_STEPS, Settings, decisions, paper_epochs
from soupmerge.types import quiet

DOCS = Path(__file__).parents[2] / "docs"


def options_of(command: str) -> dict[str, Any]:
    """Return what the options of *command* are if they are not given; None for nothing."""
    found = importlib.import_module(f"soupmerge.cli.{command}").command
    result = {p.name: p.default for p in found.params if p.param_type_name == "option"}
    return {n: None if type(v).__name__ == "Sentinel" else v for n, v in result.items()}


# Huang 2023, "Adversarial Learned Soups", sections 3 and 4; "open" is what it leaves open.
PAPER = {
    "by": ("tensor", "groups", "one softmax per averaged layer"),
    "epochs": (None, "epochs", "30 for three ingredients, 50 for five"),
    "optimiser": ("sgd", "optimiser", "SGD without momentum"),
    "lr": (10.0, "lr", "cosine, base learning rate 10"),
    "dropout": (0.8, "dropout", "each layer detached with p = 0.8"),
    "rescale": (False, "rescale", "open"),
    "init": ("xavier", "init", "Xavier, as uniform sticks"),
    "batch_size": (128, "batch_size", "128, as in its pretraining"),
    "buffers": ("base", "buffers", "those of one ingredient are kept"),
    "base": (0, "base", "open"),
    "batch_norm": ("eval", "batch_norm", "open"),
    "precision": ("fp32", "precision", "open"),
    "store": ("fp32", "store", "all checkpoints resident"),
    "place": ("auto", "place", "open"),
    "patience": (None, "patience", "open"),
}

OURS: dict[str, Any] = {
    "optimiser": "adam",
    "lr": None,
    "dropout": 0.0,
    "init": "best",
    "buffers": "average",
}
"""Defaults that are other than the paper's, on purpose; lr None is the optimiser's usual."""

OF_FRONTS: dict[str, Any] = {
    "family": "softmax-linear",
    "scalarisation": "sum",
    "corners": 0.3,
    "preferences": 1,
}
"""Settings that the paper does not have, because it learns a single soup."""

ONLY_IN_PYTHON = {"patience"}
"""Settings of `learn` that `front` does not take at the command line."""


def test_the_paper_is_followed_to_the_letter() -> None:
    paper = {name: value for name, (value, *_) in PAPER.items()}
    assert asdict(Settings.paper()) == {**paper, **OF_FRONTS}
    assert Settings.paper().rate == 10
    assert Settings.paper(lr=1.0, epochs=3) == replace(Settings.paper(), lr=1.0, epochs=3)


@pytest.mark.parametrize("name", [*PAPER, *OF_FRONTS])
def test_defaults_are_those_of_the_paper_or_other_on_purpose(name: str) -> None:
    """The same in Python and at the command line."""
    value, option = (OF_FRONTS[name], name) if name in OF_FRONTS else PAPER[name][:2]
    value = OURS.get(name, value)
    assert getattr(Settings(), name) == value
    # Options count ingredients from 1, and a flag that is not given is nothing.
    expected: Any = {"base": 1, "rescale": None}.get(name, value)
    for command in ("front",) if name in OF_FRONTS else ("learn", "front"):
        if command == "learn" or name not in ONLY_IN_PYTHON:
            assert options_of(command)[option] == expected
    assert {*PAPER, *OF_FRONTS} == {field.name for field in fields(Settings)}


def test_images_are_crafted_by_two_steps_and_judged_by_a_hundred() -> None:
    """Section 4: AutoPGD of 2 iterations to learn, of 100 to judge."""
    assert sm.against(sm.Linf(8 / 255)).describe()["steps"] == 2
    assert sm.APGD(sm.Linf(8 / 255)).steps == 100
    assert (options_of("learn")["attack_steps"], options_of("learn")["steps"]) == (2, 100)
    for search in ("grid", "greedy", "path", "search"):
        assert options_of(search)["steps"] == 100


@pytest.mark.parametrize(
    ("k", "epochs"), [(1, 30), (2, 30), (3, 30), (4, 40), (5, 50), (6, 50), (72, 50)]
)
def test_the_usual_length_is_proportional_to_the_ingredients(k: int, epochs: int) -> None:
    """Section 4: 30 epochs for three ingredients and 50 for five; it tried no more."""
    assert paper_epochs(k) == epochs


@pytest.mark.parametrize("batch_size", [1, 16, 64, 128, 1000])
@pytest.mark.parametrize("images", [1, 500, 9_000, 45_000, 10**6])
def test_a_front_takes_whole_epochs_of_about_600_steps(images: int, batch_size: int) -> None:
    settings = Settings(batch_size=batch_size)
    each, epochs = settings.steps_per_epoch(images), settings.epochs_for(3, images, objectives=2)
    assert (each - 1) * batch_size < images <= each * batch_size
    assert abs(epochs * each - FRONT_STEPS) <= each / 2 or (epochs, each > FRONT_STEPS) == (1, True)
    assert settings.epochs_for(3, images) == paper_epochs(3)
    given = replace(settings, epochs=7)
    assert {given.epochs_for(3, images, objectives=n) for n in (1, 2, 3)} == {7}


def test_the_documents_tell_the_defaults() -> None:
    assert f"make about {FRONT_STEPS} steps" in (DOCS / "fronts.md").read_text()
    text = (DOCS / "learned-soups.md").read_text()
    table = dict(re.findall(r"^\| ([a-z -]+) \| (.+) \|$", text, re.M))
    assert "`--groups tensor`" in table["coefficients"]
    paper, default = table["optimiser"].split(" | ")
    assert f"SGD, learning rate {Settings.paper().rate:g}, cosine to 0" in paper
    assert f"Adam, {Settings().rate:g}, cosine to 0" in default
    assert "Xavier" in table["start"].split(" | ")[0]
    assert "`--init best`" in table["start"].split(" | ")[1]
    assert f"probability {Settings.paper().dropout:g}" in table["detach dropout"]
    assert "`--buffers base`" in table["batch-norm statistics"]
    assert "30 epochs for three ingredients, 50 for five" in table["length"]
    assert "APGD, 2 steps" in table["attack"]


SEARCHES = {
    # Search → its command, and what the two call alike or not; sources in their documents.
    "grid": ("grid", {"step": (0.2, "0.2")}),
    "race": ("grid", {"step": (0.2, "0.2"), "goal": ("front", None), "seed": (0, 0)}),
    "greedy": ("greedy", {"orders": (0, 0), "prune": (False, None), "seed": (0, 0)}),
    "path": ("path", {"points": (11, 11), "beyond": (0.0, 0.0)}),
    "search": ("search", {"method": ("random", "random"), "n": (100, 100), "seed": (0, 0)}),
    "adapt": ("adapt", {"shots": (1000, 1000), "step": (0.2, "0.2"), "batch_size": (256, 256)}),
    "landscape": ("landscape", {"points": (15, 15), "margin": (0.2, 0.2)}),
    "barrier": ("check", {"points": (11, 11), "tolerance": (0.05, 0.05)}),
    "learn": ("learn", {"seed": (0, 0), "epochs": (None, None)}),
    "front": ("front", {"seed": (0, 0), "points": (11, 11)}),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_have_the_defaults_of_their_commands(name: str) -> None:
    """Step 0.2 is from Huang 2023, 1000 shots from Croce 2023, 11 points from WiSE-FT."""
    command, found = SEARCHES[name]
    typed = options_of(command)
    given = {n: p.default for n, p in inspect.signature(getattr(sm, name)).parameters.items()}
    for key, (ours, theirs) in found.items():
        assert given[key] == ours
        assert typed.get(key) == theirs
    if "buffers" in given:
        assert given["buffers"] in (sm.Buffers("average", 0), "average")
        assert typed["buffers"] == "average"
        assert typed.get("base", 1) == 1
    assert given["run"] == sm.Run(out=None, force=False, device="cpu", progress=quiet)


# ---- decisions

AVERAGE = {"buffers": "average"}


def test_every_decision_is_documented() -> None:
    text = (DOCS / "learned-soups.md").read_text()
    for decision in decisions(Settings.paper(), crafts=True, statistics=True, recalibrates=True):
        assert f"**{decision}**" in text


@pytest.mark.parametrize(
    ("settings", "about", "key", "says"),
    [
        (AVERAGE, {}, "statistics", "follow the coefficients .*differentiated$"),
        (AVERAGE, {"recalibrates": True}, "statistics", "differentiated; estimated anew at the"),
        ({"base": 2}, {}, "statistics", "ingredient 3 .*constant$"),
        ({**AVERAGE, "batch_norm": "batch"}, {}, "statistics", "constant in the gradient$"),
        ({"batch_norm": "batch"}, {}, "batch norm", "evaluation mode to craft; the batch's own"),
        ({}, {}, "batch norm", "soup's own statistics, to craft and to step$"),
        ({}, {}, "detach dropout", "at least one live group, no rescaling$"),
        ({"rescale": True}, {}, "detach dropout", "divided by 1 - p$"),
        ({}, {}, "attack", "held fixed"),
        ({}, {}, "xavier", r"a matrix \(1, K\) for each group"),
        ({}, {}, "optimiser", "sgd without weight decay"),
        ({"optimiser": "adam"}, {}, "optimiser", "adam without weight decay"),
        ({}, {}, "gradient", "of live groups alone"),
    ],
)
def test_decisions_are_those_of_the_settings(
    settings: dict[str, Any], about: dict[str, Any], key: str, says: str
) -> None:
    usual = {"crafts": True, "statistics": True, "recalibrates": False}
    found = decisions(Settings.paper(**settings), **{**usual, **about})
    assert re.search(says, found[key])


@pytest.mark.parametrize(
    ("settings", "about", "lacks"),
    [
        ({}, {"crafts": False}, {"attack"}),
        ({}, {"statistics": False}, {"batch norm", "statistics"}),
        ({"init": "uniform"}, {}, {"xavier"}),
        ({"dropout": 0.0}, {}, {"detach dropout"}),
    ],
)
def test_what_did_not_arise_was_not_decided(
    settings: dict[str, Any], about: dict[str, Any], lacks: set[str]
) -> None:
    usual = {"crafts": True, "statistics": True, "recalibrates": False}
    every = decisions(Settings.paper(), **usual)
    fewer = decisions(Settings.paper(**settings), **{**usual, **about})
    assert set(every) - set(fewer) == lacks
