"""The lattice of coefficients, and the grid that judges all of it."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import soupmerge as sm
from soupmerge.errors import UsageError
from soupmerge.soups.lattice import lattice, lattice_size
from soupmerge.soups.search.grid import MOST_SOUPS, parts_of, plan
from tests.shared import files_of
from tests.soups.planted import Planted, benchmark, make_ingredients, some_flags

pytestmark = pytest.mark.usefixtures("unexamined")


@given(k=st.integers(1, 5), parts=st.integers(1, 6))
def test_the_lattice_is_all_of_it_once(k: int, parts: int) -> None:
    every = [n for n in product(range(parts + 1), repeat=k) if sum(n) == parts]
    expected = [tuple(n / parts for n in numbers) for numbers in sorted(every, reverse=True)]
    assert list(lattice(k, parts)) == expected
    assert lattice_size(k, parts) == len(expected)


def test_the_papers_sizes() -> None:
    """Huang 2023, section 4.1: 6 soups of two ingredients, 21 of three; 126 of five."""
    assert [lattice_size(k, parts_of(0.2)) for k in (2, 3, 4, 5)] == [6, 21, 56, 126]


@pytest.mark.parametrize(("step", "parts"), [(1, 1), ("0.5", 2), (0.05, 20), ("1/3", 3)])
def test_a_step_is_one_part_of_a_whole_number(step: Any, parts: int) -> None:
    assert parts_of(step) == parts


@pytest.mark.parametrize("step", ["0.3", "0", "-0.2", "2", "x", "", 0.15, "1/0", "2/3", 0.4])
def test_steps_that_do_not_divide_one_are_refused(step: Any) -> None:
    with pytest.raises(UsageError, match="^step: "):
        parts_of(step)


def test_a_plan_is_refused_from_the_first_soup_too_many(tmp_path: Path) -> None:
    two, three = make_ingredients(tmp_path / "2", 2), make_ingredients(tmp_path / "3", 3)
    assert MOST_SOUPS == 100_000
    size, rows = plan(two, "1/99999")
    assert (size, next(rows)) == (100_000, (1.0, 0.0))
    with pytest.raises(UsageError, match="^step: 100,001 soups are too many"):
        plan(two, "1/100000")
    assert plan(three, 0.1)[0] == 66
    with pytest.raises(UsageError, match="^REF: a grid needs two or more"):
        plan(sm.Ingredients((two[0],)), 0.5)


def test_the_grid_judges_every_soup_of_the_lattice_in_its_order(tmp_path: Path) -> None:
    ingredients, table, judge = (
        make_ingredients(tmp_path / "in", 3),
        some_flags(0, 50),
        benchmark(50),
    )
    trials = sm.grid(Planted(3, table), ingredients, judge, step=0.25, run=sm.Run(tmp_path / "run"))
    assert [t.recipe.weights for t in trials] == [(row,) for row in lattice(3, 4)]
    for trial in trials:
        clean, robust = np.asarray(table(trial.recipe.weights[0]))
        assert trial.judged().bits("clean").tolist() == clean.tolist()
        assert trial.judged().bits("linf:0.1").tolist() == (clean & robust).tolist()
    best = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert best["weights"]["model"] == list(trials.best("union").recipe.weights[0])
    assert best["origin"] == "grid"


def test_the_ingredients_of_a_grid_get_the_verdicts_that_they_get_alone(
    kitchen: tuple[nn.Module, sm.Ingredients],
) -> None:
    net, ingredients = kitchen
    judge = sm.Benchmark(sm.data("digits", split="val", limit=20), [sm.APGD(sm.Linf(0.1), steps=4)])
    trials = sm.grid(net, ingredients, judge, step=1)
    alone = [judge(sm.bind(net, ingredient)) for ingredient in ingredients]
    assert [trial.judged() for trial in trials] == alone


def test_what_is_written_is_the_best_soup_of_each_metric(tmp_path: Path) -> None:
    ingredients, run = make_ingredients(tmp_path / "in", 3), tmp_path / "run"
    net, judge = Planted(3, some_flags(1, 200, rows=3)), benchmark(200, threats=2)
    trials = sm.grid(net, ingredients, judge, step=0.5, metric="l2:0.5", run=sm.Run(run))
    names = {"clean": "clean", "linf:0.1": "linf-0.1", "l2:0.5": "l2-0.5", "union": "union"}
    assert {f"best/{name}.json" for name in names.values()} <= set(files_of(run))
    for metric, name in names.items():
        parsed = json.loads((run / "best" / f"{name}.json").read_text())
        assert parsed["weights"]["model"] == list(trials.best(metric).recipe.weights[0])
    soup = sm.load(run / "soup.safetensors")[0]
    expected = sm.mix(ingredients, trials.best("l2:0.5").recipe)
    assert torch.equal(soup["weight"], expected["weight"])
