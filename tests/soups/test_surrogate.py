"""The surrogate: a model that recovers planted accuracies, and a search that it leads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats
from scipy.special import expit

import soupmerge as sm
from soupmerge.errors import UsageError
from soupmerge.soups.judge.hypervolume import hypervolume
from soupmerge.soups.judge.metrics import Metric
from soupmerge.soups.search.surrogate import (
    APART,
    DEVIATION,
    Surface,
    features,
    gains,
    proposal,
    scattered,
)
from tests.soups.planted import Planted, Row, Table, benchmark, first, judged, make_ingredients

pytestmark = pytest.mark.usefixtures("unexamined")

CLEAN, UNION = Metric.parse("clean"), Metric.parse("union")


# ---- the model


def test_the_surface_recovers_a_planted_one() -> None:
    """The reference: logit p(w) = Σ a_i w_i + Σ b_ij w_i w_j written out, and many images."""
    draw, n = np.random.default_rng(0), 10_000_000
    a, b, soups = draw.normal(0, 1, 4), draw.normal(1, 1, (4, 4)), scattered(4, 60, "soups")
    right = [
        sum(a[i] * w[i] + sum(b[i, j] * w[i] * w[j] for j in range(i + 1, 4)) for i in range(4))
        for w in soups
    ]
    surface = Surface.fit(soups, np.round(n * expit(right)), n)
    assert surface.terms == pytest.approx([*a, *b[np.triu_indices(4, 1)]], abs=1e-3)
    assert surface(soups) == pytest.approx(expit(right), abs=1e-5)


def test_the_fit_is_that_of_another_optimiser() -> None:
    """The reference: the penalised likelihood in float64, by BFGS."""
    draw, n = np.random.default_rng(1), 50
    x, correct = features(scattered(3, 5, "soups")), draw.integers(0, n + 1, 5)

    def loss(terms: Any) -> float:
        likelihoods = stats.binom.logpmf(correct, n, expit(x @ terms))
        return float(terms @ terms / (2 * DEVIATION**2) - likelihoods.sum())

    expected = optimize.minimize(loss, np.zeros(6), method="BFGS", options={"gtol": 1e-6}).x
    found = Surface.fit(scattered(3, 5, "soups"), correct, n)
    assert found.terms == pytest.approx(expected, abs=1e-3)


def test_quadratic_functions_on_the_simplex_are_spanned() -> None:
    draw, soups = np.random.default_rng(2), scattered(5, 100, "soups")
    x = features(soups)
    assert x.shape == (100, 15)
    assert np.linalg.matrix_rank(x) == 15
    quadratic = np.einsum("mi,ij,mj->m", soups, draw.normal(size=(5, 5)), soups) + soups[:, 0] - 2
    assert np.linalg.lstsq(x, quadratic, rcond=None)[1] == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("correct", [[0, 0, 0], [40, 40, 40]])
def test_soups_that_are_always_right_or_never_give_finite_predictions(correct: list[int]) -> None:
    soups = np.array([[1, 0], [0, 1], [0.5, 0.5]])
    predicted = Surface.fit(soups, np.array(correct), 40)(soups)
    assert predicted == pytest.approx(np.array(correct) / 40, abs=0.05)


# ---- candidates and proposals


@pytest.mark.parametrize("k", [2, 3, 6])
def test_scattered_soups_are_uniform_on_faces_of_every_size(k: int) -> None:
    """A coefficient on a face of s ingredients is distributed as Beta(1, s − 1)."""
    rows = scattered(k, 3000, "rows")
    assert rows.shape == (3000, k)
    assert np.allclose(rows.sum(1), 1)
    sizes = (rows > 0).sum(1)
    assert set(sizes.tolist()) == set(range(2, k + 1))
    for size in range(2, k + 1):
        of_size = rows[sizes == size]
        assert len(of_size) == pytest.approx(3000 / (k - 1), rel=0.15)
        assert (of_size > 0).mean(0) == pytest.approx(np.full(k, size / k), abs=0.08)
        used = of_size[:, 0][of_size[:, 0] > 0]
        assert stats.kstest(used, stats.beta(1, size - 1).cdf).pvalue > 0.01


def test_equal_keys_scatter_alike_and_others_do_not() -> None:
    assert np.array_equal(scattered(3, 4, 0, "a"), scattered(3, 4, 0, "a"))
    assert not np.allclose(scattered(3, 4, 0, "a"), scattered(3, 4, 1, "a"))


def some_trials() -> list[Any]:
    """Return soups of two ingredients: half and half is best in both metrics."""
    rows = [((1.0, 0.0), 60, 20), ((0.0, 1.0), 50, 40), ((0.5, 0.5), 70, 60)]
    return [judged(*first(c, r, n=100), weights=row) for row, c, r in rows]


def test_a_proposal_for_one_goal_has_the_highest_prediction() -> None:
    candidates = np.array([[x, 1 - x] for x in (0.05, 0.1, 0.3, 0.6, 0.65, 0.9)])
    trials = some_trials()
    judged_rows = np.array([trial.recipe.weights[0] for trial in trials])
    for goal, correct in ((CLEAN, [60, 50, 70]), (UNION, [20, 40, 60])):
        surface = Surface.fit(judged_rows, np.array(correct), 100)
        best = candidates[surface(candidates).argmax()].tolist()
        assert proposal(trials, [goal], candidates) == tuple(best)
    both = Metric.parse("0.9*clean+0.1*union")
    assert proposal(trials, [both], candidates) == proposal(trials, [CLEAN], candidates)


def test_a_proposal_keeps_away_from_judged_soups_as_far_as_it_can() -> None:
    near, far = (0.5 + 0.9 * APART, 0.5 - 0.9 * APART), (0.02, 0.98)
    assert proposal(some_trials(), [UNION], np.array([near, (0.1, 0.9)])) == (0.1, 0.9)
    assert proposal(some_trials(), [UNION], np.array([near, far])) == near


def test_a_proposal_for_two_goals_adds_the_largest_area() -> None:
    """The reference: predictions of both surfaces, and the area of all points together."""
    trials, candidates = some_trials(), scattered(2, 50, "candidates")
    rows = np.array([trial.recipe.weights[0] for trial in trials])
    apart = np.abs(candidates[:, None] - rows).sum(2).min(1) / 2 >= APART
    surfaces = [Surface.fit(rows, np.array(c), 100) for c in ([60, 50, 70], [20, 40, 60])]
    points, found = (
        np.stack([surface(soups) for surface in surfaces], 1) for soups in (rows, candidates[apart])
    )
    areas = [hypervolume(np.vstack([points, point]), points.min(0)) for point in found]
    best = candidates[apart][int(np.argmax(areas))]
    assert proposal(trials, [CLEAN, UNION], candidates) == tuple(best.tolist())


def test_gains_on_paper() -> None:
    points = np.array([[0.0, 3.0], [1.0, 2.0], [3.0, 0.0]])
    candidates = np.array([[2.0, 1.0], [2.0, 2.5], [0.5, 0.5], [4.0, 4.0]])
    assert gains(points, candidates).tolist() == [1.0, 3.0, 0.0, 14.0]


# ---- the search


def search(tmp_path: Path, table: Table, k: int, **settings: Any) -> sm.Trials:
    net, ingredients = Planted(k, table), make_ingredients(tmp_path / "in", k)
    return sm.search(net, ingredients, benchmark(200), **settings)


def hill(aim: Row, n: int = 200) -> Table:
    """Return a table in which an ever smaller share is robust, the further a soup is from *aim*."""

    def table(row: Row) -> Any:
        share = np.exp(-4 * float(np.square(np.subtract(row, aim)).sum()))
        return first(n, round(share * n), n=n)

    return table


def test_the_planted_best_is_found_with_fewer_soups_than_by_drawing(tmp_path: Path) -> None:
    table = hill((0.0, 0.45, 0.0, 0.35, 0.2))
    led = search(tmp_path, table, 5, method="surrogate", n=15, metric="union")
    drawn = search(tmp_path, table, 5, method="random", n=60)
    best, of_drawn = (found.best("union").judged().accuracy("union") for found in (led, drawn))
    assert best > 0.96
    assert best > of_drawn


def trade(n: int = 200) -> Table:
    """Return a table of two opposed goals: the first ingredient is right clean, the others robust.

    Mixtures of the first two are above the line between them.
    """

    def table(row: Row) -> Any:
        clean = 0.5 + 0.4 * row[0] + 0.3 * row[0] * row[1] - 0.2 * row[2]
        robust = 0.4 * row[1] + 0.6 * row[0] * row[1] + 0.1 * row[2]
        return first(round(clean * n), round(robust * n), n=n)

    return table


def test_without_a_metric_the_front_is_extended(tmp_path: Path) -> None:
    """All soups but those of the first two ingredients are dominated."""
    found = search(tmp_path, trade(), 3, method="surrogate", n=12)
    proposed = [trial.recipe.weights[0] for trial in found[4 + 4 :]]
    assert sum(row[2] < 0.1 for row in proposed) >= 6
    led, drawn = (
        area_of(trials)
        for trials in (found, search(tmp_path, trade(), 3, method="random", n=12, seed=1))
    )
    assert led > drawn


def area_of(trials: sm.Trials) -> float:
    pairs = [(t.judged().accuracy("clean"), t.judged().accuracy("union")) for t in trials]
    return hypervolume(np.array(pairs), np.array([0.3, 0.0]))


def test_the_manifest_says_what_was_sought(tmp_path: Path) -> None:
    for name, metric, said in (("front", None, "clean, union"), ("one", "union", "union")):
        run = sm.Run(tmp_path / name)
        search(tmp_path, trade(), 3, method="surrogate", n=2, metric=metric, run=run)
        manifest = json.loads((tmp_path / name / "manifest.json").read_text())
        assert manifest["settings"]["metric"] == said
    with pytest.raises(UsageError, match="metric"):
        search(tmp_path, trade(), 3, method="surrogate", n=2, run=sm.Run(tmp_path / "one"))


def test_without_threats_clean_accuracy_is_the_only_goal(tmp_path: Path) -> None:
    judge, ingredients = benchmark(200, threats=0), make_ingredients(tmp_path / "in", 3)
    found = [
        sm.search(Planted(3, trade()), ingredients, judge, method="surrogate", n=4, metric=metric)
        for metric in (None, "clean")
    ]
    assert found[0] == found[1]


def test_an_unknown_metric_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no metric 'unoin' is judged; did you mean 'union'"):
        search(tmp_path, trade(), 3, method="surrogate", n=2, metric="unoin")
