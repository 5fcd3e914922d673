"""The greedy soup: against its definition, and what it says of each decision."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import soupmerge as sm
from soupmerge.errors import UsageError
from soupmerge.schedule import order
from soupmerge.soups.search.greedy import Greedy
from tests.soups.planted import Planted, Row, benchmark, make_ingredients, some_flags

pytestmark = pytest.mark.usefixtures("unexamined")

Value = Callable[[Sequence[int]], Any]


def by_count(counts: dict[tuple[int, ...], int], n: int = 20) -> Callable[[Row], Any]:
    """Return a table: the uniform soup of these members has so many of *n* images right."""

    def table(row: Row) -> Any:
        members = tuple(i for i, w in enumerate(row) if w)
        return np.array([[place < counts[members] for place in range(n)]])

    return table


def greedy(tmp_path: Path, k: int, table: Any, n: int = 20, **settings: Any) -> Greedy:
    ingredients = make_ingredients(tmp_path / "in", k)
    return sm.greedy(Planted(k, table), ingredients, benchmark(n, threats=0), **settings)


def members_of(found: Any) -> set[int]:
    return {i for i, w in enumerate(found.trial.recipe.weights[0]) if w}


def plainly(value: Value, row: Sequence[int], prune: bool) -> tuple[list[int], list[Any]]:
    """Return the greedy soup of candidates in the order *row*, and what was tried, as defined."""
    members, tried = [row[0]], []
    for k in row[1:]:
        accepted = value([*members, k]) >= value(members)
        tried.append(("add", k, value(members), value([*members, k]), accepted))
        members = [*members, k] if accepted else members
    for k in tuple(members) if prune else ():
        rest = [member for member in members if member != k]
        if rest:
            accepted = value(rest) >= value(members)
            tried.append(("drop", k, value(members), value(rest), accepted))
            members = rest if accepted else members
    return members, tried


@pytest.mark.parametrize("metric", ["clean", "0.5*clean+0.5*union"])
@pytest.mark.parametrize("prune", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_greedy_is_its_definition(tmp_path: Path, metric: str, prune: bool, seed: int) -> None:
    k, n, table = 4, 23, some_flags(seed, 23)
    ingredients = make_ingredients(tmp_path / "in", k)
    judge = benchmark(n, threats=1)
    net = Planted(k, table)

    def value(members: Sequence[int]) -> Fraction:
        row = tuple(round(float(i in members) / len(members), 4) for i in range(k))
        clean, robust = np.asarray(table(row))
        both = int((clean & robust).sum())
        right = Fraction(int(clean.sum())) if metric == "clean" else Fraction(clean.sum() + both, 2)
        return right / n

    ranked = sorted(range(k), key=lambda i: -value([i]))
    rows = [ranked, *(order(k, 5, i).tolist() for i in range(2))]
    soups = [plainly(value, row, prune) for row in rows]
    found = sm.greedy(net, ingredients, judge, metric=metric, orders=2, prune=prune, seed=5)
    tried = [(number, *step) for number, (_, steps) in enumerate(soups) for step in steps]
    assert [
        (d.order, d.action, d.ingredient, d.before, d.after, d.accepted) for d in found.decisions
    ] == [(*step[:3], float(step[3]), float(step[4]), step[5]) for step in tried]
    best = max(value(members) for members, _ in soups)
    assert value(sorted(members_of(found))) == best
    assert found.trial in found.trials.trials


def test_a_copy_of_the_best_is_as_good_and_is_accepted(tmp_path: Path) -> None:
    """Recipe 1 of Wortsman et al. 2022 keeps an ingredient where the accuracy is ≥, not >."""
    counts = {(0,): 10, (1,): 12, (2,): 8, (0, 1): 12, (0, 1, 2): 11}
    found = greedy(tmp_path, 3, by_count(counts))
    assert [(d.ingredient, d.accepted) for d in found.decisions] == [(0, True), (2, False)]
    assert found.decisions[0].reason == "as good: +0.0 points (-9.8 to +9.8)"
    assert members_of(found) == {0, 1}


def test_candidates_come_from_the_best_alone_to_the_worst(tmp_path: Path) -> None:
    """Ingredient 1 is the best and 0 the worst; each soup is compared with that before it."""
    counts = {(0,): 5, (1,): 12, (2,): 9, (3,): 7}
    counts |= {(1, 2): 11, (1, 3): 13, (0, 1, 3): 12}
    found = greedy(tmp_path, 4, by_count(counts))
    assert [(d.ingredient, d.before, d.after, d.accepted) for d in found.decisions] == [
        (2, 0.6, 0.55, False),
        (3, 0.6, 0.65, True),
        (0, 0.65, 0.6, False),
    ]
    assert members_of(found) == {1, 3}


def test_pruning_takes_out_the_first_put_in_first(tmp_path: Path) -> None:
    """Ingredient 0 helped 1 and 2 in, and is no longer needed; then neither can go."""
    counts = {(0,): 10, (1,): 9, (2,): 8, (0, 1): 11, (0, 1, 2): 11, (1, 2): 12}
    found = greedy(tmp_path, 3, by_count(counts), prune=True)
    assert [(d.action, d.ingredient, d.accepted) for d in found.decisions] == [
        ("add", 1, True),
        ("add", 2, True),
        ("drop", 0, True),
        ("drop", 1, False),
        ("drop", 2, False),
    ]
    assert [(d.before, d.after) for d in found.decisions[2:]] == [
        (0.55, 0.6),
        (0.6, 0.4),
        (0.6, 0.45),
    ]
    assert members_of(found) == {1, 2}


def test_pruning_leaves_one(tmp_path: Path) -> None:
    """Where no soup is better than another, all go but the last."""
    found = greedy(tmp_path, 3, lambda row: [[True] * 10 + [False] * 10], prune=True)
    assert [d.action for d in found.decisions if d.accepted] == ["add", "add", "drop", "drop"]
    assert len(found.decisions) == 4
    assert len(members_of(found)) == 1


def test_each_reason_says_whether_the_images_tell_it_from_chance(tmp_path: Path) -> None:
    """Of 100 images one more or fewer may be chance, thirty may not."""
    counts = {(0,): 50, (1,): 49, (2,): 48, (3,): 47, (4,): 46}
    counts |= {(0, 1): 51, (0, 1, 2): 81, (0, 1, 2, 3): 80, (0, 1, 2, 4): 50}
    found = greedy(tmp_path, 5, by_count(counts, n=100), n=100)
    kinds = [
        "better, perhaps by chance",
        "better, surely",
        "worse, perhaps by chance",
        "worse, surely",
    ]
    for decision, kind, points in zip(found.decisions, kinds, (1, 30, -1, -31), strict=True):
        share = abs(points) / 100
        spread = max((share - share**2) ** 0.5 / 10, 0.01)
        low, high = stats.norm.interval(0.95, points / 100, spread)
        result = f"{points:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
        assert decision.reason == f"{kind}: {result}"


def test_no_soup_is_judged_twice_and_all_that_were_are_told(tmp_path: Path) -> None:
    table, run = some_flags(3, 40), tmp_path / "run"
    found = greedy(tmp_path, 3, table, n=40, orders=4, prune=True, run=sm.Run(run))
    rows = [t.recipe.weights for t in found.trials]
    assert len(rows) == len(set(rows)) <= 7
    parsed = json.loads((run / "decisions.json").read_text())
    assert found.to_json()["decisions"] == parsed
    assert [t["reason"] for t in parsed] == [d.reason for d in found.decisions]
    assert found.trials[found.to_json()["best"]] is found.trial
    recipe = json.loads((run / "recipe.json").read_text())
    assert recipe["weights"]["model"] == list(found.trial.recipe.weights[0])


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"metric": "clean"}, "settings.metric was 'union', now 'clean'"),
        ({"orders": 2}, "settings.orders was 1, now 2"),
        ({"prune": True}, "settings.prune was False, now True"),
        ({"seed": 1}, "settings.seed was 0, now 1"),
    ],
)
def test_a_run_of_other_settings_is_refused(
    tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    ingredients, net = make_ingredients(tmp_path / "in", 2), Planted(2, some_flags(0, 20))
    sm.greedy(net, ingredients, benchmark(20), orders=1, run=sm.Run(tmp_path / "run"))
    with pytest.raises(UsageError, match=says):
        sm.greedy(
            net,
            ingredients,
            benchmark(20),
            **{"orders": 1, **settings},
            run=sm.Run(tmp_path / "run"),
        )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"orders": -1}, "^orders: -1"),
        ({"metric": "claen"}, "^metric: .*'claen'.*'clean'"),
        ({"k": 1}, "a greedy soup needs two or more"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_soup(
    tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    run = tmp_path / "run"
    with pytest.raises(UsageError, match=says):
        greedy(tmp_path, **{"k": 2, "table": some_flags(0, 20), "run": sm.Run(run), **settings})
    assert not run.exists()
