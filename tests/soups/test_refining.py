"""Points of a front found by bisection: planted fronts, whose thresholds are known on paper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import soupmerge as sm
from soupmerge.errors import InputError, UsageError
from soupmerge.soups.judge.metrics import Condition
from soupmerge.soups.search.refine import FINEST
from soupmerge.storage.journal import Journal
from soupmerge.weights.front import Front
from tests.shared import Stop, files_of, stop_at
from tests.soups.planted import Planted, asked, benchmark, first, judged, make_ingredients

pytestmark = pytest.mark.usefixtures("unexamined")

N, ROBUST = 2000, "linf:0.1"
Curve = Callable[[float], float]


def falling(share: float) -> float:
    return 0.9 - 0.2 * share


def rising(share: float) -> float:
    return 0.2 + 0.4 * share


def planted(
    home: Path, clean: Curve = falling, robust: Curve = rising, n: int = N
) -> tuple[Planted, sm.Ingredients, Front]:
    """Return a front whose soup at share s is right on these fractions of *n* images."""

    def table(row: tuple[float, ...]) -> Any:
        return np.arange(n) < [[round(n * clean(row[1]))], [round(n * robust(row[1]))]]

    ingredients = make_ingredients(home / "in", 2)
    rows = {"rows": np.eye(2, dtype="float32")[:, None]}  # at share s, (1 − s, s)
    return (
        Planted(2, table),
        ingredients,
        Front(("clean", ROBUST), "affine", rows, sm.Recipe.uniform(ingredients)),
    )


def share_of(trial: Any) -> float:
    share: float = trial.recipe.front["at"][ROBUST]
    return share


def test_bisection_finds_where_a_condition_begins_to_hold(tmp_path: Path) -> None:
    """clean = 0.9 − 0.2 s is 0.81 at s = 0.45, and the other accuracy rises until there."""
    judge = benchmark(N)
    trials = sm.refine(*planted(tmp_path), judge, metric=ROBUST, conditions=["clean>=0.81"])
    assert len(trials) <= 9
    chosen = trials.where("clean>=0.81").best(ROBUST)
    assert abs(share_of(chosen) - 0.45) <= FINEST
    beyond = min(share_of(t) for t in trials if share_of(t) > share_of(chosen))
    assert beyond - share_of(chosen) <= FINEST
    assert [share_of(t) for t in trials] == sorted(share_of(t) for t in trials)


def test_the_other_way_round(tmp_path: Path) -> None:
    """Best clean with 0.2 + 0.4 s ≥ 0.44: from s = 0.6 on."""
    where = f"{ROBUST}>=0.44"
    trials = sm.refine(*planted(tmp_path), benchmark(N), metric="clean", conditions=[where])
    assert abs(share_of(trials.where(where).best("clean")) - 0.6) <= FINEST


def test_an_end_that_meets_the_conditions_needs_no_search(tmp_path: Path) -> None:
    trials = sm.refine(*planted(tmp_path), benchmark(N), metric=ROBUST, conditions=["clean>=0.7"])
    assert [share_of(t) for t in trials] == [0, 1]
    free = sm.refine(*planted(tmp_path), benchmark(N), metric="clean")
    assert [share_of(t) for t in free] == [0, 1]


def test_conditions_that_hold_between_the_ends_alone(tmp_path: Path) -> None:
    """clean ≥ 0.834 up to s = 0.33, and the other ≥ 0.32 from s = 0.3 on."""
    where = ["clean>=0.834", f"{ROBUST}>=0.32"]
    for metric, best in ((ROBUST, 0.33), ("clean", 0.3)):
        trials = sm.refine(*planted(tmp_path), benchmark(N), metric=metric, conditions=where)
        chosen = trials.where(*where).best(metric)
        assert abs(share_of(chosen) - best) <= FINEST
    none = sm.refine(*planted(tmp_path), benchmark(N), conditions=["clean>=0.95"])
    assert not none.where("clean>=0.95")


def test_the_knee_is_found(tmp_path: Path) -> None:
    """On (1 − s³, 1 − (1 − s)²), the height above the chord is 2s − s² − s³: most at 0.549."""
    n, knee = 10_000, (7**0.5 - 1) / 3

    def clean(share: float) -> float:
        return 0.9 - 0.2 * share**3

    def robust(share: float) -> float:
        return 0.6 - 0.4 * (1 - share) ** 2

    front = planted(tmp_path, clean, robust, n)
    trials = sm.refine(*front, benchmark(n, batch_size=n), knee=("clean", ROBUST))
    assert abs(share_of(trials.knee("clean", ROBUST)) - knee) <= FINEST
    assert len(trials) <= 15


def test_points_are_kept_for_other_conditions(tmp_path: Path) -> None:
    """What is judged is journaled, and no image is attacked twice."""
    run, conditions = sm.Run(tmp_path / "run"), (["clean>=0.81"], ["clean>=0.8"], ["clean>=0.85"])
    judges = [benchmark(N) for _ in conditions]
    found = [
        sm.refine(*planted(tmp_path), judge, metric=ROBUST, conditions=each, run=run)
        for judge, each in zip(judges, conditions, strict=True)
    ]
    shares = [{share_of(t) for t in trials} for trials in found]
    assert shares[0] <= shares[1] <= shares[2]
    records = Journal(tmp_path / "run" / "trials.jsonl").records
    assert len(records) == len(shares[2])
    per_point = sum(trial.judged().correct("clean") for trial in found[2])
    assert sum(map(asked, judges)) == per_point  # only images that are right without an attack
    again = benchmark(N)
    sm.refine(*planted(tmp_path), again, metric=ROBUST, conditions=conditions[1], run=run)
    assert asked(again) == 0


@pytest.mark.parametrize(
    "search",
    [
        {"knee": ("clean", ROBUST)},
        {"metric": ROBUST, "conditions": ["clean>=0.8"]},
        {"metric": ROBUST, "conditions": ["clean>=0.85", f"{ROBUST}>=0.5"]},
    ],
)
def test_a_search_that_is_killed_judges_the_same_points(
    tmp_path: Path, search: dict[str, Any]
) -> None:
    """Killed between two points and within a pair of them: what it knows is not what it asked."""

    def clean(share: float) -> float:
        return 0.9 - 0.2 * share**3

    def robust(share: float) -> float:
        return 0.6 - 0.4 * (1 - share) ** 2

    n = 400
    front = planted(tmp_path, clean, robust, n)
    whole = sm.refine(*front, benchmark(n), run=sm.Run(tmp_path / "whole"), **search)
    for killed_at in range(4, 8):
        home = tmp_path / f"killed at {killed_at}"
        run = sm.Run(home, progress=stop_at(killed_at, "soups"))
        with pytest.raises(Stop):
            sm.refine(*front, benchmark(n), run=run, **search)
        found = sm.refine(*front, benchmark(n), run=sm.Run(home), **search)
        assert [t.recipe for t in found] == [t.recipe for t in whole]
        assert files_of(home) == files_of(tmp_path / "whole")


def test_an_accuracy_that_turns_is_warned_of(tmp_path: Path) -> None:
    """By more than noise: clean falls to 0.6 in the middle and rises again."""

    def turning(share: float) -> float:
        return 0.6 + 0.4 * abs(share - 0.5)

    front = planted(tmp_path, turning, rising)
    with pytest.warns(UserWarning, match="clean rises and falls along the front.*eval --at"):
        sm.refine(*front, benchmark(N), metric=ROBUST, conditions=[f"{ROBUST}>=0.4", "clean>=0.9"])


def test_searches_that_cannot_be_meant(tmp_path: Path) -> None:
    net, ingredients, front = planted(tmp_path)
    three = Front(
        ("clean", ROBUST, "l2:0.5"),
        "affine",
        {"rows": np.ones((3, 1, 2), "float32") / 2},
        front.recipe,
    )
    with pytest.raises(UsageError, match="a front of 3 objectives has no single direction"):
        sm.refine(net, ingredients, three, benchmark(N))
    with pytest.raises(UsageError, match=r"--where, --x, --y: no metric 'l2:0.5' is judged"):
        sm.refine(net, ingredients, front, benchmark(N), conditions=["l2:0.5>=0.5"])
    others = sm.Ingredients(ingredients.checkpoints[::-1])
    with pytest.raises(InputError, match="these are not its ingredients"):
        sm.refine(net, others, front, benchmark(N))
    run = sm.Run(tmp_path / "run")
    sm.refine(net, ingredients, front, benchmark(N), run=run)
    bent = Front(
        front.objectives, "affine", {"rows": 0.5 + 0 * three.parameters["rows"][:2]}, front.recipe
    )
    with pytest.raises(UsageError, match="front was"):
        sm.refine(net, ingredients, bent, benchmark(N), run=run)


def test_a_margin_is_what_is_left() -> None:
    report = judged(*first(8, 3, n=10)).judged()
    for text, margin in (("clean>=0.7", 0.1), ("clean<0.7", -0.1), (f"{ROBUST}<=0.4", 0.1)):
        condition = Condition.parse(text)
        assert float(condition.margin(report)) == pytest.approx(margin)
        assert condition.met(report) is (margin > 0)
