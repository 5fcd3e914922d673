"""Defaults: library, commands, documents and paper agree; and what a run decides."""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

import soupmerge as sm
from soupmerge.soups.learn.settings import Settings, decisions, usual_epochs
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
    "lr": (10.0, "lr", "SGD, cosine, base learning rate 10"),
    "dropout": (0.8, "dropout", "each layer detached with p = 0.8"),
    "rescale": (False, "rescale", "open"),
    "init": ("xavier", "init", "Xavier, as uniform sticks"),
    "batch_size": (128, "batch_size", "128, as in its pretraining"),
    "buffers": ("average", "buffers", "open here: the paper keeps those of one ingredient"),
    "base": (0, "base", "open"),
    "batch_norm": ("eval", "batch_norm", "open"),
    "precision": ("fp32", "precision", "open"),
    "store": ("fp32", "store", "all checkpoints resident"),
    "place": ("auto", "place", "open"),
    "patience": (None, "patience", "open"),
}


@pytest.mark.parametrize("name", PAPER)
def test_learning_is_set_as_in_the_paper_in_python_and_at_the_command_line(name: str) -> None:
    value, option, _ = PAPER[name]
    assert getattr(Settings(), name) == value
    typed = options_of("learn")[option]
    # Options count ingredients from 1, and a flag that is not given is nothing.
    expected: Any = {"base": 1, "rescale": None}.get(name, value)
    assert typed == expected
    assert set(PAPER) == {field.name for field in fields(Settings)} == set(asdict(Settings()))


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
    assert usual_epochs(k) == epochs


def test_the_documents_tell_the_defaults() -> None:
    text = (DOCS / "learned-soups.md").read_text()
    table = dict(re.findall(r"^\| ([a-z ]+) \| (.+) \|$", text, re.M))
    assert "`--groups tensor`" in table["coefficients"]
    assert "learning rate 10, cosine to 0" in table["optimiser"]
    assert table["start"].startswith("Xavier")
    assert "probability 0.8" in table["detach dropout"]
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


def test_every_decision_is_documented() -> None:
    text = (DOCS / "learned-soups.md").read_text()
    for decision in decisions(Settings(), crafts=True, statistics=True, recalibrates=True):
        assert f"**{decision}**" in text


@pytest.mark.parametrize(
    ("settings", "about", "key", "says"),
    [
        ({}, {}, "statistics", "follow the coefficients .*differentiated$"),
        ({}, {"recalibrates": True}, "statistics", "differentiated; estimated anew at the end$"),
        ({"buffers": "base", "base": 2}, {}, "statistics", "ingredient 3 .*constant$"),
        ({"batch_norm": "batch"}, {}, "statistics", "constant in the gradient$"),
        ({"batch_norm": "batch"}, {}, "batch norm", "evaluation mode to craft; the batch's own"),
        ({}, {}, "batch norm", "soup's own statistics, to craft and to step$"),
        ({}, {}, "detach dropout", "at least one live group, no rescaling$"),
        ({"rescale": True}, {}, "detach dropout", "divided by 1 - p$"),
        ({}, {}, "attack", "held fixed"),
        ({}, {}, "xavier", r"a matrix \(1, K\) for each group"),
        ({}, {}, "optimiser", "SGD without momentum or weight decay"),
        ({}, {}, "gradient", "of live groups alone"),
    ],
)
def test_decisions_are_those_of_the_settings(
    settings: dict[str, Any], about: dict[str, Any], key: str, says: str
) -> None:
    usual = {"crafts": True, "statistics": True, "recalibrates": False}
    found = decisions(Settings(**settings), **{**usual, **about})
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
    every = decisions(Settings(), **usual)
    assert set(every) - set(decisions(Settings(**settings), **{**usual, **about})) == lacks
