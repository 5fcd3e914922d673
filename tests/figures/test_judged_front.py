"""What a run of a front holds: its points in order, the soups beside them, and what is missing."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import soupmerge as sm
from soupmerge.figures import reading
from soupmerge.figures.judged_front import (
    JudgedFront,
    at_option,
    by_depth,
    judged_front,
    name_of_point,
)
from soupmerge.figures.reading import RunRecord
from soupmerge.figures.remarks import remarks
from soupmerge.types import Progress, quiet
from soupmerge.weights.front import Front
from tests.figures.planted import FIRST_GOALS, THREE, Runs
from tests.shared import Stop, stop_at
from tests.soups import tiny

UNFINISHED = "The run is not finished: run its command again to resume it."


def judged(run: RunRecord) -> JudgedFront:
    found = judged_front(run)
    assert found is not None
    return found


def test_points_are_in_the_order_of_lambda_and_other_soups_have_their_names(runs: Runs) -> None:
    run, learned = runs.front
    shuffled = [*reversed(run.trials[:6]), *run.trials[6:]]
    for found in (judged(run), judged(dataclasses.replace(run, trials=shuffled))):
        assert [found.shares(r)[1] for r in found.points] == [0, 0.2, 0.4, 0.6, 0.8, 1]
        for record, trial in zip(found.points, learned.points, strict=True):
            assert record["recipe"] == trial.recipe.to_json()
        assert list(found.beside) == [*THREE, "uniform", "grid-clean", "grid-union"]
        for record, trial in zip(found.beside.values(), learned.beside.values(), strict=True):
            assert record["recipe"]["weights"] == trial.recipe.to_json()["weights"]
        kinds = [found.kind(name) for name in found.beside]
        assert kinds == [*["ingredient"] * 3, "uniform", "grid", "grid"]


def test_a_soup_that_has_two_names_is_listed_under_the_first(runs: Runs) -> None:
    """`soupmerge.front` judges it once."""
    run, _ = runs.front
    beside = {"thirds": {"model": [1 / 3] * 3}, "apple again": {"model": [1, 0, 0]}}
    found = judged(dataclasses.replace(run, manifest={**run.manifest, "beside": beside}))
    assert list(found.beside) == [*THREE, "uniform"]


def test_soups_that_differ_in_their_statistics_alone_have_a_name_each(runs: Runs) -> None:
    run, _ = runs.front
    based = {**run.trials[9]["recipe"], "buffers": {"policy": "base", "base": 0}}
    trials = [*run.trials, {**run.trials[9], "recipe": based}]
    rows = {**run.manifest["beside"], "thirds": {"model": [1 / 3] * 3}}
    manifest = {**run.manifest, "beside": rows}
    found = judged(dataclasses.replace(run, trials=trials, manifest=manifest))
    assert found.beside["uniform"] is trials[9]
    assert found.beside["thirds"] is trials[12]


def test_a_run_that_lacks_a_soup_of_other_statistics_is_unfinished(tmp_path: Path) -> None:
    """The two soups of equal coefficients are told apart: one of them is judged, and one is not."""
    ingredients = tiny.make_ingredients(tmp_path / "in")
    beside = {f"thirds {i}": sm.Recipe.uniform(ingredients, base=i, buffers="base") for i in (0, 1)}

    def learn(progress: Progress) -> None:
        sm.front(
            *(tiny.Tiny(), ingredients, tiny.images(40), FIRST_GOALS),
            settings=sm.Settings(epochs=1),
            benchmark=sm.Benchmark(tiny.images(9, seed=5)),
            points=2,
            beside=beside,
            run=sm.Run(tmp_path / "run", progress=progress),
        )

    with pytest.raises(Stop):
        learn(stop_at(8, "soups"))
    part = reading.read_run(tmp_path / "run")
    assert (len(part.trials), list(judged(part).beside)[3:]) == (7, ["uniform", "thirds 0"])
    assert UNFINISHED in remarks(part)
    learn(quiet)
    whole = reading.read_run(tmp_path / "run")
    assert (len(whole.trials), UNFINISHED in remarks(whole)) == (8, False)
    assert list(judged(whole).beside)[3:] == ["uniform", "thirds 0", "thirds 1"]


@pytest.mark.parametrize("count", range(13))
def test_an_unfinished_run_says_so_and_shows_what_it_has(runs: Runs, count: int) -> None:
    run, _ = runs.front
    part = dataclasses.replace(run, trials=run.trials[:count])
    assert len(run.trials) == 12
    found = judged_front(part)
    assert (found is None) == (count == 0)
    if found is not None:
        assert (len(found.points), len(found.beside)) == (min(count, 6), max(0, count - 6))
    assert (UNFINISHED in remarks(part)) == (count < 12)


def test_a_front_that_nobody_judges_is_finished_once_it_is_learned(runs: Runs) -> None:
    run, _ = runs.front
    manifest = {**run.manifest, "benchmark": None}
    learned = dataclasses.replace(run, manifest=manifest, trials=[])
    assert UNFINISHED not in remarks(learned)
    assert UNFINISHED in remarks(dataclasses.replace(learned, front=None))


def test_a_figure_s_axes_are_the_objectives_or_clean_and_the_last_metric(runs: Runs) -> None:
    run, _ = runs.front
    found = judged(run)
    assert found.axes == ("clean", "linf:0.1")
    other = dataclasses.replace(found.front, objectives=("l2:0.5", "linf:0.1"))
    assert dataclasses.replace(found, front=other).axes == ("l2:0.5", "linf:0.1")
    unjudged = dataclasses.replace(found.front, objectives=("clean", "mart"))
    assert dataclasses.replace(found, front=unjudged).axes == ("clean", "union")


def test_coefficients_are_those_of_the_front_in_order_of_depth(runs: Runs) -> None:
    front: Any = runs.front[0].front
    groups, rows = by_depth(front, 0.3)
    recipe = front.at(0.3)
    assert groups == sorted(recipe.groups, key=reading.depth)
    own = dict(zip(recipe.groups, recipe.weights, strict=True))
    assert rows == [list(own[group]) for group in groups]


@given(st.lists(st.integers(0, 12), min_size=2, max_size=4).filter(any))
def test_the_option_of_a_point_is_read_back_exactly(parts: list[int]) -> None:
    shares = tuple(float(Fraction(part, sum(parts))) for part in parts)
    objectives = tuple(f"l2:{i}" for i in range(len(shares)))
    assert Front.shares(_Named(objectives), at_option(shares)) == shares  # type: ignore[arg-type]


@dataclasses.dataclass
class _Named:
    objectives: tuple[str, ...]


def test_points_are_named_by_lambda() -> None:
    assert name_of_point((1, 0)) == "λ = 0"
    assert name_of_point((4 / 7, 3 / 7)) == "λ = 0.429"
    assert at_option((0.0, 1.0)) == "1"
    assert at_option((4 / 7, 3 / 7)).endswith(repr(3 / 7))
