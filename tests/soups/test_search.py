"""Searching the simplex: soups that are drawn, and soups that CMA-ES asks for."""

from __future__ import annotations

import json
import math
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

import soupmerge as sm
from soupmerge.errors import UsageError
from soupmerge.soups.search.simplex import check, draws, softmax
from tests.shared import Stop, files_of, stop_at
from tests.soups.planted import Planted, Row, Table, benchmark, make_ingredients, some_flags

pytestmark = pytest.mark.usefixtures("unexamined")


def search(
    tmp_path: Path, table: Table, k: int = 3, n_images: int = 40, **settings: Any
) -> sm.Trials:
    judge = benchmark(n_images)
    return sm.search(Planted(k, table), make_ingredients(tmp_path / "in", k), judge, **settings)


def rows_of(trials: sm.Trials) -> list[Row]:
    return [trial.recipe.weights[0] for trial in trials]


# ---- drawn soups


@pytest.mark.parametrize("k", [2, 3, 5])
def test_random_soups_are_uniform_on_the_simplex(k: int) -> None:
    """A sum of j coefficients of a uniform point is distributed as Beta(j, K − j)."""
    rows = np.array(list(draws(k, 2000, 0)))
    assert rows.shape == (2000, k)
    assert rows.min() >= 0
    assert np.allclose(rows.sum(1), 1)
    for i in range(k):
        assert stats.kstest(rows[:, i], stats.beta(1, k - 1).cdf).pvalue > 0.01
    if k > 2:
        assert stats.kstest(rows[:, :2].sum(1), stats.beta(2, k - 2).cdf).pvalue > 0.01


def test_each_seed_draws_its_own_soups_and_more_of_them_begin_alike() -> None:
    assert list(draws(3, 4, 0)) == list(islice(draws(3, 9, 0), 4))
    assert not set(draws(3, 9, 0)) & set(draws(3, 9, 1))
    assert len(set(draws(3, 9, 0))) == 9


@pytest.mark.parametrize("method", ["random", "cma", "surrogate"])
def test_a_search_judges_ingredients_uniform_soup_and_n_others(tmp_path: Path, method: str) -> None:
    found = rows_of(search(tmp_path, some_flags(0, 40), method=method, n=7, seed=3))
    assert found[:4] == [*map(tuple, np.eye(3).tolist()), (1 / 3,) * 3]
    assert len(found) == len(set(found)) == 4 + 7
    if method == "random":
        assert found[4:] == list(draws(3, 7, 3))


@pytest.mark.parametrize("method", ["random", "cma", "surrogate"])
def test_a_search_resumes_to_the_same_files_and_leaves_global_generators_alone(
    tmp_path: Path, method: str
) -> None:
    np.random.seed(7)  # noqa: NPY002 - that of everyone
    before = np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    table, settings = some_flags(0, 40), {"method": method, "n": 9}
    whole = search(tmp_path, table, run=sm.Run(tmp_path / "whole"), **settings)
    assert np.random.get_state()[1].tolist() == before[0]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    with pytest.raises(Stop):
        search(
            tmp_path, table, run=sm.Run(tmp_path / "cut", progress=stop_at(11, "soups")), **settings
        )
    assert search(tmp_path, table, run=sm.Run(tmp_path / "cut"), **settings) == whole
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


# ---- CMA-ES


def near(aim: Row, n: int = 40) -> Table:
    """Return a table in which fewer images are right the further a soup is from *aim*."""

    def table(row: Row) -> Any:
        share = 1 - float(np.abs(np.subtract(row, aim)).sum()) / 2
        return [[place < n for place in range(n)], [place < share * n for place in range(n)]]

    return table


def test_cma_asks_for_what_the_strategy_asks_for_when_it_is_told_the_metric(tmp_path: Path) -> None:
    """The reference: the library, from logits 0 with deviation 1, told minus the metric."""
    import cma

    n, aim = 17, (0.6, 0.3, 0.1)
    noise = np.random.default_rng(5)
    options = {
        "seed": math.nan,
        "randn": lambda *shape: noise.standard_normal(shape),
        "verbose": -9,
    }
    strategy = cma.CMAEvolutionStrategy([0.0] * 3, 1.0, options)
    expected: list[np.ndarray] = []
    while len(expected) < n:
        points = strategy.ask()
        rows = [np.exp(p) / np.exp(p).sum() for p in points]
        expected += rows
        counts = [sum(near(aim)(tuple(np.round(row, 4)))[1]) for row in rows]
        strategy.tell(points, [-(1 + count / 40) / 2 for count in counts])
    metric = "0.5*clean+0.5*union"
    found = search(tmp_path, near(aim), method="cma", n=n, seed=5, metric=metric)
    assert np.allclose(rows_of(found)[4:], expected[:n], atol=1e-12)


def test_cma_climbs(tmp_path: Path) -> None:
    aim = (0.6, 0.3, 0.1)
    found = search(tmp_path, near(aim, 200), n_images=200, method="cma", n=60)
    away = [float(np.abs(np.subtract(row, aim)).sum()) for row in rows_of(found)[4:]]
    assert min(away[-20:]) < 0.1 < np.mean(away[:20])
    assert found.best("union").judged().accuracy("union") > 0.94


def test_a_softmax_of_great_logits_is_finite() -> None:
    assert softmax([1000.0, 1000.0, -1000.0]) == pytest.approx((0.5, 0.5, 0.0))
    assert softmax(np.array([0.0, math.log(3)])) == pytest.approx((0.25, 0.75))


# ---- what is written, and what is refused


@pytest.mark.parametrize("method", ["random", "cma", "surrogate"])
def test_the_best_in_the_metric_is_written(tmp_path: Path, method: str) -> None:
    run = tmp_path / "run"
    found = search(tmp_path, some_flags(4, 40), method=method, n=5, metric="clean", run=sm.Run(run))
    parsed = json.loads((run / "recipe.json").read_text())
    assert parsed["weights"]["model"] == list(found.best("clean").recipe.weights[0])
    assert parsed["origin"] == "search"
    settings = json.loads((run / "manifest.json").read_text())["settings"]
    assert settings["n"] == 5
    # What random soups are drawn does not depend on the metric, so that it may be another later.
    assert settings.get("metric") == (None if method == "random" else "clean")


@pytest.mark.parametrize(
    ("method", "n", "says"),
    [
        ("cmaes", 5, "^method: unknown method 'cmaes'; did you mean 'cma'"),
        ("random", 0, "^-n: cannot judge 0 soups; give 1 to 100,000"),
        ("random", 100_001, "^-n: cannot judge 100,001 soups"),
    ],
)
def test_a_search_that_cannot_be_meant_is_refused(
    tmp_path: Path, method: str, n: int, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        search(tmp_path, some_flags(0, 40), method=method, n=n, run=sm.Run(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    check("random", 1)
    check("cma", 100_000)


def test_a_search_needs_two_ingredients(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a search needs two or more ingredients, not 1"):
        search(tmp_path, some_flags(0, 40), k=1)
